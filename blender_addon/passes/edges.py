"""Lines that can be told from the other passes: where surfaces pass through each other, and outlines of what is no mesh.

Where two planes are seen next to each other, the line in which they cut is known to a fraction of a pixel: in the
picture one over their depth is affine (depth itself for parallel rays), and equal on that line. So from the depth and
normals of two neighbouring pixels comes a short piece of the line between them, in its true place.

An outline is known to a pixel only; it is drawn on the pixel of what is in front.
"""

from __future__ import annotations

import numpy as np

from ..bridge.parameters import EdgeStyle
from ..bridge.scene import Camera

STEP = 2.0
"""Neighbours whose tangent planes miss each other by more than this many pixels make a silhouette."""
GRAZING = 0.05
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
    image = np.zeros(depth.shape, np.float32)
    cosine = np.cos(np.radians(style.crease_angle))
    rays, hit = _Rays(camera), depth < np.inf
    height, width = depth.shape
    flat_normal, flat_depth = normal.reshape(-1, 3), depth.reshape(-1)
    flat_id, flat_material = object_id.reshape(-1), material.reshape(-1)
    for axis in (0, 1):
        here, there = _next(depth.shape, axis)
        changed = object_id[here] != object_id[there]
        changed |= np.einsum("ijk,ijk->ij", normal[here], normal[there]) < cosine
        changed &= hit[here] & hit[there]
        if outlines:
            changed |= material[here] != material[there]
            changed |= _rough(depth[here], depth[there])
        if masked is not None:
            changed |= (masked[here] | masked[there]) & _rough(depth[here], depth[there])
        row, column = np.nonzero(changed)
        one = row * width + column
        two = one + (width, 1)[axis]
        pair = _Pairs(rays, one, two, axis, width, flat_depth, flat_normal)
        differ = flat_id[one] != flat_id[two]
        bend = (flat_normal[one] * flat_normal[two]).sum(1) < cosine
        cut = pair.valley & (differ | bend)
        wanted = cut & (style.intersection | (style.border & differ))
        if outlines:
            border = differ | (flat_material[one] != flat_material[two])
            wanted |= (pair.valley | pair.ridge) & ((bend & style.crease) | (border & style.border))
        _stamp(image, *pair.pieces(wanted), HALF, style.width)
        lone = np.zeros(len(one), bool)
        if outlines:
            between = ~(pair.valley | pair.ridge)
            crease = pair.both & ~pair.jump & bend & style.crease
            lone = between & (((pair.jump | pair.outline) & style.silhouette) | (border & style.border) | crease)
        if masked is not None and (style.silhouette or style.border):
            flat_masked = masked.reshape(-1)
            near = np.where(pair.second_is_near, two, one)
            end = pair.jump | pair.outline
            lone |= flat_masked[near] & end & (style.silhouette | (differ & pair.both))
        at = np.where(pair.second_is_near & (pair.jump | pair.outline), two, one)[lone]
        place = np.stack([at % width, at // width], 1) + 0.5
        _stamp(image, place, np.zeros_like(place), 0.0, style.width)
    return np.round(image * 255).astype(np.uint8)


def _next(shape: tuple[int, ...], axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
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

    def __init__(
        self,
        rays: _Rays,
        one: np.ndarray,
        two: np.ndarray,
        axis: int,
        width: int,
        depth: np.ndarray,
        normal: np.ndarray,
    ) -> None:
        self._axis = axis
        self._x, self._y = one % width + 0.5, one // width + 0.5
        step = np.array([[0.0, 1.0], [1.0, 0.0]])[axis]
        z_one, z_two = depth[one].astype(np.float64), depth[two].astype(np.float64)
        hit_one, hit_two = np.isfinite(z_one), np.isfinite(z_two)
        self.both, self.outline = hit_one & hit_two, hit_one ^ hit_two
        self.second_is_near = z_two < z_one
        places = [(self._x, self._y), (self._x + step[0], self._y + step[1]), (self._x + step[1], self._y + step[0])]
        at = [rays(*place) for place in places]
        first = _Plane(at[0], np.where(hit_one, z_one, 1.0), normal[one], rays.camera.orthographic)
        second = _Plane(at[1], np.where(hit_two, z_two, 1.0), normal[two], rays.camera.orthographic)
        # How much nearer the first plane is, at the first pixel, at the second, and at one beside the first.
        here, there, beside = (first.nearness(*ray) - second.nearness(*ray) for ray in at)
        sound = self.both & first.sound & second.sound & np.isfinite(here + there + beside)
        self.valley = sound & (here > 0) & (there < 0)
        self.ridge = sound & (here < 0) & (there > 0)
        self._along, self._across = there - here, beside - here
        with np.errstate(divide="ignore", invalid="ignore"):
            self._share = here / (here - there)
        gap = second.point - first.point
        miss = np.minimum(np.abs((gap * normal[one]).sum(1)), np.abs((gap * normal[two]).sum(1)))
        unit = 2 / abs(rays.camera.projection[0, 0]) / rays.camera.width
        pixel = unit * (1.0 if rays.camera.orthographic else np.maximum(z_one, z_two))
        # A surface that bends stays close to the tangent plane of one of the two, even at a grazing angle; a jump from
        # one surface to another leaves both.
        self.jump = self.both & (miss > STEP * pixel)

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
        self._normal, self._orthographic = normal.astype(np.float64), orthographic
        self.sound = -(self._normal * direction).sum(1) > GRAZING * np.linalg.norm(direction, axis=1)

    def nearness(self, origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """What is affine in the picture and larger for what is nearer: one over depth, or its negative."""
        above = (self._normal * (self.point - origin)).sum(1)
        below = (self._normal * direction).sum(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            nearness: np.ndarray = -above / below if self._orthographic else below / above
        return nearness


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
