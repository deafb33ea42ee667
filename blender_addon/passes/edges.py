"""Lines that are told from the other passes: where surfaces pass through each other, and outlines of what is no mesh.

Where two planes are seen next to each other, the line in which they cut is known to a fraction of a pixel: in the
picture one over their depth is affine (depth itself for parallel rays), and equal on that line. So from the depth and
normals of two neighbouring pixels comes a short piece of the line between them, in its true place.

An outline is known to a pixel only; it is drawn on the pixel of what is in front.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..bridge.parameters import EdgeStyle
from ..bridge.scene import Camera
from .rays import affine_rays, times

STEP = 2.0
"""Neighbours whose tangent planes miss each other by more than this many pixels make a silhouette."""
GRAZING = 0.01
"""Cosine to the eye below which a plane is not continued: a curved surface bends away before the next pixel."""
SIDE = (0.016, 0.011)
"""Pixels by which all lines are moved, so that one that runs exactly between two rows of pixels is more on one."""
ALIKE = 0.5
"""Distance between the normals of neighbouring pixels below which they may be of one surface."""
CONTACT = 4.0
"""Pixels of depth between two surfaces up to which they touch, where they are seen edge-on."""
STAMPED = 1_000_000
"""Pixels looked at at a time."""
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
    image = np.zeros(depth.shape, np.uint8)
    found = _picture(camera, depth, normal, object_id, material, masked, outlines)
    pieces, dots = [], []
    for axis in (0, 1):
        pairs = _Pairs(found, _changed(found, axis, np.cos(np.radians(style.crease_angle))), axis)
        pieces.append(pairs.pieces(_cuts(pairs, found, style)))
        if outlines or masked is not None:
            dots.append(pairs.nearer(_ends(pairs, found, style)))
    places, directions = (np.concatenate(part) for part in zip(*pieces, strict=True))
    _stamp(image, places, directions, HALF, style.width)
    if dots:
        places = np.concatenate(dots)
        _stamp(image, places, np.zeros_like(places), 0.0, style.width)
    return image


@dataclass(frozen=True)
class _Picture:
    """The part of the passes in which something is seen; its pixels are numbered row by row."""

    camera: Camera
    corner: tuple[int, int]
    """Column and row of the camera's picture in which it begins."""
    depth: np.ndarray
    normal: tuple[np.ndarray, np.ndarray, np.ndarray]
    object_id: np.ndarray
    material: np.ndarray
    masked: np.ndarray | None
    outlines: bool

    @property
    def width(self) -> int:
        """Pixels in a row."""
        return self.depth.shape[1]

    def places(self, pixels: np.ndarray) -> np.ndarray:
        """Centres in the camera's picture, float64 (2, n)."""
        row, column = np.divmod(pixels, self.width)
        return np.stack([column + (self.corner[0] + 0.5), row + (self.corner[1] + 0.5)])

    def normals(self, pixels: np.ndarray) -> np.ndarray:
        """float64 (3, n)."""
        return np.stack([one.reshape(-1)[pixels] for one in self.normal]).astype(np.float64)


def _picture(
    camera: Camera,
    depth: np.ndarray,
    normal: np.ndarray,
    object_id: np.ndarray,
    material: np.ndarray,
    masked: np.ndarray | None,
    outlines: bool,
) -> _Picture:
    """All that is seen, and two pixels around it: a pair's neighbours are looked at, too."""
    hit = depth < np.inf
    (top, bottom), (left, right) = (
        (max(0, at[0] - 2), at[-1] + 3) if len(at) else (0, 1)
        for at in (np.flatnonzero(hit.any(1)), np.flatnonzero(hit.any(0)))
    )
    part = slice(top, bottom), slice(left, right)
    # In arrays of their own: numpy is several times slower on what lies four floats apart.
    depth, object_id, material, x, y, z = (
        np.ascontiguousarray(one[part]) for one in (depth, object_id, material, *np.moveaxis(normal, 2, 0))
    )
    masked = masked if masked is None else masked[part]
    return _Picture(camera, (int(left), int(top)), depth, (x, y, z), object_id, material, masked, outlines)


