"""The texture job, all views at once: they agree on the surface that they share, and can go on between two steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paintover.bridge.messages import Generate, Texture, TextureResult
from paintover.bridge.parameters import Settings
from paintover.server import models
from paintover.server.engine import Agree, Monitor, Painting, Unfinished
from paintover.server.pipelines import schedulers
from paintover.server.pipelines.engine import DiffusersEngine
from paintover.server.texturing.gather import PaintedView, gather
from paintover.server.texturing.job import paint_textures
from paintover.server.texturing.synchronise import UNTIL, Agreement
from paintover.server.texturing.view import View
from paintover.server.worker_messages import Halfway, Run, ViewDone

from . import sphere
from .test_texture_job import Listener
from .tiny_models import Recorder

FRONT, SIDE, BACK = (sphere.camera(azimuth) for azimuth in (0, 25, 180))


def foreseen(shades: Sequence[float], side: int = 24) -> list[torch.Tensor]:
    return [torch.full((side, side, 4), shade) for shade in shades]


def test_views_agree_where_they_see_the_same_and_only_there() -> None:
    passes = [sphere.passes(camera) for camera in (FRONT, SIDE, BACK)]
    agreement = Agreement(passes, [View(one) for one in passes])
    own = foreseen([0.0, 1.0, 5.0])
    front, side, back = agreement(0.0, own)
    surface = torch.from_numpy(np.isfinite(passes[0].depth)[2::4, 2::4])
    assert (front[~surface] == 0.0).all(), "the background is each view's own"
    assert (front > 0.3).any(), "what the side sees, too, lies between both"
    assert front.max() < 1.01, "what the back foresees does not come through the sphere"
    assert (front[surface].sum(-1) == 0.0).any(), "what no other view sees stays"
    assert (side < 0.7).any()
    assert ((back - 5).abs() < 1e-5).all(), "the back shares nothing with the front at 75 degrees or less"
    # Later the view that faces a point best decides.
    late = agreement(0.7, own)[0]
    middle = late[12, 12, 0]
    assert middle < front[12, 12, 0] or front[12, 12, 0] == 0.0
    assert agreement(UNTIL, own) is own


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_a_prediction_can_be_made_of_what_it_foresees(kind: str) -> None:
    scheduler = schedulers.make_scheduler(
        "ddim", None, {"prediction_type": kind, "num_train_timesteps": 1000}, 10, torch.device("cpu")
    )
    noisy, clean = torch.randn(2, 1, 4, 8, 8).unbind()
    for t in scheduler.timesteps:
        prediction = schedulers.prediction_of(scheduler, noisy, clean, t)
        torch.testing.assert_close(
            schedulers.clean_latents(scheduler, noisy, prediction, t), clean, atol=2e-4, rtol=2e-4
        )


class Choir:
    """An engine whose pictures depend on the seed, and on the step at which they began only if it cheats."""

    device = "cpu"

    def __init__(self, die_after: int = 10**9) -> None:
        self.begun: list[int] = []
        self.die_after = die_after

    def paint_together(
        self, requests: Sequence[Generate], agree: Agree, monitor: Monitor, begin: Unfinished | None = None
    ) -> Iterator[Unfinished | Painting]:
        latents = [np.full((1, 4, 2, 2), request.settings.seed, np.float32) for request in requests]
        first = begin.step if begin else 0
        self.begun.append(first)
        latents = [array.copy() for array in begin.latents] if begin else latents
        for step in range(first, 4):
            if step > first:
                yield Unfinished(step, tuple(array.copy() for array in latents))
            for array in latents:
                array *= 1.5
        for request, array in zip(requests, latents, strict=True):
            self.die_after -= 1
            if self.die_after < 0:
                raise RuntimeError("the worker died here")
            yield Painting(np.full((request.height, request.width, 3), int(array[0, 0, 0, 0]) % 256, np.uint8), {})


def job(engine: Any, **done: Any) -> list[Any]:
    settings = Settings(seed=10, texture_size=64, method="synchronised")
    request = Texture(settings, tuple(sphere.passes(camera) for camera in (FRONT, SIDE, BACK)), ("x",))
    results: list[Any] = []
    try:
        results += paint_textures(engine, Run("j", request, (sphere.mesh(),), **done), request, listener := Listener())
        assert listener.fractions == sorted(listener.fractions)
    except RuntimeError:
        pass
    return results


def test_it_goes_on_from_between_two_steps_and_comes_out_the_same() -> None:
    whole = job(Choir())
    assert [type(part) for part in whole] == [Halfway] * 3 + [ViewDone] * 3 + [TextureResult]
    assert [part.index for part in whole[3:6]] == [0, 1, 2]
    assert len({int(part.painted.image[0, 0, 0]) for part in whole[3:6]}) == 3, "every view has noise of its own"
    for halfway in whole[:3]:
        engine = Choir()
        rest = job(engine, halfway=halfway)
        assert engine.begun == [halfway.step]
        assert np.array_equal(rest[-1].image, whole[-1].image)
    # Two views were stored, the third was not.
    engine = Choir()
    rest = job(engine, halfway=whole[2], views=tuple(whole[3:5]))
    assert [part.index for part in rest if isinstance(part, ViewDone)] == [2]
    assert np.array_equal(rest[-1].image, whole[-1].image)
    # All views were stored: nothing is painted.
    engine = Choir()
    assert np.array_equal(job(engine, views=tuple(whole[3:6]))[-1].image, whole[-1].image)
    assert not engine.begun


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two views of a sphere by mini: alone, together, and together from a state in between."""
    if not Path(models.MINI.path).is_dir():
        pytest.skip("server/mini has not been trained yet")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # other tests may keep the other cores busy
    engine = DiffusersEngine("cpu")
    given = {**models.MINI.defaults, "prompt": "red brick sphere", "steps": 7, "size": 128, "scheduler": "dpmpp_2m"}
    passes = [sphere.passes(dataclasses.replace(sphere.camera(azimuth, size=128))) for azimuth in (0, 40)]
    requests = [
        Generate(Settings.from_mapping({**given, "seed": 3 + number}), 128, 128, one)
        for number, one in enumerate(passes)
    ]
    agreement = Agreement(passes, [View(one) for one in passes])
    together = list(engine.paint_together(requests, agreement, Recorder()))
    state = next(one for one in together if isinstance(one, Unfinished))
    found = {
        "passes": passes,
        "alone": [engine.paint(request, Recorder()).image for request in requests],
        "together": [one.image for one in together if isinstance(one, Painting)],
        "resumed": [
            one.image
            for one in engine.paint_together(requests, agreement, Recorder(), state)
            if isinstance(one, Painting)
        ],
        "steps": [one.step for one in together if isinstance(one, Unfinished)],
    }
    torch.set_num_threads(threads)
    return found


