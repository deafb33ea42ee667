"""Projection: the right colour at the right point, and none where a view does not see it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from paintover.bridge.errors import BadPasses
from paintover.server.texturing.gather import Gathered, PaintedView, catmull_rom, gather

from . import quads
from .quads import Quad

WALL = Quad((-0.8, -0.8, 0.0), (1.6, 0.0, 0.0), (0.0, 1.6, 0.0))
RED, BLUE = np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0])


def waves(_: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.stack([0.5 + 0.4 * np.sin(9 * a), 0.5 + 0.4 * np.cos(8 * b), 0.5 + 0.4 * np.sin(5 * a + 6 * b)], -1)


def solid(index: int, a: np.ndarray, _: np.ndarray) -> np.ndarray:
    return np.broadcast_to((RED, BLUE)[index], (len(a), 3))


def painted(scene: list[Quad], camera: Any, color: Any = waves) -> PaintedView:
    return PaintedView.of(quads.passes(scene, camera), quads.picture(scene, camera, color))


def at(quad: Quad, a: np.ndarray, b: np.ndarray, views: list[PaintedView], **options: Any) -> Gathered:
    points = torch.from_numpy(quad.points(a, b).astype(np.float32))
    normals = torch.from_numpy(np.broadcast_to(quad.normal, points.shape).astype(np.float32))
    return gather(points, normals, views, **options)


def places(low: float = 0.0, high: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.random.default_rng(5).uniform(low, high, (2, 4000))
    return a, b


@pytest.mark.parametrize("ortho", [False, True])
@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_colours_come_back_through_every_kind_of_camera(ortho: bool, shift: float) -> None:
    tilted = Quad((-0.5, -0.5, -0.4), (1.0, 0.0, 0.8), (0.0, 1.0, 0.0))
    a, b = places(0.1, 0.9)
    found = at(tilted, a, b, [painted([tilted], quads.camera(ortho=ortho, shift=shift))])
    assert (found.facing > 0).float().mean() > 0.9
    assert float(found.facing.std()) < (1e-5 if ortho else 0.1)
    error = np.abs(found.color.numpy() - waves(0, a, b))[found.facing.numpy() > 0]
    assert error.max() < 0.01


def test_a_scene_far_from_the_origin_is_projected_as_well() -> None:
    far = Quad((999.2, -0.8, 2000.0), (1.6, 0.0, 0.0), (0.0, 1.6, 0.0))
    a, b = places(0.1, 0.9)
    found = at(far, a, b, [painted([far], quads.camera(at=(1000.0, 0.0, 2004.0)))])
    assert (found.facing > 0).all()
    assert np.abs(found.color.numpy() - waves(0, a, b)).max() < 0.02


def test_paint_neither_goes_through_an_occluder_nor_bleeds_around_it() -> None:
    before = Quad((-0.3, -0.3, 0.5), (0.6, 0.0, 0.0), (0.0, 0.6, 0.0))
    view = painted([WALL, before], quads.camera(), solid)
    a, b = places()
    found = at(WALL, a, b, [view])
    behind = (np.abs(WALL.points(a, b)[:, :2]) < 0.3).all(1)
    assert not (found.weight.numpy()[behind] > 0).any()
    clear = found.facing.numpy() > 0
    assert clear.mean() > 0.6
    assert np.abs(found.color.numpy()[clear] - RED).max() < 0.01, "the occluder's blue or the white background bled in"
    on_top = at(before, a, b, [view])
    clear = on_top.facing.numpy() > 0
    assert clear.mean() > 0.7
    assert np.abs(on_top.color.numpy()[clear] - BLUE).max() < 0.01


def test_objects_that_touch_do_not_share_paint() -> None:
    left = Quad((-0.8, -0.8, 0.0), (0.8, 0.0, 0.0), (0.0, 1.6, 0.0), 1)
    right = Quad((0.0, -0.8, 0.0), (0.8, 0.0, 0.0), (0.0, 1.6, 0.0), 2)
    view = painted([left, right], quads.camera(), solid)
    a, b = places()
    found = at(left, a, b, [view], object_id=1)
    clear = found.facing.numpy() > 0
    assert clear.mean() > 0.8
    assert np.abs(found.color.numpy()[clear] - RED).max() < 0.01
    assert not (at(right, a, b, [view], object_id=1).weight > 0).any()


@pytest.mark.parametrize(("degrees", "seen"), [(74.0, True), (76.0, False)])
def test_grazing_surfaces_are_not_painted(degrees: float, seen: bool) -> None:
    angle = math.radians(degrees)
    steep = Quad(
        (-0.5 * math.cos(angle), -0.5, 0.5 * math.sin(angle)), (math.cos(angle), 0, -math.sin(angle)), (0, 1, 0)
    )
    found = at(steep, *places(0.3, 0.7), [painted([steep], quads.camera(256, ortho=True))])
    assert bool((found.weight > 0).all()) == seen
    assert bool((found.weight > 0).any()) == seen


def test_the_view_that_faces_the_surface_wins_by_the_power_of_its_cosine() -> None:
    front, side = quads.camera(ortho=True), quads.camera(ortho=True)
    angle = math.radians(50)
    side.view[:3, :3] = [[math.cos(angle), 0, -math.sin(angle)], [0, 1, 0], [math.sin(angle), 0, math.cos(angle)]]
    views = [painted([WALL], front, solid), painted([WALL], side, lambda _, a, b: solid(1, a, b))]
    a, b = places(0.4, 0.6)
    found = at(WALL, a, b, views, sharpness=2.0)
    share = 1 / (1 + math.cos(angle) ** 2)
    np.testing.assert_allclose(found.color.numpy(), np.tile([share, 0, 1 - share], (len(a), 1)), atol=2e-3)
    np.testing.assert_allclose(found.facing.numpy(), 1.0, atol=1e-5)


def test_what_is_thinner_than_the_erosion_is_painted_as_a_last_resort() -> None:
    wire = Quad((-0.8, 0.0, 0.0), (1.6, 0.0, 0.0), (0.0, 0.04, 0.0))
    found = at(wire, *places(0.2, 0.8), [painted([wire], quads.camera(), solid)])
    assert (found.weight > 0).float().mean() > 0.9
    assert not (found.facing > 0).any()


def test_a_surface_seen_from_behind_is_painted() -> None:
    flipped = Quad((0.8, -0.8, 0.0), (-1.6, 0.0, 0.0), (0.0, 1.6, 0.0))
    assert (at(flipped, *places(0.1, 0.9), [painted([flipped], quads.camera())]).facing > 0.9).all()


def test_the_picture_may_be_larger_than_the_passes() -> None:
    small, large = quads.camera(64), quads.camera(256)
    view = PaintedView.of(quads.passes([WALL], small), quads.picture([WALL], large, waves))
    a, b = places(0.2, 0.8)
    assert np.abs(at(WALL, a, b, [view]).color.numpy() - waves(0, a, b)).max() < 0.005


def test_points_outside_every_view_have_no_colour() -> None:
    beside = Quad((5.0, 5.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
    behind = Quad((-0.8, -0.8, 8.0), (1.6, 0.0, 0.0), (0.0, 1.6, 0.0))
    view = painted([WALL], quads.camera())
    for quad in (beside, behind):
        found = at(quad, *places(), [view])
        assert not found.weight.any()
        assert not found.color.any()
    assert not at(WALL, *places(), []).weight.any()


def test_bytes_and_floats_mean_the_same() -> None:
    seen, image = quads.passes([WALL], quads.camera(32)), np.full((32, 32, 3), 51, np.uint8)
    for picture in (image, np.full((32, 32, 3), 0.2, np.float32)):
        found = at(WALL, *places(0.3, 0.7), [PaintedView.of(seen, picture)])
        np.testing.assert_allclose(found.color.numpy(), 0.2, atol=1e-5)


def test_cubic_sampling_is_exact_on_parabolas_and_at_pixel_centres() -> None:
    x, y = np.meshgrid(np.arange(12) + 0.5, np.arange(10) + 0.5)
    image = torch.from_numpy((0.3 + x**2 - 2 * x * y + y**2)[..., None].astype(np.float32))
    px, py = torch.from_numpy(np.random.default_rng(6).uniform(3, 7, (2, 50)).astype(np.float32))
    expected = 0.3 + px**2 - 2 * px * py + py**2
    torch.testing.assert_close(catmull_rom(image, px, py)[:, 0], expected, atol=1e-4, rtol=1e-5)
    corner = torch.tensor([0.5]), torch.tensor([0.5])
    torch.testing.assert_close(catmull_rom(image, *corner)[:, 0], image[0, 0])


def test_passes_with_nan_are_refused() -> None:
    seen = quads.passes([WALL], quads.camera(16))
    seen.depth[3, 3] = np.nan
    with pytest.raises(BadPasses, match="NaN"):
        PaintedView.of(seen, np.zeros((16, 16, 3), np.uint8))