def _changed(found: _Picture, axis: int, alike: float) -> np.ndarray:
    """int (n,): pixels that may be on another surface than the next along the axis. Of one object, normals with a
    cosine above `alike` are of one surface."""
    every = slice(None)
    beginning, end = slice(None, -1), slice(1, None)
    here, there = ((beginning, every), (end, every)) if axis == 0 else ((every, beginning), (every, end))
    depth, (x, y, z), object_id = found.depth, found.normal, found.object_id
    hit = depth < np.inf
    changed = x[here] * x[there]
    for one in (y, z):
        changed += one[here] * one[there]
    changed = changed < alike
    changed |= object_id[here] != object_id[there]
    changed &= hit[here]
    changed &= hit[there]
    if found.outlines:
        changed |= (found.material[here] != found.material[there]) | _rough(depth[here], depth[there])
    if found.masked is not None:
        changed |= (found.masked[here] | found.masked[there]) & _rough(depth[here], depth[there])
    at = np.flatnonzero(changed)
    if axis == 1:
        at += at // max(1, found.width - 1)  # rows are shorter by one
    return at


def _cuts(pairs: _Pairs, found: _Picture, style: EdgeStyle) -> np.ndarray:
    """int (m,): the pairs whose planes cut each other in a line that is wanted."""
    which = np.flatnonzero(pairs.valley | pairs.ridge if found.outlines else pairs.valley)
    differ, chord = pairs.differ(found.object_id, which), pairs.chord(0, 1, which)
    bend = chord > 2 * np.sin(np.radians(style.crease_angle / 2))
    # Where one surface is bent so much that it looks like two, it is bent beside that, too.
    two = differ | (bend & (np.maximum(pairs.chord(-1, 0, which), pairs.chord(1, 2, which)) < chord / 2))
    wanted = pairs.valley[which] & ((two & style.intersection) | (differ & style.border))
    if found.outlines:
        wanted |= bend & style.crease
        wanted |= (differ | pairs.differ(found.material, which)) & style.border
    return which[wanted]


def _ends(pairs: _Pairs, found: _Picture, style: EdgeStyle) -> np.ndarray:
    """bool (n,): pairs between which what is seen ends, with no line between planes."""
    differ = pairs.differ(found.object_id) & pairs.both
    end = pairs.jump | pairs.outline
    ends = np.zeros(len(pairs.one), bool)
    if found.outlines:
        border = differ | (pairs.differ(found.material) & pairs.both)
        bend = pairs.chord(0, 1) > 2 * np.sin(np.radians(style.crease_angle / 2))
        crease = pairs.both & ~pairs.jump & bend & style.crease
        ends |= (end & style.silhouette) | (border & style.border) | crease
        ends &= ~(pairs.valley | pairs.ridge)
    if found.masked is not None:
        ends |= found.masked.reshape(-1)[pairs.near] & end & (style.silhouette | (differ & style.border))
    return ends


