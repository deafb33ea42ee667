"""Baking: a known texture survives the way through views and back, and the rest is filled sensibly."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from paintover.bridge.errors import BadMesh, OutsideCameras
from paintover.bridge.scene import Passes
from paintover.server.texturing.bake import bake
from paintover.server.texturing.fill import fill_outside, fill_unseen
from paintover.server.texturing.gather import PaintedView

from . import quads, sphere
from .quads import Quad

FRONT = Quad((-0.8, -0.4, 0.0), (0.7, 0.0, 0.0), (0.0, 0.8, 0.0))
BESIDE = Quad((0.1, -0.4, 0.0), (0.7, 0.0, 0.0), (0.0, 0.8, 0.0))
WHOLE = (0.0, 0.0, 1.0, 1.0)


def waves(points: np.ndarray) -> np.ndarray:
    return (0.5 + 0.3 * np.sin(4 * points) * np.cos(3 * np.roll(points, 1, -1))).astype(np.float32)


def of_sphere(azimuths: tuple[int, ...], size: int = 192) -> list[PaintedView]:
    views = []
    for i, azimuth in enumerate(azimuths):
        seen: Passes = sphere.passes(sphere.camera(azimuth, 30 if i % 2 else -30, size))
        points = np.nan_to_num(seen.camera.unproject(seen.depth))
        image = np.where(np.isfinite(seen.depth)[..., None], waves(points), np.float32(1))
        views.append(PaintedView.of(seen, image))
    return views


def sphere_texels(size: int) -> np.ndarray:
    """The sphere's point (size, size, 3) at every texel centre."""
    place = (np.arange(size) + 0.5) / size
    turn, height = 2 * np.pi * place[None, :], np.pi * (0.5 - place[:, None])
    return np.stack(
        np.broadcast_arrays(np.cos(height) * np.cos(turn), np.cos(height) * np.sin(turn), np.sin(height)), -1
    )


def solid(scene: list[Quad], *shades: float) -> PaintedView:
    camera = quads.camera()
    image = quads.picture(scene, camera, lambda i, a, _: np.full((len(a), 3), shades[i]))
    return PaintedView.of(quads.passes(scene, camera), image)


def test_a_known_texture_comes_back() -> None:
    texture = bake(sphere.mesh(), of_sphere((0, 60, 120, 180, 240, 300)), 256)
    error = ((texture.image - waves(sphere_texels(256))) ** 2).mean(-1)[texture.painted]
    assert texture.report.coverage > 0.985
    assert texture.report.visible > 0.95 * texture.report.inside
    assert -10 * np.log10(np.sort(error)[: int(0.99 * len(error))].mean()) > 50
    assert -10 * np.log10(error.mean()) > 45


def test_unseen_texels_go_on_from_what_is_painted() -> None:
    texture = bake(sphere.mesh(), of_sphere((0,)), 128)
    assert 0.2 < texture.painted.mean() < 0.5
    assert texture.report.coverage > 0.95
    filled = ~texture.painted
    assert np.isfinite(texture.image).all()
    low, high = texture.image[texture.painted].min(0), texture.image[texture.painted].max(0)
    assert (texture.image[filled] >= low - 1e-4).all()
    assert (texture.image[filled] <= high + 1e-4).all()
    # No step where the fill begins: neighbours on both sides of the rim are alike.
    rim = texture.painted[:, 1:] != texture.painted[:, :-1]
    assert np.abs(np.diff(texture.image, axis=1))[rim].mean() < 0.05


def test_fill_prefers_the_same_orientation() -> None:
    place = np.linspace(0.02, 1, 50)
    zero = np.zeros_like(place)
    floor, wall = np.stack([place, zero, zero], -1), np.stack([zero, zero, place + 0.5], -1)
    points = np.concatenate([floor, wall]).astype(np.float32)
    normals = np.repeat([[0, 0, 1], [1, 0, 0]], 50, axis=0).astype(np.float32)
    colors = np.repeat([[0.0], [1.0]], 50, axis=0).astype(np.float32)
    low_on_the_wall = np.array([[0.0, 0.0, 0.3]], np.float32)
    filled = fill_unseen(points, normals, colors, low_on_the_wall, np.array([[1, 0, 0]], np.float32))
    assert filled[0, 0] > 0.8
    filled = fill_unseen(points, normals, colors, low_on_the_wall, np.array([[0, 0, 1]], np.float32))
    assert filled[0, 0] < 0.1


