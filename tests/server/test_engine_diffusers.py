"""The engine's manners: cancelling, progress, previews, errors, masks, what it keeps loaded."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch

from paintover.bridge.errors import (
    BadModelFile,
    BadParameter,
    Cancelled,
    MissingModel,
    OutOfMemory,
    ServerFailure,
    UnsupportedControl,
)
from paintover.bridge.messages import Generate
from paintover.bridge.parameters import Settings
from paintover.server import models
from paintover.server.pipelines import loading, schedulers
from paintover.server.pipelines.engine import DiffusersEngine

from .tiny_models import Recorder, make_passes, write_model

WIDTH, HEIGHT = 64, 48


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("tiny") / "tiny", "sd15")


@pytest.fixture(scope="module", autouse=True)
def registry(folder: Path, tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setenv("PAINTOVER_DATA", str(tmp_path_factory.mktemp("data")))
    models.add(folder, name="tiny")
    models.add(folder, name="twin")
    models.add(folder / "controlnet-depth", control="depth")
    yield
    patch.undo()


@pytest.fixture(scope="module")
def shared() -> DiffusersEngine:
    return DiffusersEngine("cpu")


@pytest.fixture
def engine(shared: DiffusersEngine) -> DiffusersEngine:
    """With the model “tiny” loaded."""
    shared.paint(request(steps=1), Recorder())
    return shared


def request(controls: bool = False, width: int = WIDTH, height: int = HEIGHT, **changes: Any) -> Generate:
    given = {name: changes.pop(name) for name in ("image", "mask", "passes") if name in changes}
    values = {"prompt": "brick", "model": "tiny", "steps": 4, "seed": 1, "control_depth": controls}
    if controls:
        given.setdefault("passes", make_passes(width, height))
    return Generate(Settings.from_mapping(values | changes), width, height, **given)


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def test_same_seed_same_picture(engine: DiffusersEngine) -> None:
    first = engine.paint(request(controls=True), Recorder()).image
    assert first.shape == (HEIGHT, WIDTH, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, engine.paint(request(controls=True), Recorder()).image)
    assert (first != engine.paint(request(controls=True, seed=2), Recorder()).image).any()


def test_the_control_changes_the_picture(engine: DiffusersEngine) -> None:
    free = engine.paint(request(), Recorder()).image
    assert (free != engine.paint(request(controls=True), Recorder()).image).any()
    np.testing.assert_array_equal(free, engine.paint(request(controls=True, control_depth_scale=0.0), Recorder()).image)


def test_progress_rises_and_previews_are_small(engine: DiffusersEngine) -> None:
    recorder = Recorder()
    painting = engine.paint(request(steps=5, scheduler="ddim"), recorder)
    shares = [share for _, share in recorder.stages]
    assert shares == sorted(shares)
    assert shares[0] >= 0
    assert shares[-1] < 1
    assert [stage for stage, _ in recorder.stages][:2] == ["Step 1 of 5", "Step 2 of 5"]
    assert len(recorder.previews) == 2
    assert all(image.dtype == np.uint8 and image.shape == (HEIGHT // 8, WIDTH // 8, 3) for image in recorder.previews)
    assert set(painting.seconds) == {"load", "encode", "denoise", "decode"}


def test_previews_of_large_pictures_stay_small(engine: DiffusersEngine) -> None:
    recorder = Recorder()
    engine.paint(request(steps=2, width=1032, height=64, guidance=1.0), recorder)
    assert recorder.previews[0].shape == (4, 64, 3)


@pytest.mark.parametrize("stop_at", [1, 3])
def test_cancelled_within_a_step(engine: DiffusersEngine, stop_at: int) -> None:
    recorder = Recorder(stop_at)
    with pytest.raises(Cancelled):
        engine.paint(request(steps=20), recorder)
    assert len(recorder.stages) == stop_at - 1
    engine.paint(request(), Recorder())  # the next job is none the worse


def test_loading_is_reported_once_and_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_shared", WeakValueDictionary())  # another engine here may hold it
    engine, recorder = DiffusersEngine("cpu"), Recorder()
    with pytest.raises(Cancelled):
        engine.paint(request(), Recorder(stop_at=2))
    engine.paint(request(), recorder)
    assert "Loading tiny" in [stage for stage, _ in recorder.stages]
    again = Recorder()
    engine.paint(request(), again)
    assert "Loading tiny" not in [stage for stage, _ in again.stages]
    engine.paint(request(model="twin"), other := Recorder())
    assert "Loading twin" in [stage for stage, _ in other.stages]


def test_unknown_model_and_missing_control(engine: DiffusersEngine) -> None:
    with pytest.raises(MissingModel, match="'nothing'"):
        engine.paint(request(model="nothing"), Recorder())
    with pytest.raises(UnsupportedControl, match="edge") as caught:
        engine.paint(request(controls=True, control_edge=True), Recorder())
    assert "--control edge" in caught.value.hint


def test_control_of_another_family(engine: DiffusersEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = write_model(tmp_path / "wide", "sd15", cross_attention_dim=32)
    from diffusers import ControlNetModel, UNet2DConditionModel

    from .tiny_models import unet_config

    net = ControlNetModel.from_unet(UNet2DConditionModel(**unet_config("sd15", cross_attention_dim=48)))
    net.save_pretrained(wide / "controlnet-edge")
    entry = replace(models.resolve("tiny"), controls={"edge": str(wide / "controlnet-edge")})
    monkeypatch.setattr(models, "resolve", lambda name: entry)
    with pytest.raises(BadModelFile, match="another family"):
        engine.paint(request(controls=True, control_depth=False, control_edge=True), Recorder())


def test_without_passes_nothing_steers(engine: DiffusersEngine) -> None:
    free = engine.paint(request(), Recorder()).image
    np.testing.assert_array_equal(free, engine.paint(request(control_depth=True), Recorder()).image)


def test_mask_keeps_its_pixels_and_blends_its_soft_edge(engine: DiffusersEngine) -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, 32:] = 255
    mask[:, 28:32] = 128
    image = picture()
    hard = engine.paint(request(image=image, mask=np.where(mask > 127, 255, 0).astype(np.uint8)), Recorder()).image
    soft = engine.paint(request(image=image, mask=mask), Recorder()).image
    np.testing.assert_array_equal(soft[:, :28], image[:, :28])
    np.testing.assert_array_equal(soft[:, 32:], hard[:, 32:])
    assert (hard[:, 28:] != image[:, 28:]).mean() > 0.9
    between = np.stack([image[:, 28:32], hard[:, 28:32]]).astype(int)
    assert (soft[:, 28:32] >= between.min(0)).all()
    assert (soft[:, 28:32] <= between.max(0)).all()


def test_strength(engine: DiffusersEngine) -> None:
    image = picture()
    np.testing.assert_array_equal(engine.paint(request(image=image, strength=0.0), Recorder()).image, image)
    free = engine.paint(request(), Recorder()).image
    np.testing.assert_array_equal(engine.paint(request(image=image), Recorder()).image, free)
    passes = make_passes(WIDTH, HEIGHT)
    assert passes.color is not None
    colors = np.ascontiguousarray(passes.color[..., :3])
    ours = engine.paint(request(passes=passes, strength=0.5), Recorder()).image
    np.testing.assert_array_equal(ours, engine.paint(request(image=colors, strength=0.5), Recorder()).image)
    assert (ours != free).any()
    with pytest.raises(BadParameter, match="no picture to paint over"):
        engine.paint(request(strength=0.5), Recorder())


def test_long_prompts_are_cut_and_said_so(engine: DiffusersEngine, caplog: pytest.LogCaptureFixture) -> None:
    short = "a" * 5 + " b" * 70
    with caplog.at_level(logging.WARNING):
        engine.paint(request(prompt=short, steps=1), Recorder())
        assert "Left out" not in caplog.text
        whole = engine.paint(request(prompt=short + " zebra", steps=1), Recorder()).image
    assert "Left out: “zebra”" in caplog.text
    np.testing.assert_array_equal(whole, engine.paint(request(prompt=short, steps=1), Recorder()).image)


def test_out_of_memory_is_plain(engine: DiffusersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **options: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr("paintover.server.pipelines.denoise.Denoiser.predict", full)
    with pytest.raises(OutOfMemory, match="64 × 48 with tiny"):
        engine.paint(request(), Recorder())


def test_other_failures_are_not_called_out_of_memory(engine: DiffusersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*args: Any, **options: Any) -> None:
        raise RuntimeError("size mismatch")

    monkeypatch.setattr("paintover.server.pipelines.denoise.Denoiser.predict", wrong)
    with pytest.raises(RuntimeError, match="size mismatch"):
        engine.paint(request(), Recorder())


def test_too_many_steps_for_lcm(engine: DiffusersEngine) -> None:
    with pytest.raises(BadParameter, match="steps"):
        engine.paint(request(scheduler="lcm", steps=60), Recorder())


def test_values_that_are_no_numbers(engine: DiffusersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    from paintover.server.pipelines import denoise

    real = denoise.Denoiser.advance
    monkeypatch.setattr(denoise.Denoiser, "advance", lambda *args: real(*args) * float("nan"))
    with pytest.raises(ServerFailure, match="not numbers") as caught:
        engine.paint(request(), Recorder())
    assert "scheduler" in caught.value.hint


def test_half_precision_vae_that_overflows_is_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from paintover.server.pipelines import denoise

    engine = DiffusersEngine("cpu", torch.bfloat16)
    real, dtypes = denoise.decode, []

    def overflowing(model: Any, latents: torch.Tensor) -> np.ndarray:
        dtypes.append(model.vae.dtype)
        picture = real(model, latents)
        return picture * np.nan if model.vae.dtype == torch.bfloat16 else picture

    monkeypatch.setattr(denoise, "decode", overflowing)
    picture, _ = engine.paint_float(request(), Recorder())
    assert dtypes == [torch.bfloat16, torch.float32]
    assert np.isfinite(picture).all()


def test_half_precision_is_near_full(engine: DiffusersEngine) -> None:
    """The noise is the same: only rounding differs."""
    full = engine.paint_float(request(controls=True), Recorder())[0]
    half = DiffusersEngine("cpu", torch.bfloat16).paint_float(request(controls=True), Recorder())[0]
    other = engine.paint_float(request(controls=True, seed=2), Recorder())[0]
    assert np.abs(full - half).mean() < 0.2 * np.abs(full - other).mean()


@pytest.mark.parametrize("name", ["ddim", "euler", "dpmpp_2m", "unipc"])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_foreseen_latents_are_the_clean_ones(name: str, kind: str) -> None:
    """From latents that were noised by the scheduler itself, and a perfect prediction, x0 comes back."""
    from diffusers import DDIMScheduler

    config = dict(DDIMScheduler(beta_schedule="scaled_linear", prediction_type=kind).config)
    scheduler = schedulers.make_scheduler(name, DDIMScheduler, config, 10, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 1, 4, 8, 8, generator=generator)
    t = scheduler.timesteps[4]
    noisy = scheduler.scale_model_input(scheduler.add_noise(clean, noise, scheduler.timesteps[4:5]), t)
    alpha2 = scheduler.alphas_cumprod[int(t.round())]
    prediction = noise if kind == "epsilon" else alpha2**0.5 * noise - (1 - alpha2) ** 0.5 * clean
    torch.testing.assert_close(schedulers.clean_latents(scheduler, noisy, prediction, t), clean, atol=0.02, rtol=0.02)
