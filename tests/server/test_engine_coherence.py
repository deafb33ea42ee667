"""What a picture shares with others of its shot, as the engine takes it up. With a tiny model of random weights."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch

from paintover.bridge.messages import Generate
from paintover.bridge.parameters import Settings
from paintover.server import models
from paintover.server.engine import Coherence, Reference
from paintover.server.pipelines import schedulers
from paintover.server.pipelines.engine import DiffusersEngine

from .tiny_models import Recorder, make_passes, write_model

WIDTH, HEIGHT = 64, 48


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Iterator[DiffusersEngine]:
    patch = pytest.MonkeyPatch()
    patch.setenv("PAINTOVER_DATA", str(tmp_path_factory.mktemp("data")))
    folder = write_model(tmp_path_factory.mktemp("tiny") / "tiny", "sd15")
    models.add(folder, name="tiny")
    models.add(folder / "controlnet-depth", control="depth")
    yield DiffusersEngine("cpu")
    patch.undo()


def paint(engine: DiffusersEngine, coherence: Coherence | None) -> np.ndarray:
    settings = Settings(prompt="brick", model="tiny", steps=4, seed=1)
    request = Generate(settings, WIDTH, HEIGHT, make_passes(WIDTH, HEIGHT))
    return engine.paint_float(request, Recorder(), coherence)[0]


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def test_nothing_shared_is_as_without(engine: DiffusersEngine) -> None:
    assert np.array_equal(paint(engine, None), paint(engine, Coherence()))
    everywhere = np.full((HEIGHT, WIDTH), 255, np.uint8)
    nowhere = Coherence(image=picture(0), known=everywhere * 0, held=1.0)
    assert np.allclose(paint(engine, None), paint(engine, nowhere), atol=1e-4)
    assert np.array_equal(paint(engine, None), paint(engine, Coherence(image=picture(0), known=everywhere)))


def test_given_noise_is_started_from(engine: DiffusersEngine) -> None:
    seeds = torch.Generator("cpu").manual_seed(1)
    model = engine._painter._model  # type: ignore[union-attr]
    assert model is not None
    factor = model.scale_factor
    own = torch.randn((1, 4, HEIGHT // factor, WIDTH // factor), generator=seeds)[0].numpy()
    assert np.array_equal(paint(engine, Coherence(noise=own)), paint(engine, None))
    assert not np.allclose(paint(engine, Coherence(noise=own[:, ::-1].copy())), paint(engine, None), atol=1e-3)
    assert np.array_equal(paint(engine, Coherence(noise=own[:, :1])), paint(engine, None))  # of another shape


def test_a_picture_is_held_where_it_is_known(engine: DiffusersEngine) -> None:
    known = np.zeros((HEIGHT, WIDTH), np.uint8)
    known[:, : WIDTH // 2] = 255
    one, other = (paint(engine, Coherence(image=picture(0), known=known, held=share)) for share in (1.0, 0.5))
    free = paint(engine, None)
    assert not np.allclose(one, free, atol=1e-3)
    assert not np.allclose(one, other, atol=1e-4)


def test_references_are_seen_and_let_go_of(engine: DiffusersEngine) -> None:
    passes = make_passes(WIDTH, HEIGHT)
    free = paint(engine, None)
    one = paint(engine, Coherence(references=(Reference(passes, picture(0)),)))
    other = paint(engine, Coherence(references=(Reference(passes, picture(1)), Reference(passes, picture(2)))))
    assert not np.allclose(one, free, atol=1e-5)
    assert not np.allclose(one, other, atol=1e-5)
    assert np.array_equal(one, paint(engine, Coherence(references=(Reference(passes, picture(0)),))))
    assert np.array_equal(free, paint(engine, None))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_a_prediction_is_the_inverse_of_what_is_foreseen(engine: DiffusersEngine, kind: str) -> None:
    paint(engine, None)
    model = engine._painter._model  # type: ignore[union-attr]
    assert model is not None
    config = {**model.scheduler_config, "prediction_type": kind}
    scheduler = schedulers.make_scheduler("ddim", model.scheduler_class, config, 10, model.device)
    seen, said = torch.randn(2, 1, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    for t in scheduler.timesteps[:9]:
        clean = schedulers.clean_latents(scheduler, seen, said, t)
        assert torch.allclose(schedulers.prediction_of(scheduler, seen, clean, t), said, atol=1e-3)