def disagreement(passes: Sequence[Any], images: Sequence[np.ndarray]) -> float:
    """RMS difference (of 255) between what two views show of the same surface."""
    hit = np.isfinite(passes[0].depth)
    points = torch.from_numpy(passes[0].camera.unproject(passes[0].depth)[hit].astype(np.float32))
    normals = torch.from_numpy((passes[0].normal[hit].astype(np.float64) @ passes[0].camera.view[:3, :3]).astype("f4"))
    one, other = (gather(points, normals, [PaintedView.of(p, i)]) for p, i in zip(passes, images, strict=True))
    both = (one.facing > 0.5) & (other.facing > 0.5)
    assert both.sum() > 500
    return float(((one.color - other.color)[both] ** 2).mean().sqrt()) * 255


def test_painted_together_two_views_show_one_surface(painted: dict[str, Any]) -> None:
    alone, together = (disagreement(painted["passes"], painted[how]) for how in ("alone", "together"))
    assert together < 0.7 * alone, f"{together:.1f} against {alone:.1f}"
    assert min(image.std() for image in painted["together"]) > 10, "and it is no flat grey"


def test_the_real_engine_goes_on_bit_for_bit_with_a_method_that_remembers_steps(painted: dict[str, Any]) -> None:
    assert painted["steps"] == [5]
    for one, other in zip(painted["together"], painted["resumed"], strict=True):
        assert np.array_equal(one, other)
