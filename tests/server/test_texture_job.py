"""The texture job, one view after the other: what is asked of the engine, what is kept, what comes out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from paintover.bridge.errors import Cancelled, OutsideCameras
from paintover.bridge.messages import Generate, Texture, TextureResult
from paintover.bridge.parameters import Settings
from paintover.server.engine import Monitor, Painting
from paintover.server.texturing.gather import PaintedView
from paintover.server.texturing.job import paint_textures
from paintover.server.texturing.known import known_in_view, order_of_views
from paintover.server.texturing.view import View
from paintover.server.worker_messages import Run, ViewDone

from . import sphere

SETTINGS = Settings(seed=10, texture_size=128, method="sequential")
AROUND = [sphere.camera(azimuth) for azimuth in (0, 90, 180, 270)]


class Brush:
    """An engine that paints what it is told, composites under the mask as the real one does, and keeps a diary."""

    device = "cpu"

    def __init__(self, colors: Callable[[int, Generate], Any]) -> None:
        self.colors = colors
        self.asked: list[Generate] = []

    def paint(self, request: Generate, monitor: Monitor) -> Painting:
        monitor.check()
        monitor.progress("Step 1 of 1", 0.5)
        image = np.empty((request.height, request.width, 3), np.uint8)
        image[:] = self.colors(len(self.asked), request)
        if request.mask is not None and request.image is not None:
            image = np.where(request.mask[..., None] > 127, image, request.image)
        self.asked.append(request)
        return Painting(image, {})


class Listener:
    def __init__(self, stop_after: int = 10**9) -> None:
        self.fractions: list[float] = []
        self.words: list[str] = []
        self.stop_after = stop_after

    def progress(self, stage: str, fraction: float) -> None:
        self.words.append(stage)
        self.fractions.append(fraction)

    def preview(self, image: np.ndarray) -> None: ...

    def check(self) -> None:
        self.stop_after -= 1
        if self.stop_after < 0:
            raise Cancelled()


def run(brush: Brush, cameras: list[Any], listener: Listener | None = None, **settings: Any) -> list[Any]:
    request = Texture(
        dataclasses.replace(SETTINGS, **settings), tuple(sphere.passes(camera) for camera in cameras), ("x",)
    )
    return paint(brush, request, listener)


def paint(brush: Brush, request: Texture, listener: Listener | None = None, mesh: Any = None, **done: Any) -> list[Any]:
    return list(
        paint_textures(brush, Run("j", request, (mesh or sphere.mesh(),), **done), request, listener or Listener())
    )


def test_every_view_goes_on_where_the_last_one_ended() -> None:
    shades = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30)]
    brush, listener = Brush(lambda number, _: shades[number]), Listener()
    results = run(brush, AROUND, listener)
    assert [type(result) for result in results] == [ViewDone] * 4 + [TextureResult]
    first, *others = brush.asked
    assert first.mask is None
    assert first.image is None
    assert [request.settings.seed for request in brush.asked] == [10, 11, 12, 13]
    for request in others:
        assert request.mask is not None
        assert request.image is not None
        kept = (request.mask == 0) & (request.passes.object_id == 1)
        assert 0.01 < kept.mean() < 0.4
        colors = np.unique(request.image[kept].reshape(-1, 3), axis=0)
        assert all(min(np.abs(color - np.array(shade)).max() for shade in shades) < 60 for color in colors.astype(int))
    assert listener.fractions == sorted(listener.fractions)
    assert listener.words[0] == "Painting view 1 of 4"
    assert listener.words[-1] == "Baking Sphere"
    texture = results[-1]
    assert texture.coverage > 0.9, "two pixels at every rim are much of so small a picture"
    assert 0.6 < texture.seen < 0.95, "the poles face no camera"
    # Along the equator every quarter of the texture has the colour of the camera that faced it.
    equator = texture.image[64].astype(int)
    for shade in shades:
        assert (np.abs(equator - shade).max(axis=1) < 30).mean() > 0.15


def test_a_view_that_adds_nothing_is_not_painted() -> None:
    brush = Brush(lambda *_: (90, 90, 90))
    results = run(brush, [AROUND[0], sphere.camera(0.5), AROUND[1]])
    assert len(brush.asked) == 2
    assert sum(isinstance(result, ViewDone) for result in results) == 2


def test_a_much_better_view_refines_what_was_seen_at_an_angle() -> None:
    brush = Brush(lambda *_: (90, 90, 90))
    run(brush, [sphere.camera(0), sphere.camera(55)])
    strengths = [request.settings.strength for request in brush.asked]
    assert strengths == [1.0, 1.0, 0.4]
    refine, generate = brush.asked[2].mask, brush.asked[1].mask
    assert refine is not None
    assert generate is not None
    assert not ((refine > 0) & (generate > 0)).any()


def test_the_scene_shines_through_below_full_strength() -> None:
    brush = Brush(lambda *_: (90, 90, 90))
    color = np.full((96, 96, 4), 77, np.uint8)
    seen = dataclasses.replace(sphere.passes(AROUND[0]), color=color)
    request = Texture(Settings(seed=1, strength=0.6, texture_size=64, method="sequential"), (seen,), ("x",))
    paint(brush, request)
    assert brush.asked[0].settings.strength == 0.6
    assert brush.asked[0].image is not None
    assert (brush.asked[0].image == 77).all()


def test_cancel_between_views() -> None:
    brush = Brush(lambda *_: (90, 90, 90))
    with pytest.raises(Cancelled):
        run(brush, AROUND, Listener(stop_after=1))
    assert len(brush.asked) == 1


def test_an_object_that_no_view_sees() -> None:
    request = Texture(dataclasses.replace(SETTINGS, texture_size=64), (sphere.passes(AROUND[0]),), ("x",))
    hidden = dataclasses.replace(sphere.mesh(object_id=5), name="Hidden")
    with pytest.raises(OutsideCameras, match="Hidden"):
        paint(Brush(lambda *_: (9, 9, 9)), request, mesh=hidden)


def test_the_order_begins_with_the_fullest_view_and_goes_where_most_is_new() -> None:
    far = dataclasses.replace(sphere.camera(0), view=sphere.camera(0).view.copy())
    far.view[2, 3] -= 8.0
    cameras = [far, sphere.camera(10), sphere.camera(0), sphere.camera(180), sphere.camera(90)]
    seen = [sphere.passes(camera) for camera in cameras]
    order = order_of_views(seen, [View(one) for one in seen], {1})
    assert sorted(order) == [0, 1, 2, 3, 4]
    assert order[0] in (0, 1, 2)
    assert order[1:3] == [4, 3], "the side goes on from the front, the back from the side"


def test_what_is_known_is_what_was_painted() -> None:
    first, second = sphere.passes(AROUND[0]), sphere.passes(sphere.camera(60))
    image = np.full((96, 96, 3), (10, 200, 30), np.uint8)
    known = known_in_view(second, View(second), [PaintedView.of(first, image)])
    points = second.camera.unproject(second.depth)
    hit = np.isfinite(second.depth)
    # Painted is what the first camera saw at 75° or less; on a sphere that is a cap around its direction.
    direction = AROUND[0].position / np.linalg.norm(AROUND[0].position)
    to_camera = AROUND[0].position - points
    cosine = (points * to_camera).sum(-1) / np.linalg.norm(to_camera, axis=-1)
    cap = hit & (np.nan_to_num(cosine, nan=-1) > np.cos(np.radians(70)))
    never = hit & (np.nan_to_num(points, nan=0) @ direction < 0)
    assert known.known[cap].mean() > 0.97
    assert not known.known[never].any()
    assert not known.known[~hit].any()
    np.testing.assert_allclose(known.color[cap & known.known] * 255 - [10, 200, 30], 0, atol=2)
    assert (known.generate[~known.known] == 255).all()
    assert 0.1 < known.open_share({1}) <= (hit & ~known.known).mean()
    assert known.open_share({7}) == 0


def colorful(number: int, request: Generate) -> Any:
    """Depends on the seed, the mask and the picture to start from, so that any difference shows."""
    generator = np.random.default_rng(request.settings.seed)
    picture = generator.integers(0, 255, (request.height, request.width, 3), np.uint8)
    return picture if request.image is None else picture // 2 + request.image // 2


def test_a_resumed_job_paints_what_an_undisturbed_one_does() -> None:
    whole = run(Brush(colorful), AROUND)
    request = Texture(SETTINGS, tuple(sphere.passes(camera) for camera in AROUND), ("x",))
    for finished in range(1, 5):
        brush, listener = Brush(colorful), Listener()
        rest = paint(brush, request, listener, views=tuple(whole[:finished]))
        assert len(rest) == 5 - finished, "no finished view is painted again"
        for one, other in zip(rest[:-1], whole[finished:-1], strict=True):
            assert np.array_equal(one.painted.image, other.painted.image)
            assert np.array_equal(one.fresh, other.fresh)
        assert np.array_equal(rest[-1].image, whole[-1].image)
        assert listener.fractions[0] >= 0.9 * finished / 4, "and the bar goes on where it was"
    assert paint(Brush(colorful), request, views=tuple(whole[:4]), baked=(1,)) == []


def test_what_was_painted_behind_a_gap_is_painted_anew() -> None:
    whole = run(Brush(colorful), AROUND)
    request = Texture(SETTINGS, tuple(sphere.passes(camera) for camera in AROUND), ("x",))
    rest = paint(Brush(colorful), request, views=(whole[0], whole[2]), baked=(1,))
    assert [one.index for one in rest[:-1]] == [one.index for one in whole[1:4]]
    assert np.array_equal(rest[-1].image, whole[-1].image), "and the texture with it"
