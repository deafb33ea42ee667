"""Which texels a mesh's triangles cover in UV space: scanline rasterisation into fragments, in bounded chunks.

Texel (row i, column j) has its centre at u = (j + 0.5) / size, v = 1 − (i + 0.5) / size. A fragment is a texel centre
inside a triangle. Spans are half open and a shared edge meets a row at the same float for both of its triangles, so a
centre that lies exactly on it belongs to exactly one of them, and no centre between them is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paintover.bridge.errors import BadMesh

CHUNK = 1 << 17
"""Fragments in a chunk, about: small enough for the processor's cache, large enough for a GPU."""
MAX_TILES = 64
MAX_LAYERS = 512


@dataclass(frozen=True, eq=False)
class Fragments:
    """Texel centres inside triangles. A texel that several triangles cover comes once for each."""

    texel: NDArray[np.int64]
    """(F,): row * size + column."""
    triangle: NDArray[np.int64]
    """(F,): index of the triangle."""
    barycentric: NDArray[np.float32]
    """(F, 3): weights of the triangle's corners, ≥ 0, sum 1."""


class UVRaster:
    """Rasterises the UVs of a mesh; iterate to get its Fragments.

    UVs outside 0…1 wrap around, as Blender's image texture repeats; UDIM tiles are not supported.
    Triangles without area in UV space cannot show a texture, and are skipped.
    """

    def __init__(self, uvs: NDArray[np.float32], size: int, name: str = "mesh") -> None:
        """`uvs`: (T, 3, 2), v up; `size`: texels on a side.

        Raises BadMesh for a triangle that spans more than 64 tiles, or UVs that cover the image more than 512 times.
        """
        self.size = size
        x = uvs[..., 0].astype(np.float64) * size
        y = (1.0 - uvs[..., 1].astype(np.float64)) * size
        self._x, self._y = x, y
        self._second = x[:, 1] - x[:, 0], y[:, 1] - y[:, 0]
        self._third = x[:, 2] - x[:, 0], y[:, 2] - y[:, 0]
        # Twice the signed area in texels.
        self._area = self._second[0] * self._third[1] - self._third[0] * self._second[1]
        self._edges = [_edge(x, y, a, b) for a, b in ((0, 1), (1, 2), (2, 0))]
        self._flat = np.abs(self._area) < 1e-6
        if len(uvs) and max(np.ptp(x, axis=1).max(), np.ptp(y, axis=1).max()) > MAX_TILES * size:
            raise BadMesh(name=name, reason=f"a face repeats the texture more than {MAX_TILES} times")
        if np.abs(self._area).sum() / 2 > MAX_LAYERS * size * size:
            raise BadMesh(name=name, reason=f"its UVs cover the texture more than {MAX_LAYERS} times")

    def __iter__(self) -> Iterator[Fragments]:
        first = np.ceil(self._y.min(1) - 0.5)
        rows = np.where(self._flat, 0, np.ceil(self._y.max(1) - 0.5) - first).astype(np.int64)
        for group in _groups(rows):
            triangle, step = _expand(rows[group])
            triangle += group.start
            yield from self._fill(triangle, first[triangle] + step)

    def _fill(self, triangle: NDArray[np.int64], row: NDArray[np.float64]) -> Iterator[Fragments]:
        """The fragments of the spans where triangles (K,) meet rows (K,)."""
        left, right = self._crossings(triangle, row + 0.5)
        start = np.ceil(left - 0.5)
        length = (np.ceil(right - 0.5) - start).astype(np.int64)
        for group in _groups(length):
            span, step = _expand(length[group])
            span += group.start
            yield self._fragments(triangle[span], row[span], start[span] + step)

    def _crossings(
        self, triangle: NDArray[np.int64], height: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where the triangles' outlines cross the horizontal lines at `height` (K,): leftmost and rightmost x."""
        left, right = np.full(len(triangle), np.inf), np.full(len(triangle), -np.inf)
        for x0, y0, y1, slope in self._edges:
            top = y0[triangle]
            x = x0[triangle] + (height - top) * slope[triangle]
            crossed = (top <= height) & (height < y1[triangle])
            left = np.where(crossed, np.minimum(left, x), left)
            right = np.where(crossed, np.maximum(right, x), right)
        return left, right

    def _fragments(
        self, triangle: NDArray[np.int64], row: NDArray[np.float64], column: NDArray[np.float64]
    ) -> Fragments:
        dx = column + 0.5 - self._x[triangle, 0]
        dy = row + 0.5 - self._y[triangle, 0]
        inverse = 1.0 / self._area[triangle]
        second = (dx * self._third[1][triangle] - dy * self._third[0][triangle]) * inverse
        third = (dy * self._second[0][triangle] - dx * self._second[1][triangle]) * inverse
        # A sliver's corner weights can leave 0…1 by rounding, which would throw its points far away.
        weights = np.stack([1.0 - second - third, second, third], axis=1).clip(0.0, 1.0)
        weights /= weights.sum(1, keepdims=True)
        texel = (row.astype(np.int64) % self.size) * self.size + column.astype(np.int64) % self.size
        return Fragments(texel, triangle, weights.astype(np.float32))


def _edge(x: NDArray[np.float64], y: NDArray[np.float64], a: int, b: int) -> tuple[NDArray[np.float64], ...]:
    """The edges from corners a to b: upper end x and y, lower end y, and change of x with y (0 if level), each (T,).

    Always from the upper end, whichever way the triangle runs, so that both neighbours of an edge get the same floats.
    """
    flip = y[:, a] > y[:, b]
    x0, x1 = np.where(flip, x[:, b], x[:, a]), np.where(flip, x[:, a], x[:, b])
    y0, y1 = np.where(flip, y[:, b], y[:, a]), np.where(flip, y[:, a], y[:, b])
    return x0, y0, y1, np.divide(x1 - x0, y1 - y0, out=np.zeros_like(x0), where=y1 > y0)


def _groups(counts: NDArray[np.int64]) -> Iterator[slice]:
    """Cut a list into runs whose counts sum to about CHUNK (more only where a single item has more)."""
    total = np.cumsum(counts)
    start = 0
    while start < len(counts):
        done = total[start - 1] if start else 0
        stop = max(int(np.searchsorted(total, done + CHUNK, side="right")), start + 1)
        if total[stop - 1] > done:
            yield slice(start, stop)
        start = stop


def _expand(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For counts (2, 3): the items (0, 0, 1, 1, 1) and the steps inside each (0, 1, 0, 1, 2)."""
    item = np.repeat(np.arange(len(counts)), counts)
    step = np.arange(len(item)) - np.repeat(np.cumsum(counts) - counts, counts)
    return item, step
