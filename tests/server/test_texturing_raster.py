"""UV rasterisation: every texel centre in exactly the triangles that hold it."""

from __future__ import annotations

import numpy as np
import pytest

from paintover.bridge.errors import BadMesh
from paintover.server.texturing import raster
from paintover.server.texturing.raster import UVRaster


def texels(uvs: np.ndarray, size: int) -> np.ndarray:
    """How often each texel is covered, (size, size)."""
    found = [fragments.texel for fragments in UVRaster(uvs.astype(np.float32), size)]
    return np.bincount(np.concatenate(found or [np.zeros(0, int)]), minlength=size * size).reshape(size, size)


def grid(points: np.ndarray) -> np.ndarray:
    """Triangles (T, 3, 2) over a grid of points (n, m, 2)."""
    a, b, c, d = points[:-1, :-1], points[:-1, 1:], points[1:, 1:], points[1:, :-1]
    return np.concatenate([np.stack([a, b, c], -2).reshape(-1, 3, 2), np.stack([a, c, d], -2).reshape(-1, 3, 2)])


SQUARE = np.array([[[0.25, 0.25], [0.75, 0.25], [0.75, 0.75]], [[0.25, 0.25], [0.75, 0.75], [0.25, 0.75]]])


def test_edges_through_texel_centres_give_each_texel_once() -> None:
    size = 32
    place = (np.arange(0, size, 4) + 0.5) / size
    points = np.stack(np.meshgrid(place, place), -1)
    moved = np.random.default_rng(1).integers(-1, 2, points[1:-1, 1:-1].shape) / size
    points[1:-1, 1:-1] += moved
    for triangles in (grid(points), grid(points)[:, ::-1], grid(points)[:, [1, 2, 0]]):
        count = texels(triangles, size)
        assert count.max() == 1
        assert count.sum() == 28 * 28


def test_no_texel_is_lost_between_arbitrary_triangles() -> None:
    points = np.stack(np.meshgrid(*[np.linspace(0, 1, 12)] * 2), -1)
    points[1:-1, 1:-1] += np.random.default_rng(2).uniform(-0.04, 0.04, points[1:-1, 1:-1].shape)
    assert (texels(grid(points), 64) == 1).all()


def test_corner_weights_give_back_the_texel_centre() -> None:
    size = 16
    uvs = np.random.default_rng(3).uniform(0, 1, (20, 3, 2)).astype(np.float32)
    for fragments in UVRaster(uvs, size):
        u, v = np.einsum("fc,fci->if", fragments.barycentric, uvs[fragments.triangle])
        row, column = np.divmod(fragments.texel, size)
        np.testing.assert_allclose(u, (column + 0.5) / size, atol=1e-5)
        np.testing.assert_allclose(v, 1 - (row + 0.5) / size, atol=1e-5)


def test_row_zero_is_the_top() -> None:
    top = np.array([[[0, 1], [1, 1], [0, 0.75]], [[1, 1], [1, 0.75], [0, 0.75]]])
    count = texels(top, 8)
    assert (count[:2] == 1).all()
    assert (count[2:] == 0).all()


def test_a_mirrored_half_covers_its_texels_twice() -> None:
    mirrored = np.concatenate([SQUARE, SQUARE * np.array([-1, 1]) + np.array([1, 0])])
    count = texels(mirrored, 16)
    assert set(np.unique(count)) == {0, 2}
    assert (count == 2).sum() == 64


def test_uvs_wrap_around() -> None:
    inside, moved = texels(SQUARE, 16), SQUARE + np.array([3.0, -2.0])
    np.testing.assert_array_equal(texels(moved, 16), inside)
    across = texels(SQUARE + np.array([0.5, 0.0]), 16)
    np.testing.assert_array_equal(across, np.roll(inside, 8, axis=1))


def test_triangles_without_area_are_skipped() -> None:
    flat = np.array([[[0.1, 0.1], [0.5, 0.5], [0.9, 0.9]], [[0.3, 0.3]] * 3])
    assert texels(flat, 64).sum() == 0


def test_uvs_that_repeat_endlessly_are_refused() -> None:
    with pytest.raises(BadMesh, match="repeats"):
        UVRaster((SQUARE * 1000).astype(np.float32), 64)
    with pytest.raises(BadMesh, match="cover"):
        UVRaster(np.tile(SQUARE * 60, (2, 1, 1)).astype(np.float32), 64)


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    uvs = np.random.default_rng(4).uniform(0, 1, (30, 3, 2))
    whole = texels(uvs, 32)
    monkeypatch.setattr(raster, "CHUNK", 7)
    np.testing.assert_array_equal(texels(uvs, 32), whole)
