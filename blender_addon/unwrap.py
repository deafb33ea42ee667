"""UVs for a mesh that has none, free of Blender: faces that look the same way are projected together, piece by piece.

Blender's own operator for that (Smart UV Project) needs Edit Mode, and a context of its own so as not to disturb the
artist's. But while an operator runs under `temp_override`, Blender with Python 3.11 looks up what is overridden without
holding Python's lock whenever another thread holds it: it crashes within seconds where threads are busy.

The idea is that operator's: directions of projection that are at most a limit angle away from every face; connected
faces of one direction are an island; islands are turned to their smallest rectangle and packed by skyline (Jylänki, A
Thousand Ways to Pack the Bin, 2010).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LIMIT = np.radians(66)
"""The most that a face is turned away from the direction from which it is projected."""
ROUNDS = 4
"""Of taking over the neighbours' direction: fewer and smoother islands on noisy surfaces."""
TURNS = 12
"""Angles within a right angle that are tried for an island's smallest rectangle."""
GAP = 0.01
"""Between islands, of the image's side; narrower where there are many."""
SINGLE = 400
"""So many of the largest islands are packed one by one; the small rest in rows."""


@dataclass(frozen=True)
class Surface:
    """A mesh's faces: corners of a face follow each other."""

    positions: np.ndarray  # float (V, 3)
    starts: np.ndarray  # int (F,): first corner of every face
    vertices: np.ndarray  # int (L,): of every corner
    edges: np.ndarray  # int (L,): from every corner to the next one of its face

    def unwrap(self) -> np.ndarray:
        """UVs of every corner in the unit square, float32 (2 · L,). Every part has a place of its own, in proportion to
        its area as it is projected. Corners that are not numbers lie at the origin."""
        points = np.nan_to_num(self.positions[self.vertices].astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        sizes = np.diff(self.starts, append=len(self.vertices))
        face_of = np.repeat(np.arange(len(self.starts)), sizes)
        normals = _normals(points, self.starts, sizes)
        pairs = self._neighbours(face_of)
        directions, group = _grouped(normals, pairs)
        island = _connected(len(self.starts), pairs[:, group[pairs[0]] == group[pairs[1]]])[face_of]
        across, up = _axes(directions)
        flat = np.stack([np.einsum("ij,ij->i", points, axis[group][face_of]) for axis in (across, up)], 1)
        return _packed(flat, island, self._next(sizes)).astype(np.float32).reshape(-1)

    def _neighbours(self, face_of: np.ndarray) -> np.ndarray:
        """int (2, P): pairs of faces that share an edge."""
        order = np.argsort(self.edges, kind="stable")
        shared = np.flatnonzero(np.diff(self.edges[order]) == 0)
        return np.stack([face_of[order[shared]], face_of[order[shared + 1]]])

    def _next(self, sizes: np.ndarray) -> np.ndarray:
        """int (L,): the corner that follows each in its face."""
        following = np.arange(1, len(self.vertices) + 1)
        following[self.starts + sizes - 1] = self.starts
        return following


def _normals(points: np.ndarray, starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Newell's normals, float (F, 3), as long as the faces are large."""
    following = np.arange(1, len(points) + 1)
    following[starts + sizes - 1] = starts
    origin = np.repeat(points[starts], sizes, 0)
    return np.add.reduceat(np.cross(points - origin, points[following] - origin), starts) / 2


def _grouped(normals: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Directions of projection, float (K, 3), and the one of every face, int (F,)."""
    area = np.linalg.norm(normals, axis=1)
    unit = normals / np.maximum(area, 1e-30)[:, None]
    counts = area > 1e-12 * max(float(area.max()), 1e-30)  # what has no area has no direction of its own
    directions: list[np.ndarray] = []
    facing: list[np.ndarray] = []
    best = np.where(counts, -2.0, 1.0)
    first = int(area.argmax())
    while not directions or best[first] < np.cos(LIMIT):
        near = counts & (unit @ unit[first] > np.cos(LIMIT / 2)) & (best < np.cos(LIMIT / 2))
        total = normals[near].sum(0)
        length = float(np.linalg.norm(total))
        directions.append(total / length if length > 0 else np.array((0.0, 0.0, 1.0)))
        facing.append(unit @ directions[-1])
        best = np.maximum(best, np.where(counts, facing[-1], 1.0))
        first = int(best.argmin())
    towards = np.stack(facing, 1)
    group = towards.argmax(1)
    allowed = (towards > np.cos(LIMIT)) | ~counts[:, None]
    for _ in range(ROUNDS if len(directions) > 1 else 0):
        group = _as_most_around(group, allowed, pairs)
    return np.stack(directions), group


def _as_most_around(group: np.ndarray, allowed: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Every face's group after it has joined that of most of its neighbours, where it may."""
    count, kinds = allowed.shape
    votes = np.zeros(count * kinds, np.float32)
    for one, other in (pairs, pairs[::-1]):
        votes += np.bincount(one * kinds + group[other], minlength=count * kinds)
    votes = votes.reshape(count, kinds)
    votes[np.arange(count), group] += 0.5  # a tie changes nothing
    votes[~allowed] = -1
    return votes.argmax(1)


def _connected(count: int, pairs: np.ndarray) -> np.ndarray:
    """int (count,): numbers from 0 of what hangs together by the pairs (2, P)."""
    label = np.arange(count)
    while True:
        low = np.minimum(label[pairs[0]], label[pairs[1]])
        before = label.copy()
        for side in pairs:
            np.minimum.at(label, before[side], low)
        while True:  # to the label's own label
            shorter = label[label]
            if (shorter == label).all():
                break
            label = shorter
        if (label == before).all():
            return np.unique(label, return_inverse=True)[1].reshape(-1)


def _axes(directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two axes at right angles to each direction and to each other, so that what faces us is not mirrored."""
    helper = np.where(np.abs(directions[:, 2:]) < 0.9, (0.0, 0.0, 1.0), (0.0, 1.0, 0.0))
    across = np.cross(helper, directions)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    return across, np.cross(directions, across)


def _packed(flat: np.ndarray, island: np.ndarray, following: np.ndarray) -> np.ndarray:
    """The islands' corners (L, 2) beside each other in the unit square."""
    order = np.argsort(island, kind="stable")
    first = np.flatnonzero(np.diff(island[order], prepend=-1))
    flat = _turned(flat, island, order, first, _longest_edges(flat, island, following))
    low, high = np.minimum.reduceat(flat[order], first), np.maximum.reduceat(flat[order], first)
    lying = (high - low)[:, 0] > (high - low)[:, 1]  # all stand upright: rows of even height waste least
    turn = lying[island]
    flat[turn] = flat[turn][:, ::-1] * (-1, 1)
    low[lying], high[lying] = (
        np.stack([-high[lying, 1], low[lying, 0]], 1),
        np.stack([-low[lying, 1], high[lying, 0]], 1),
    )
    places, side, gap = _arranged(high - low)
    return np.clip((flat - low[island] + places[island] + gap / 2) / side, 0.0, 1.0)


def _longest_edges(flat: np.ndarray, island: np.ndarray, following: np.ndarray) -> np.ndarray:
    """float (I,): the angle of every island's longest edge."""
    along = flat[following] - flat
    order = np.lexsort((np.einsum("ij,ij->i", along, along), island))
    last = np.flatnonzero(np.diff(island[order], append=island[order[-1]] + 1))
    longest = along[order[last]]
    return np.arctan2(longest[:, 1], longest[:, 0])


def _turned(flat: np.ndarray, island: np.ndarray, order: np.ndarray, first: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Islands in their smallest rectangle, among those along their longest edge and `TURNS` around it."""
    smallest, best = np.full(len(base), np.inf), base
    for angle in np.arange(TURNS) * (np.pi / 2 / TURNS):
        moved = _rotated(flat, (base + angle)[island])[order]
        size = np.maximum.reduceat(moved, first) - np.minimum.reduceat(moved, first)
        area = size.prod(1)
        better = area < smallest * (1 - 1e-6)
        smallest, best = np.where(better, area, smallest), np.where(better, base + angle, best)
    return _rotated(flat, best[island])


def _rotated(flat: np.ndarray, angle: np.ndarray) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([flat[:, 0] * cos + flat[:, 1] * sin, flat[:, 1] * cos - flat[:, 0] * sin], 1)


# ------------------------------------------------------------ packing


def _arranged(sizes: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Lower left corners of rectangles (n, 2) in a square, its side, and the gap between them that counts as theirs."""
    order = np.lexsort((-sizes[:, 0], -sizes[:, 1]))
    area = max(float(sizes.prod(1).sum()), 1e-30)
    share = min(GAP, 0.2 / np.sqrt(len(sizes)))
    low = max(float(np.sqrt(area)), float(sizes.max())) or 1.0
    high, found = low, None
    while found is None:
        high *= 1.2
        found = _fitted(sizes[order], high, share * high)
    for _ in range(8):
        middle = (low + high) / 2
        if (better := _fitted(sizes[order], middle, share * middle)) is None:
            low = middle
        else:
            high, found = middle, better
    places = np.empty_like(sizes)
    places[order] = found
    return places, high, share * high


def _fitted(sizes: np.ndarray, side: float, gap: float) -> np.ndarray | None:
    """Lower left corners of rectangles, the highest first, in a square of that side; None if they do not fit."""
    sizes = sizes + gap
    large, small = sizes[:SINGLE], sizes[SINGLE:]
    length = max(side / 4, float(small[:, 0].max())) if len(small) else 0.0
    row, offset = _rows(small, length)
    heights = np.maximum.reduceat(small[:, 1], np.flatnonzero(np.diff(row, prepend=-1))) if len(small) else []
    skyline, places = [(0.0, 0.0, side)], []  # x, height, width
    for width, height in [*large.tolist(), *((length, height) for height in heights)]:
        place = _lowest(skyline, width, height, side)
        if place is None:
            return None
        places.append(place)
        _raise(skyline, place[0], place[1] + height, width)
    found = np.array(places).reshape(-1, 2)
    if len(small):
        found = np.concatenate([found[: len(large)], found[len(large) :][row] + np.stack([offset, 0 * offset], 1)])
    return found


def _rows(sizes: np.ndarray, length: float) -> tuple[np.ndarray, np.ndarray]:
    """Rectangles one behind the other in rows of a length: int (n,) row and float (n,) place in it."""
    row, offset = np.zeros(len(sizes), np.intp), np.zeros(len(sizes))
    number, end = 0, 0.0
    for index, width in enumerate(sizes[:, 0].tolist()):
        if end + width > length and end > 0:
            number, end = number + 1, 0.0
        row[index], offset[index] = number, end
        end += width
    return row, offset


def _lowest(
    skyline: list[tuple[float, float, float]], width: float, height: float, side: float
) -> tuple[float, float] | None:
    """Where a rectangle lies lowest on the skyline, leftmost of those; None if it would stand out of the square."""
    best: tuple[float, float] | None = None
    for index, (x, _, _) in enumerate(skyline):
        if x + width > side * (1 + 1e-9):
            break
        level, left = 0.0, width
        for _, high, wide in skyline[index:]:
            level = max(level, high)
            left -= wide
            if left <= 1e-9 * side or (best and level >= best[1]):
                break
        if level + height <= side * (1 + 1e-9) and (best is None or level < best[1]):
            best = x, level
    return best


def _raise(skyline: list[tuple[float, float, float]], x: float, height: float, width: float) -> None:
    """Put a rectangle's top into the skyline."""
    end, after = x + width, []
    for at, high, wide in skyline:
        if at + wide <= x or at >= end:
            after.append((at, high, wide))
            continue
        if at < x:
            after.append((at, high, x - at))
        if at + wide > end:
            after.append((end, high, at + wide - end))
    after.append((x, height, width))
    after.sort()
    skyline[:] = after
