"""The edges of an evaluated mesh, and the triangles on both sides of each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import bpy
import numpy as np

SAME = np.cos(np.radians(1.0))
"""Normals that differ by less than 1° are one: the shading passes over the edge."""
NOTHING = -1
"""Stands for the triangle that an edge has not."""


@dataclass(frozen=True, eq=False)
class Topology:
    """Edges of triangles, each once; those that split a polygon into triangles too."""

    ends: np.ndarray
    """int32 (E, 2): vertices."""
    faces: np.ndarray
    """int32 (E, 2): triangles; the second is NOTHING at the border of an open mesh."""
    bent: np.ndarray
    """bool (E,): whether the shading breaks there, as between flat faces."""
    several: np.ndarray
    """bool (E,): whether more than two triangles meet there, of which faces has two."""
    folded: np.ndarray
    """bool (E,): whether its two triangles run around it the same way, one of them inside out."""
    marked: np.ndarray
    """bool (E,): marked for Freestyle."""


@dataclass(frozen=True, eq=False)
class Wire:
    """A mesh as it was read; its edges are found when they are asked for first."""

    positions: np.ndarray
    """float32 (V, 3)."""
    corner_vertices: np.ndarray
    """int32 (L,)."""
    corner_edges: np.ndarray
    """int32 (L,)."""
    polygon_starts: np.ndarray
    """int32 (P,): the first corner of each polygon."""
    corners: np.ndarray
    """int32 (T, 3): corners of the triangles."""
    slots: np.ndarray | None
    """int32 (T,): material slots; None if all are 0."""
    normals: np.ndarray
    """float32, of corners (L, 3) or, where each vertex has but one, of vertices (V, 3)."""
    of_corners: bool
    marks: np.ndarray | None
    """bool (number of the mesh's edges,)."""

    @cached_property
    def triangles(self) -> np.ndarray:
        """int32 (T, 3): vertices."""
        return self.corner_vertices[self.corners]

    @cached_property
    def topology(self) -> Topology:
        """The edges. A few milliseconds per 100,000 triangles."""
        edge = _edge_of_sides(self)
        count = np.bincount(edge, minlength=1)
        side = np.arange(edge.size, dtype=np.int32)
        first, last = np.empty(len(count), np.int32), np.empty(len(count), np.int32)
        first[edge[::-1]], last[edge] = side[::-1], side  # of several values the last one stays
        first, last = first[count > 0], last[count > 0]
        marked = np.zeros(len(count), bool)
        if self.marks is not None:
            size = min(len(self.marks), len(count))
            marked[:size] = self.marks[:size]
        marked, count = marked[count > 0], count[count > 0]
        first, last, count, marked = _weld(self, first, last, count, marked)
        return self._topology(first, last, count, marked)

    def _topology(self, first: np.ndarray, last: np.ndarray, count: np.ndarray, marked: np.ndarray) -> Topology:
        """From the numbers (3 · triangle + corner) of the first and the last side of every edge."""
        start, end = _ends_of_sides(self.corners)
        from_vertex, to_vertex = self.corner_vertices[start], self.corner_vertices[end]
        a, b, c, d = from_vertex[first], to_vertex[first], from_vertex[last], to_vertex[last]
        folded = (count > 1) & (a == c)
        split = np.flatnonzero((count > 1) & (a != c) & (a != d))  # vertices of their own, in one place
        folded[split] = (self.positions[a[split]] == self.positions[c[split]]).all(1)
        bent = np.zeros(len(first), bool)
        asked = np.flatnonzero(count > 1) if self.of_corners else split  # others share their normals
        one, other, turned = first[asked], last[asked], ~folded[asked]
        for here, there in (
            (start[one], np.where(turned, end[other], start[other])),
            (end[one], np.where(turned, start[other], end[other])),
        ):
            bent[asked] |= (self._normal(here) * self._normal(there)).sum(1) < SAME
        faces = np.stack([first // 3, np.where(count > 1, last // 3, NOTHING)], 1).astype(np.int32)
        return Topology(np.stack([a, b], 1), faces, bent, count > 2, folded, marked)

    def _normal(self, corners: np.ndarray) -> np.ndarray:
        normal: np.ndarray = self.normals[corners if self.of_corners else self.corner_vertices[corners]]
        return normal


def read_marks(mesh: bpy.types.Mesh) -> np.ndarray | None:
    """bool (edges,): what is marked for Freestyle, or None where nothing is."""
    marks = np.zeros(len(mesh.edges), bool)
    if "freestyle_edge" in mesh.attributes:  # 5.0 and later
        mesh.attributes["freestyle_edge"].data.foreach_get("value", marks)
    elif len(marks) and hasattr(mesh.edges[0], "use_freestyle_mark"):
        mesh.edges.foreach_get("use_freestyle_mark", marks)
    return marks if marks.any() else None


def _ends_of_sides(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int32 (3 T,): corners in which the triangles' sides start and end."""
    return corners.reshape(-1), corners[:, (1, 2, 0)].reshape(-1)


def _edge_of_sides(wire: Wire) -> np.ndarray:
    """int (3 T,): a number for the edge of every side of a triangle: the mesh's, and behind them those inside
    polygons."""
    corners, count = wire.corners, len(wire.corner_vertices)
    follow = np.arange(1, count + 1, dtype=np.int32)
    follow[np.append(wire.polygon_starts[1:], count) - 1] = wire.polygon_starts
    start, end = _ends_of_sides(corners)
    edge: np.ndarray = wire.corner_edges[start].astype(np.int64)
    inner = np.flatnonzero(follow[start] != end)
    if inner.size:
        a, b = start[inner].astype(np.int64), end[inner]
        key = np.minimum(a, b) * count + np.maximum(a, b)
        order = np.argsort(key, kind="stable")  # polygon by polygon it is nearly in order already
        number = np.cumsum(np.diff(key[order], prepend=-1) != 0)
        edge[inner[order]] = int(wire.corner_edges.max()) + number
    return edge


def _weld(
    wire: Wire, first: np.ndarray, last: np.ndarray, count: np.ndarray, marked: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Borders that lie on each other are one edge: meshes that were split, or came that way from other programs, have
    no seams."""
    lone = np.flatnonzero(count == 1)
    if len(lone) < 2:
        return first, last, count, marked
    start, end = (corners[first[lone]] for corners in _ends_of_sides(wire.corners))
    points = wire.positions[wire.corner_vertices[np.concatenate([start, end])]] + np.float32(0)  # no −0
    order = np.lexsort(points.T)
    number = np.empty(len(points), np.int64)
    number[order] = np.cumsum(np.append(0, (points[order][1:] != points[order][:-1]).any(1)))
    a, b = number.reshape(2, -1)
    key = np.minimum(a, b) * len(points) + np.maximum(a, b)
    order = np.argsort(key, kind="stable")
    new = np.diff(key[order], prepend=-1) != 0
    size = np.bincount(np.cumsum(new) - 1)
    at = np.flatnonzero(new)[size == 2]  # exactly two
    one, other = lone[order[at]], lone[order[at + 1]]
    last[one], count[one], marked[one] = first[other], 2, marked[one] | marked[other]
    keep = np.ones(len(first), bool)
    keep[other] = False
    return first[keep], last[keep], count[keep], marked[keep]
