"""Lines that can be told from the other passes: where surfaces pass through each other, and outlines of what is no mesh.

Where two planes are seen next to each other, the line in which they cut is known to a fraction of a pixel: in the
picture one over their depth is affine (depth itself for parallel rays), and equal on that line. So from the depth and
normals of two neighbouring pixels comes a short piece of the line between them, in its true place.

An outline is known to a pixel only; it is drawn on the pixel of what is in front.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..bridge.parameters import EdgeStyle
from ..bridge.scene import Camera

STEP = 2.0
"""Neighbours whose tangent planes miss each other by more than this many pixels make a silhouette."""
GRAZING = 0.01
"""Cosine to the eye below which a plane is not continued: a curved surface bends away before the next pixel."""
HALF = 0.75
"""Half the length of a piece of an intersection, in pixels: longer than to the next one."""


def find_edges(
    camera: Camera,
    depth: np.ndarray,
    normal: np.ndarray,
    object_id: np.ndarray,
    material: np.ndarray,
    style: EdgeStyle,
    *,
    outlines: bool = False,
    masked: np.ndarray | None = None,
) -> np.ndarray:
    """uint8 (H, W), 255 on lines, from passes of the same size: depth (H, W), camera-space normal (H, W, 3), ids.

    Intersections, and the outlines of pixels that are `masked` (bool (H, W)). With `outlines` also all that a mesh's
    own edges would give: silhouettes, creases and borders, but no marks.
    """
    # In arrays of their own: numpy is several times slower on what lies four floats apart.
    depth, object_id, material, x, y, z = map(
        np.ascontiguousarray, (depth, object_id, material, *np.moveaxis(normal, 2, 0))
    )
    image, hit = np.zeros(depth.shape, np.float32), depth < np.inf
    found = _Picture(camera, depth, normal.reshape(-1, 3), object_id, material, masked)
    for axis in (0, 1):
        here, there = _next(axis)
        changed = object_id[here] != object_id[there]
        changed |= x[here] * x[there] + y[here] * y[there] + z[here] * z[there] < np.cos(np.radians(style.crease_angle))
        changed &= hit[here] & hit[there]
        if outlines:
            changed |= (material[here] != material[there]) | _rough(depth[here], depth[there])
        if masked is not None:
            changed |= (masked[here] | masked[there]) & _rough(depth[here], depth[there])
        at = np.flatnonzero(changed)
        row, column = np.divmod(at, changed.shape[1])
        pairs = _Pairs(found, row * camera.width + column, axis)
        cuts, ends = _chosen(pairs, found, style, outlines)
        _stamp(image, *pairs.pieces(cuts), HALF, style.width)
        place = pairs.nearer(ends)
        _stamp(image, place, np.zeros_like(place), 0.0, style.width)
    return np.round(image * 255).astype(np.uint8)


@dataclass(frozen=True)
class _Picture:
    """The passes, as pixels row by row."""

    camera: Camera
    depth: np.ndarray
    normal: np.ndarray
    object_id: np.ndarray
    material: np.ndarray
    masked: np.ndarray | None


def _chosen(pairs: _Pairs, found: _Picture, style: EdgeStyle, outlines: bool) -> tuple[np.ndarray, np.ndarray]:
    """bool (n,) each: pairs between which planes cut each other in a line that is wanted, and those between which a
    surface ends in one."""
    one, two = pairs.one, pairs.two
    differ = found.object_id.flat[one] != found.object_id.flat[two]
    chord = pairs.chord(0, 1)
    bend = chord > 2 * np.sin(np.radians(style.crease_angle / 2))
    # Where one surface is bent so much that it looks like two, it is bent beside that, too.
    pass_through = differ | (bend & (np.maximum(pairs.chord(-1, 0), pairs.chord(1, 2)) < chord / 2))
    cuts = pairs.valley & ((pass_through & style.intersection) | (differ & style.border))
    ends = np.zeros(len(one), bool)
    end, planes = pairs.jump | pairs.outline, pairs.valley | pairs.ridge
    if outlines:
        border = differ | (found.material.flat[one] != found.material.flat[two])
        cuts |= planes & ((bend & style.crease) | (border & style.border))
        crease = pairs.both & ~pairs.jump & bend & style.crease
        ends = ~planes & ((end & style.silhouette) | (border & pairs.both & style.border) | crease)
    if found.masked is not None:
        ends |= found.masked.flat[pairs.near] & end & (style.silhouette | (differ & pairs.both & style.border))
    return cuts, ends


def _next(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """All pixels but the last, and all but the first, along an axis."""
    every = slice(None)
    first, second = slice(None, -1), slice(1, None)
    return ((first, every), (second, every)) if axis == 0 else ((every, first), (every, second))


def _rough(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Where depths differ by more than a hundredth, or one is background."""
    with np.errstate(invalid="ignore"):
        rough: np.ndarray = ~(np.abs(one - two) <= 0.01 * np.minimum(one, two)) & (np.isfinite(one) | np.isfinite(two))
    return rough