def _rough(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Where depths differ by more than a hundredth, or one is background."""
    with np.errstate(invalid="ignore"):
        rough: np.ndarray = ~(np.abs(one - two) <= 0.01 * np.minimum(one, two)) & (np.isfinite(one) | np.isfinite(two))
    return rough


class _Pairs:
    """What lies between neighbouring pixels, each taken for a plane."""

    def __init__(self, found: _Picture, one: np.ndarray, axis: int) -> None:
        """From each pixel of `one` to the next along the axis (0 down, 1 right)."""
        self._found, self._axis, self._step = found, axis, (found.width, 1)[axis]
        self.one, self.two = one, one + self._step
        self._first, self._second = _Planes(found, self.one), _Planes(found, self.two)
        hit_one, hit_two = np.isfinite(self._first.depth), np.isfinite(self._second.depth)
        self.both, self.outline = hit_one & hit_two, hit_one ^ hit_two
        self.near = np.where(self._second.depth < self._first.depth, self.two, self.one)
        # How much nearer the first plane is, as a function of the place; at the first pixel; and at the second.
        self._nearer = self._first.nearness - self._second.nearness
        self._here = _at(self._nearer, self._first.place)
        there = _at(self._nearer, self._second.place)
        depth = np.maximum(self._first.depth, self._second.depth) ** (not found.camera.orthographic)
        self._pixel = depth * 2 / abs(found.camera.projection[0, 0]) / found.camera.width  # in the scene
        sound = self.both & self._first.sound & self._second.sound
        self.valley = sound & (self._here > 0) & (there < 0)
        found_valleys = np.flatnonzero(self.valley)
        self.valley[found_valleys] = ~self._rim(found_valleys)
        self.ridge = sound & (self._here < 0) & (there > 0)

    def _rim(self, which: np.ndarray) -> np.ndarray:
        """Whether one of the two surfaces curves out of sight before it reaches the other pixel, as at the outline of a
        ball. Across the view its normal grows evenly, and would be longer than 1 there."""
        rim = np.zeros(len(which), bool)
        ids, last = self._found.object_id.reshape(-1), self._found.depth.size - 1
        for planes, pixels, step in ((self._first, self.one, -self._step), (self._second, self.two, self._step)):
            here, before = pixels[which], np.clip(pixels[which] + step, 0, last)
            sight, normal, normal_before = planes.sight[:, which], *map(self._found.normals, (here, before))
            one, other = (n - (n * sight).sum(0) * sight for n in (normal, normal_before))
            reach, now = (np.sqrt((v * v).sum(0)) for v in (2 * one - other, one))
            alike = (ids[here] == ids[before]) & (((normal - normal_before) ** 2).sum(0) < ALIKE**2)
            rim |= alike & (reach > 0.98) & (reach > now + 0.01)
        gap = np.abs(self._first.depth - self._second.depth)[which]
        return rim & (gap > CONTACT * self._pixel[which])

    @cached_property
    def jump(self) -> np.ndarray:
        """bool (n,): whether there are two surfaces, one before the other. One that bends stays close to the tangent
        plane of one of the two, even at a grazing angle; a jump leaves both."""
        miss = np.minimum(self._first.distance(self._second), self._second.distance(self._first))
        jump: np.ndarray = self.both & (miss > STEP * self._pixel)
        return jump

    def differ(self, values: np.ndarray, which: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Whether the two have different values."""
        differ: np.ndarray = values.reshape(-1)[self.one[which]] != values.reshape(-1)[self.two[which]]
        return differ

    def chord(self, start: int, end: int, which: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Distance between the unit normals of two of the pixels in line with the pair, which are 0 and 1."""
        last = self._found.depth.size - 1
        a, b = (self._found.normals(np.clip(self.one[which] + n * self._step, 0, last)) for n in (start, end))
        return np.sqrt(((a - b) ** 2).sum(0))

    def pieces(self, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of the lines in which the planes cut: places between the pixels, and directions, each float64 (n, 2)."""
        _, by_x, by_y = self._nearer[:, which]
        place = self._first.place[:, which].T + SIDE
        place[:, 1 - self._axis] -= self._here[which] / (by_x, by_y)[1 - self._axis]
        direction = np.stack([-by_y, by_x], 1)
        return place, direction / np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-300)

    def nearer(self, which: np.ndarray) -> np.ndarray:
        """Centres of the pixels that an end is drawn on, float64 (n, 2): where neither is in front, the first, since a
        rule that asked would make a saw of the line."""
        at = np.where(self.jump | self.outline, self.near, self.one)[which]
        return self._found.places(at).T


class _Planes:
    """The tangent planes of what is seen at some pixels."""

    def __init__(self, found: _Picture, pixels: np.ndarray) -> None:
        camera = found.camera
        self.depth = found.depth.reshape(-1)[pixels].astype(np.float64)
        self.place = found.places(pixels)
        x, y, z = found.normals(pixels)
        rays = affine_rays(times(np.diag([1.0, -1.0, 1.0, 1.0]), camera.projection), camera.width, camera.height)
        # The normals' products with directions and origins of rays, as functions of the place.
        self._along, self._start = (np.stack([x * a + y * b for a, b in part]) for part in rays)
        self._along[0] -= z
        along = _at(self._along, self.place)
        # Not as a product of matrices (see rays.times).
        across = np.stack([_at(rays[0, :, axis], self.place) for axis in (0, 1)])
        length = np.sqrt(1 + (across**2).sum(0))
        self.sight = np.stack([*across, -np.ones(len(pixels))]) / length
        self.sound = along < -GRAZING * length
        with np.errstate(divide="ignore", invalid="ignore"):
            self._offset = _at(self._start, self.place) + self.depth * along
            if camera.orthographic:
                self.nearness = self._start / self._along[0]
                self.nearness[0] -= self._offset / self._along[0]
            else:
                self.nearness = self._along / self._offset
        """float64 (3, n): what is affine in the picture and larger for what is nearer, one over the planes' depth or
        its negative: a constant, and what a pixel to the right and one down add."""

    def distance(self, others: _Planes) -> np.ndarray:
        """How far the others' points are from these planes."""
        with np.errstate(invalid="ignore"):
            there = _at(self._start, others.place) + others.depth * _at(self._along, others.place)
            distance: np.ndarray = np.abs(there - self._offset)
        return distance


def _at(function: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Values of affine functions (3, n) at places (2, n)."""
    with np.errstate(invalid="ignore"):
        value: np.ndarray = function[0] + function[1] * place[0] + function[2] * place[1]
    return value


def _stamp(image: np.ndarray, place: np.ndarray, direction: np.ndarray, half: float, width: float) -> None:
    """Draw short pieces of lines, of half their length to both sides of places (n, 2) in pixels; where there is no
    direction (n, 2), dots. A pixel gets the share of it that is covered; where pieces overlap, the largest."""
    reach = int(np.ceil(width / 2 + 0.7))
    grid = np.arange(-reach, reach + 1)
    step = max(1, STAMPED // grid.size**2)
    for first in range(0, len(place), step):
        part = slice(first, first + step)
        (x, y), (u, v) = place[part].T[..., None, None], direction[part].T[..., None, None]
        column, row = np.floor(x).astype(np.intp) + grid[:, None], np.floor(y).astype(np.intp) + grid
        off_x, off_y = column + 0.5 - x, row + 0.5 - y
        along = np.clip(off_x * u + off_y * v, -half, half)
        off_x, off_y = np.abs(off_x - along * u), np.abs(off_y - along * v)
        far = np.sqrt(off_x * off_x + off_y * off_y)
        # The normal of the line, or where a pixel's centre is on it, any that is as good.
        share = np.where(far > 1e-3, np.maximum(off_x, off_y) / np.maximum(far, 1e-3), np.maximum(abs(u), abs(v)))
        share[share < 0.7] = 1.0  # a dot's centre
        coverage = _below(width / 2 - far, share) + _below(width / 2 + far, share) - 1
        inside = (coverage > 0) & (column >= 0) & (column < image.shape[1]) & (row >= 0) & (row < image.shape[0])
        at = np.broadcast_to(row, inside.shape)[inside], np.broadcast_to(column, inside.shape)[inside]
        np.maximum.at(image, at, np.round(coverage[inside] * 255).astype(np.uint8))


def _below(t: np.ndarray, large: np.ndarray) -> np.ndarray:
    """Share of a pixel that lies below a line: t is its distance, `large` the larger component of its unit normal."""
    small = np.sqrt(np.maximum(1 - large * large, 0))
    outer = (large + small) / 2
    side = np.minimum(np.abs(t), outer)
    curved = (outer - side) ** 2 / (2 * large * np.maximum(small, 1e-4))
    tail = np.where(side > (large - small) / 2, curved, 0.5 - side / large)
    below: np.ndarray = np.where(t > 0, 1 - tail, tail).astype(np.float32)
    return below