def test_the_space_between_islands_has_the_nearest_islands_colour() -> None:
    texture = bake(
        quads.mesh([FRONT, BESIDE], [(0.1, 0.1, 0.4, 0.9), (0.6, 0.1, 0.9, 0.9)]),
        [solid([FRONT, BESIDE], 0.2, 0.9)],
        64,
    )
    np.testing.assert_allclose(texture.image[:, :31], 0.2, atol=0.02)
    np.testing.assert_allclose(texture.image[:, 33:], 0.9, atol=0.02)
    assert not texture.painted[:, 29:35].any()
    image, inside = np.zeros((4, 4, 1), np.float32), np.zeros((4, 4), bool)
    image[1, 1], inside[1, 1] = 0.7, True
    assert (fill_outside(image, inside) == np.float32(0.7)).all()


def test_copies_that_share_texels_are_averaged_and_reported() -> None:
    both = quads.mesh([FRONT, BESIDE], [WHOLE, (1.0, 0.0, 0.0, 1.0)])
    texture = bake(both, [solid([FRONT, BESIDE], 0.2, 0.6)], 32)
    assert texture.report.shared == texture.report.inside == 32 * 32
    np.testing.assert_allclose(texture.image[8:-8, 8:-8], 0.4, atol=0.01)
    separate = bake(quads.mesh([FRONT], [WHOLE]), [solid([FRONT], 0.2)], 32)
    assert separate.report.shared == 0


def test_a_copy_that_is_hidden_takes_the_paint_of_the_other() -> None:
    lid = dataclasses.replace(
        FRONT, corner=(-0.85, -0.45, 0.1), across=(0.8, 0.0, 0.0), along=(0.0, 0.9, 0.0), object_id=2
    )
    texture = bake(quads.mesh([FRONT, BESIDE], [WHOLE, WHOLE]), [solid([FRONT, BESIDE, lid], 0.2, 0.6, 1.0)], 32)
    np.testing.assert_allclose(texture.image, 0.6, atol=0.01)


def test_an_object_of_wires_is_painted_although_all_of_it_is_edge() -> None:
    wire = Quad((-0.8, 0.0, 0.0), (1.6, 0.0, 0.0), (0.0, 0.05, 0.0))
    texture = bake(quads.mesh([wire], [WHOLE]), [solid([wire], 0.3)], 16)
    assert texture.report.coverage == 1.0
    assert np.abs(texture.image[6:10, 4:-4] - 0.3).max() < 0.2


def test_what_wraps_is_painted_and_what_has_no_area_is_left_out() -> None:
    mesh = quads.mesh([FRONT, BESIDE], [(1.0, 0.0, 2.0, 1.0), (0.2, 0.2, 0.2, 0.2)])
    texture = bake(mesh, [solid([FRONT], 0.2)], 16)
    assert texture.report.inside == 16 * 16
    np.testing.assert_allclose(texture.image, 0.2, atol=0.01)


def test_eight_bits() -> None:
    texture = bake(quads.mesh([FRONT], [WHOLE]), [solid([FRONT], 0.2)], 16)
    assert texture.to_uint8().dtype == np.uint8
    assert np.abs(texture.to_uint8().astype(int) - 51).max() <= 1


def test_meshes_that_cannot_be_baked_say_why() -> None:
    view, good = solid([FRONT], 0.2), quads.mesh([FRONT], [WHOLE])
    broken = dataclasses.replace(good, positions=good.positions.copy())
    broken.positions[2, 1] = np.nan
    with pytest.raises(BadMesh, match="NaN"):
        bake(broken, [view], 16)
    empty = quads.mesh([FRONT], [WHOLE])
    fields = {name: getattr(empty, name)[:0] for name in ("triangles", "normals", "uvs", "materials")}
    with pytest.raises(BadMesh, match="no faces"):
        bake(dataclasses.replace(empty, **fields), [view], 16)
    away = quads.mesh([dataclasses.replace(FRONT, corner=(50.0, 0.0, 0.0))], [WHOLE])
    with pytest.raises(OutsideCameras, match="Quads"):
        bake(away, [view], 16)
    with pytest.raises(OutsideCameras):
        bake(good, [], 16)
