"""Which edges of a mesh are lines: some from everywhere, some as contours that depend on where the camera is.

A contour is an edge between a triangle that faces the camera and one that does not. It is the outline of the triangles
that are drawn, at any resolution (DeCarlo et al. 2003, section 2, call it the silhouette of the mesh). The zero set of
interpolated normals (Hertzmann and Zorin 2000) is smoother, but lies inside that outline, where depth and ids show no
border.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..bridge.parameters import EdgeStyle
from .instances import Group, Stage
from .materials import Look
from .wire import NOTHING, Wire

PLAIN, BOUNDARY, CONTOUR = 0, 1, 2
"""Lines that are seen wherever they are not hidden; that end a surface; that end what is seen of one."""
MASKED = 4
"""Added for surfaces that a picture says are not everywhere."""
HOLDOUT_LINE = 8
"""Added for what hides things and is not seen itself."""
FLAT = 1e-7
"""Triangles whose normals' cosine is this close to 1 lie in one plane, and have no contour between them."""
BATCH = 4_000_000
"""Triangles looked at at a time."""


@dataclass(frozen=True, eq=False)
class Lines:
    """Line segments."""

    ends: np.ndarray
    """float32 (K, 2, 3)."""
    kind: np.ndarray
    """float32 (K,)."""


@dataclass(frozen=True, eq=False)
class Features:
    """The lines of one mesh under some materials."""

    fixed: Lines
    """In the object's space: those seen from everywhere. None where faces are culled."""
    planes: np.ndarray
    """float32 (4, F): of the triangles beside other edges; positive on their front."""
    culled: np.ndarray | None
    """bool (F,): triangles that are seen from their front only, if any is."""
    ends: np.ndarray
    """float32 (C, 2, 3): the edges that may be contours."""
    faces: np.ndarray
    """int32 (2, C): of planes; NOTHING where there is none."""
    folded: np.ndarray
    """bool (C,)."""
    kind: np.ndarray
    """float32 (C,): MASKED or not."""
    always: np.ndarray
    """bool (C,): lines from everywhere, if their triangles are seen."""

    def _reduced(self) -> Features:
        """Without the planes that no edge here has, where those are many."""
        if 2 * self.faces.shape[1] > self.planes.shape[1]:
            return self
        used = np.zeros(self.planes.shape[1], bool)
        used[self.faces[self.faces != NOTHING]] = True
        number = np.cumsum(used) - 1
        return replace(
            self,
            planes=self.planes[:, used],
            culled=None if self.culled is None else self.culled[used],
            faces=np.where(self.faces == NOTHING, NOTHING, number[self.faces]).astype(np.int32),
        )

    def seen_from(self, eyes: np.ndarray) -> Iterator[tuple[np.ndarray, Lines]]:
        """From each of eyes, float64 (N, 4) in the object's space (homogeneous): rows of eyes, and the line of each."""
        if not len(self.ends):
            return
        step = max(1, BATCH // self.planes.shape[1])
        for first in range(0, len(eyes), step):
            # einsum stays in this thread (see rays.times).
            front = np.einsum("nk,kf->nf", eyes[first : first + step].astype(np.float32), self.planes) > 0
            row, edge, kind = self._contours(front) if self.culled is None else self._not_culled(front)
            yield row + first, Lines(self.ends[edge], kind + self.kind[edge])

    def _contours(self, front: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        found = front[:, self.faces[0]] != front[:, self.faces[1]]
        if self.folded.any():
            found ^= self.folded
        row, edge = np.divmod(np.flatnonzero(found), found.shape[1])
        return row, edge, np.full(len(row), CONTOUR, np.float32)

    def _not_culled(self, front: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same where some triangles are not there when seen from behind."""
        one, other = self.faces
        there = front | ~self.culled
        seen, seen_other = there[:, one], there[:, other] & (other != NOTHING)
        contour = seen & seen_other & (front[:, one] ^ front[:, other] ^ self.folded)
        lone = seen ^ seen_other
        row, edge = np.nonzero(contour | lone | (self.always & (seen | seen_other)))
        kind = np.where(lone[row, edge], BOUNDARY, np.where(self.always[edge], PLAIN, CONTOUR))
        return row, edge, kind.astype(np.float32)


def find(wire: Wire, looks: Mapping[int, Look], style: EdgeStyle) -> Features:
    """The lines of a mesh whose material slots look like `looks`."""
    edges = wire.topology
    planes = _planes(wire)
    hidden, masked, culled = (_of_faces(wire, looks, what) for what in ("hidden", "mask", "culled"))
    one, other = edges.faces.T
    if hidden.any():
        one, other = (np.where((side == NOTHING) | hidden[side], NOTHING, side) for side in (one, other))
        one, other = np.where(one == NOTHING, other, one), np.where(one == NOTHING, NOTHING, other)
    there, both = one != NOTHING, other != NOTHING
    cosine = sum(planes[axis, one] * planes[axis, other] for axis in range(3)) * np.where(edges.folded, -1, 1)
    always = edges.marked.copy() if style.mark else np.zeros(len(one), bool)
    if style.crease:
        always |= edges.several | (both & edges.bent & (cosine < np.cos(np.radians(style.crease_angle))))
    if style.border and len({look.number for look in looks.values()}) > 1:
        numbers = _of_faces(wire, looks, "number")
        always |= both & (numbers[one] != numbers[other])
    outlines = style.silhouette or style.border
    if culled.any():
        fixed, moving = np.zeros(len(one), bool), there & (outlines | always)
    else:
        fixed = there & (always | (~both & outlines))
        moving = there & both & ~always & (cosine < 1 - FLAT) & outlines
    kind = np.zeros(len(one), np.float32)
    if masked.any():
        kind[masked[one] & (masked[other] | ~both)] = MASKED
    boundary = np.where(~both[fixed] & outlines, BOUNDARY, PLAIN)
    return Features(
        fixed=Lines(wire.positions[edges.ends[fixed]], kind[fixed] + boundary.astype(np.float32)),
        planes=planes,
        culled=culled if culled.any() else None,
        ends=wire.positions[edges.ends[moving]],
        faces=np.stack([one[moving], other[moving]]),
        folded=edges.folded[moving],
        kind=kind[moving],
        always=always[moving],
    )._reduced()


def _planes(wire: Wire) -> np.ndarray:
    """float32 (4, T): unit normal, and offset from the origin; 0 where a triangle has no area."""
    x, y, z = np.ascontiguousarray(wire.positions.T)  # numpy is much faster on one number after another
    a, b, c = np.ascontiguousarray(wire.triangles.T)
    p, q, r = x[a], y[a], z[a]
    bx, by, bz = x[b] - p, y[b] - q, z[b] - r
    cx, cy, cz = x[c] - p, y[c] - q, z[c] - r
    planes = np.empty((4, len(a)), np.float32)
    planes[0], planes[1], planes[2] = by * cz - bz * cy, bz * cx - bx * cz, bx * cy - by * cx
    length = np.sqrt(planes[0] ** 2 + planes[1] ** 2 + planes[2] ** 2)
    planes[:3] /= np.where(length > 0, length, 1)
    planes[3] = -(planes[0] * p + planes[1] * q + planes[2] * r)
    return planes


def _of_faces(wire: Wire, looks: Mapping[int, Look], what: str) -> np.ndarray:
    """A property of the look of every triangle's material, as a number or whether it has it."""
    values = {slot: getattr(look, what) for slot, look in looks.items()}
    values = {slot: value if isinstance(value, int) else value is not None for slot, value in values.items()}
    dtype = np.int64 if what == "number" else bool
    if wire.slots is None:
        return np.full(len(wire.corners), values.get(0, 0), dtype)
    table = np.zeros(max(values, default=0) + 1, dtype)
    for slot, value in values.items():
        table[slot] = value
    found: np.ndarray = table[wire.slots]
    return found


def looks_of(group: Group) -> dict[int, Look]:
    """Material slot -> look."""
    return {slot: look for (slot, _, _), look in zip(group.geometry.parts, group.looks, strict=True)}


def contours(stage: Stage, features: list[Features], in_view: np.ndarray, orthographic: bool) -> Lines:
    """All lines that depend on the camera, in its space. in_view: float64 (N, 4, 4), local to camera, of every row of
    the stage; `features` are those of its groups."""
    found = [Lines(np.empty((0, 2, 3), np.float32), np.empty(0, np.float32))]
    for group, one in zip(stage.groups, features, strict=True):
        if not len(one.ends):
            continue
        matrices, rows = in_view[group.rows], group.rows
        eyes = _eyes(matrices, orthographic)
        for row, lines in one.seen_from(eyes):
            matrix = matrices[row, :3].astype(np.float32)
            ends = np.einsum("kij,kej->kei", matrix[:, :, :3], lines.ends) + matrix[:, None, :, 3]
            held_out = np.where(stage.ids[rows[row]] < 0, HOLDOUT_LINE, 0).astype(np.float32)
            found.append(Lines(ends, lines.kind + held_out))
    return Lines(np.concatenate([one.ends for one in found]), np.concatenate([one.kind for one in found]))


def _eyes(in_view: np.ndarray, orthographic: bool) -> np.ndarray:
    """float64 (N, 4): the camera's place, or the direction to it, in the spaces that these matrices lead from.

    By cofactors, without dividing: of any length, of the right sign, and sound for what is scaled to nothing."""
    x, y, z = in_view[:, 0, :3], in_view[:, 1, :3], in_view[:, 2, :3]
    columns = np.stack([np.cross(y, z), np.cross(z, x), np.cross(x, y)], 2)
    size = (columns[:, :, 0] * x).sum(1)
    if orthographic:
        eyes = np.concatenate([columns[:, :, 2], np.zeros((len(size), 1))], 1)
    else:
        eyes = np.concatenate([-np.einsum("nij,nj->ni", columns, in_view[:, :3, 3]), size[:, None]], 1)
    eyes *= np.where(size < 0, -1, 1)[:, None]
    largest = np.abs(eyes).max(1, keepdims=True)
    normalised: np.ndarray = eyes / np.where(largest > 0, largest, 1)
    return normalised