class _Rays:
    """Rays in camera space, origin + depth · direction, of any place in the picture (x right, y down, in pixels)."""

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        (a, b), (c, d) = camera.projection[:2, :2]
        self._axes = np.array([[d, -c], [-b, a]]) / (a * d - b * c)  # transposed

    def __call__(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Origins and directions, each float64 (n, 3)."""
        p = self.camera.projection
        ndc = np.stack([x / self.camera.width * 2 - 1, 1 - y / self.camera.height * 2], 1)
        origin = np.zeros((len(x), 3))
        direction = -np.ones((len(x), 3))
        origin[:, :2] = (ndc * p[3, 3] - p[:2, 3]) @ self._axes
        direction[:, :2] = (ndc * -p[3, 2] + p[:2, 2]) @ self._axes
        return origin, direction


class _Pairs:
    """What lies between neighbouring pixels, each taken for a plane. Pixels are numbered row by row."""

    def __init__(self, found: _Picture, one: np.ndarray, axis: int) -> None:
        """From each pixel of `one` to the next along the axis (0 down, 1 right)."""
        rays, width = _Rays(found.camera), found.camera.width
        self._found, self._axis, self._step = found, axis, (width, 1)[axis]
        self.one, self.two = one, one + self._step
        self._x, self._y = one % width + 0.5, one // width + 0.5
        step = ((0, 1), (1, 0))[axis]
        z_one, z_two = (found.depth.flat[pixel].astype(np.float64) for pixel in (self.one, self.two))
        hit_one, hit_two = np.isfinite(z_one), np.isfinite(z_two)
        self.both, self.outline = hit_one & hit_two, hit_one ^ hit_two
        self.near = np.where(z_two < z_one, self.two, self.one)
        places = [(self._x, self._y), (self._x + step[0], self._y + step[1]), (self._x + step[1], self._y + step[0])]
        at = [rays(*place) for place in places]
        parallel = found.camera.orthographic
        first = _Plane(at[0], np.where(hit_one, z_one, 1.0), found.normal[self.one], parallel)
        second = _Plane(at[1], np.where(hit_two, z_two, 1.0), found.normal[self.two], parallel)
        # How much nearer the first plane is, at the first pixel, at the second, and at one beside the first.
        here, there, beside = (first.nearness(*ray) - second.nearness(*ray) for ray in at)
        sound = self.both & first.sound & second.sound & np.isfinite(here + there + beside)
        self.valley = sound & (here > 0) & (there < 0)
        self.ridge = sound & (here < 0) & (there > 0)
        self._along, self._across = there - here, beside - here
        with np.errstate(divide="ignore", invalid="ignore"):
            self._share = here / (here - there)
        gap = second.point - first.point
        miss = np.minimum(np.abs(_dot(gap, first.normal)), np.abs(_dot(gap, second.normal)))
        pixel = 2 / abs(found.camera.projection[0, 0]) / width * (1.0 if parallel else np.maximum(z_one, z_two))
        # A surface that bends stays close to the tangent plane of one of the two, even at a grazing angle; a jump from
        # one surface to another leaves both.
        self.jump = self.both & (miss > STEP * pixel)

    def chord(self, start: int, end: int) -> np.ndarray:
        """Distance between the unit normals of two of the pixels in line with the pair, which are 0 and 1."""
        last = self._found.depth.size - 1
        a, b = (self._found.normal[np.clip(self.one + n * self._step, 0, last)] for n in (start, end))
        return np.sqrt(((a - b) ** 2).sum(1))

    def nearer(self, which: np.ndarray) -> np.ndarray:
        """Centres of the pixels that an end is drawn on, float64 (n, 2): where neither is in front, the first, since a
        rule that asked would make a saw of the line."""
        at = np.where(self.jump | self.outline, self.near, self.one)[which]
        return np.stack([at % self._found.camera.width, at // self._found.camera.width], 1) + 0.5

    def pieces(self, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of the lines in which the planes cut: places between the pixels, and directions, each float64 (n, 2)."""
        share = self._share[which]
        place = np.stack([self._x[which], self._y[which]], 1)
        place[:, 1 - self._axis] += share
        direction = np.stack([self._across[which], -self._along[which]], 1)  # in axis order: along it, across it
        direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-300)
        return place, direction if self._axis == 1 else direction[:, ::-1]


class _Plane:
    """Tangent planes of surfaces that were hit."""

    def __init__(
        self, ray: tuple[np.ndarray, np.ndarray], depth: np.ndarray, normal: np.ndarray, orthographic: bool
    ) -> None:
        origin, direction = ray
        self.point = origin + depth[:, None] * direction
        self.normal, self._orthographic = normal.astype(np.float64), orthographic
        self.sound = -_dot(self.normal, direction) > GRAZING * np.linalg.norm(direction, axis=1)

    def nearness(self, origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """What is affine in the picture and larger for what is nearer: one over depth, or its negative."""
        above = _dot(self.normal, self.point - origin)
        below = _dot(self.normal, direction)
        with np.errstate(divide="ignore", invalid="ignore"):
            nearness: np.ndarray = -above / below if self._orthographic else below / above
        return nearness


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[:, 0] * b[:, 0] + a[:, 1] * b[:, 1] + a[:, 2] * b[:, 2]


def _stamp(image: np.ndarray, place: np.ndarray, direction: np.ndarray, half: float, width: float) -> None:
    """Draw short pieces of lines, anti-aliased: the largest coverage stays. Places (n, 2) in pixels."""
    if not len(place):
        return
    height, length = image.shape
    corner = np.floor(place).astype(np.intp)
    reach = int(np.ceil(width / 2 + 0.5))
    for y in range(-reach, reach + 1):
        for x in range(-reach, reach + 1):
            pixel = corner + (x, y)
            offset = pixel + 0.5 - place
            along = np.clip((offset * direction).sum(1), -half, half)
            far = np.linalg.norm(offset - along[:, None] * direction, axis=1)
            coverage = np.clip(width / 2 + 0.5 - far, 0, 1).astype(np.float32)
            inside = (coverage > 0) & (pixel >= 0).all(1) & (pixel < (length, height)).all(1)
            np.maximum.at(image, (pixel[inside, 1], pixel[inside, 0]), coverage[inside])
