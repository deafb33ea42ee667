"""Clips painted by a motion module: against the stock pipeline, across windows, resumed, cancelled, refused."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import diffusers
import torch
from PIL import Image
from transformers import CLIPTextModel

from paintover.bridge import hints
from paintover.bridge.errors import BadModelFile, BadParameter, Cancelled, MissingModel, PaintoverError
from paintover.bridge.messages import Generate
from paintover.bridge.parameters import Settings
from paintover.server import models
from paintover.server.engine import Border
from paintover.server.pipelines.engine import DiffusersEngine
from paintover.server.pipelines.motion import OVERLAP, TRAINED_ON, WINDOW, clip_noise

from .small_loras import write_lora
from .tiny_models import CONTROLS, Recorder, make_passes, write_model, write_motion

WIDTH, HEIGHT = 64, 48
FREE = WINDOW - OVERLAP
PASSES = make_passes(WIDTH, HEIGHT)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("tiny")
    tiny = write_model(base / "tiny", "sd15")
    return {
        "tiny": tiny, "xl": write_model(base / "xl", "sdxl"), "motion": write_motion(base / "motion"),
        "inpainting": write_model(base / "inpainting", "sd15", in_channels=9),
        "film": write_lora(base / "film.safetensors", diffusers.UNet2DConditionModel.from_pretrained(tiny / "unet"),
                           [CLIPTextModel.from_pretrained(tiny / "text_encoder")], size=0.3),
    }  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def registry(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setenv("PAINTOVER_DATA", str(tmp_path_factory.mktemp("data")))
    patch.setattr(models.model_files, "_MINI_WIDTH", 32)
    for name in ("tiny", "xl", "inpainting"):
        models.add(folders[name], name=name)
    for control in CONTROLS:
        models.add(folders["tiny"] / f"controlnet-{control}", control=control)
    models.add(folders["motion"], kind="motion")
    models.add(folders["film"])
    yield
    patch.undo()


@pytest.fixture(scope="module")
def engine() -> DiffusersEngine:
    return DiffusersEngine("cpu")


def request(**changes: Any) -> Generate:
    values: dict[str, Any] = {
        "model": "tiny", "prompt": "brick", "negative_prompt": "blurry", "steps": 3, "guidance": 4.0, "seed": 7,
        "animate_motion": "motion", "control_depth": True, "control_depth_scale": 0.8,
    }  # fmt: skip
    passes = changes.pop("passes", PASSES)
    return Generate(Settings.from_mapping(values | changes), WIDTH, HEIGHT, passes)


def moved(frame: int) -> Generate:
    """Frame of a clip in which the scene goes by."""
    rolled = {name: np.roll(getattr(PASSES, name), frame, axis=1) for name in ("depth", "normal", "edge", "object_id")}
    return request(passes=dataclasses.replace(PASSES, **rolled))


def paint(
    engine: DiffusersEngine, requests: Iterable[Generate], begin: Border | None = None
) -> tuple[list[np.ndarray], list[Border]]:
    """Pictures as int16, and the borders between windows."""
    pictures, borders = [], []
    for part in engine.paint_clip(requests, Recorder(), begin):
        if isinstance(part, Border):
            borders.append(part)
        else:
            pictures.append(part.image.astype(np.int16))
    return pictures, borders


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).mean())


# ---------------------------------------------------------------- against the stock pipeline


@pytest.mark.parametrize("scheduler", ["default", "ddim", "euler_a"])
@pytest.mark.parametrize("controls", [("depth",), ("depth", "normal")])
def test_the_same_clip_as_the_stock_pipeline(
    engine: DiffusersEngine, folders: dict[str, Path], scheduler: str, controls: tuple[str, ...]
) -> None:
    changes = {"scheduler": scheduler, "control_normal": "normal" in controls, "control_normal_end": 0.4}
    requests = [
        dataclasses.replace(one, settings=dataclasses.replace(one.settings, **changes))
        for one in map(moved, range(WINDOW))
    ]
    ours, _ = paint(engine, requests)
    load = folders["tiny"]
    parts = diffusers.StableDiffusionPipeline.from_pretrained(load, safety_checker=None).components
    kept = {name: parts[name] for name in ("vae", "text_encoder", "tokenizer", "unet", "scheduler")}
    nets = [diffusers.ControlNetModel.from_pretrained(load / f"controlnet-{control}") for control in controls]
    adapter = diffusers.MotionAdapter.from_pretrained(folders["motion"])
    stock = diffusers.AnimateDiffControlNetPipeline(
        **kept, motion_adapter=adapter, controlnet=nets[0] if len(nets) == 1 else nets
    )
    cls = {"default": type(stock.scheduler), "ddim": diffusers.DDIMScheduler,
           "euler_a": diffusers.EulerAncestralDiscreteScheduler}[scheduler]  # fmt: skip
    stock.scheduler = cls.from_config({**stock.scheduler.config, **TRAINED_ON})
    stock.set_progress_bar_config(disable=True)
    seen = [
        [Image.fromarray((hints.make_hint(one.passes, control) * 255).round().astype(np.uint8)) for one in requests]
        for control in controls
    ]
    one_or_all = (lambda values: values[0]) if len(nets) == 1 else list
    theirs = stock(
        "brick", negative_prompt="blurry", num_frames=WINDOW, width=WIDTH, height=HEIGHT, num_inference_steps=3,
        guidance_scale=4.0, generator=torch.Generator().manual_seed(7), conditioning_frames=one_or_all(seen),
        controlnet_conditioning_scale=one_or_all([0.8, 1.0]), control_guidance_end=one_or_all([1.0, 0.4]),
        output_type="np",
    ).frames[0]  # fmt: skip
    assert theirs.std() > 0.01
    assert len(ours) == WINDOW
    for mine, other in zip(ours, theirs, strict=True):
        assert np.abs(mine - (other * 255).round()).max() <= 1


# ---------------------------------------------------------------- windows


def test_frames_of_a_window_see_each_other(engine: DiffusersEngine) -> None:
    requests = [request() for _ in range(6)]
    plain, _ = paint(engine, requests)
    requests[2] = request(prompt="water")
    changed, _ = paint(engine, requests)
    apart = [distance(one, other) for one, other in zip(plain, changed, strict=True)]
    assert min(apart) > 0
    assert apart[2] == max(apart)


@pytest.mark.parametrize("count", [1, WINDOW - 1, WINDOW, WINDOW + 1, 2 * FREE + OVERLAP, 30])
def test_every_frame_comes_once(engine: DiffusersEngine, count: int) -> None:
    pictures, borders = paint(engine, [request(steps=1)] * count)
    assert len(pictures) == count
    assert [border.place for border in borders] == list(range(FREE, count - OVERLAP + 1, FREE))
    assert all(len(border.latents) == OVERLAP for border in borders)


def test_no_more_frames_are_taken_than_a_window_holds(engine: DiffusersEngine) -> None:
    taken = itertools.count()

    def frames() -> Iterator[Generate]:
        for _ in range(40):
            next(taken)
            yield request(steps=1)

    painted, most = 0, 0
    for part in engine.paint_clip(frames(), Recorder()):
        painted += not isinstance(part, Border)
        so_far = taken.__reduce__()[1][0]
        most = max(most, so_far - painted)
    assert painted == 40
    assert most < WINDOW


def test_windows_go_over_into_each_other(engine: DiffusersEngine) -> None:
    """The frames that two windows share are the first one's at first, and the second one's at last."""
    requests = [request() for _ in range(WINDOW + 8)]
    pictures, (border, *_) = paint(engine, requests)
    alone, _ = paint(engine, requests[FREE:], Border(FREE, ()))
    first, _ = paint(engine, requests[FREE:WINDOW], border)  # nothing has come behind: as the first window has them
    from_first = [distance(pictures[FREE + i], first[i]) for i in range(OVERLAP)]
    from_alone = [distance(pictures[FREE + i], alone[i]) for i in range(OVERLAP)]
    shares = [a / (a + b) for a, b in zip(from_first, from_alone, strict=True)]
    assert shares == sorted(shares)
    assert shares[0] < 0.35
    assert distance(pictures[WINDOW], alone[OVERLAP]) > 0, "what is held shows in the frames behind it"


def test_resumed_at_any_border_it_is_the_same(engine: DiffusersEngine) -> None:
    requests = [moved(frame) for frame in range(45)]
    pictures, borders = paint(engine, requests)
    assert len(borders) == 3
    for border in borders:
        fresh = DiffusersEngine("cpu") if border is borders[0] else engine
        again, _ = paint(fresh, requests[border.place :], border)
        np.testing.assert_array_equal(again, pictures[border.place :])


def test_noise_comes_again_in_another_order() -> None:
    whole = clip_noise((4, 6, 8), [(5, 0.0)] * 3 * WINDOW, 0)
    np.testing.assert_array_equal(whole[:, :, 20:36], clip_noise((4, 6, 8), [(5, 0.0)] * 16, 20))
    windows = [whole[0, 0, start : start + WINDOW].flatten(1) for start in range(0, 3 * WINDOW, WINDOW)]
    for later in windows[1:]:
        assert not torch.equal(later, windows[0])
        assert {float(frame[0]) for frame in later} == {float(frame[0]) for frame in windows[0]}
    stock = torch.randn((1, 4, WINDOW, 6, 8), generator=torch.Generator().manual_seed(5))
    np.testing.assert_array_equal(whole[:, :, :WINDOW], stock)


def test_noise_travels_to_the_next_seeds() -> None:
    here, there = (clip_noise((4, 6, 8), [(seed, 0.0)], 3) for seed in (5, 6))
    travelled = clip_noise((4, 6, 8), [(5, share) for share in (0.0, 0.5, 1.0)], 3)
    np.testing.assert_array_equal(travelled[:, :, 0], here[:, :, 0])
    half = clip_noise((4, 6, 8), [(5, 0.5)], 3)
    assert (half - here).norm() > 1
    torch.testing.assert_close((half - here).norm(), (half - there).norm(), rtol=0.1, atol=0)


# ---------------------------------------------------------------- requests


def test_a_clip_over_the_scenes_own_pictures(engine: DiffusersEngine) -> None:
    pictures, _ = paint(engine, [request(strength=0.4, steps=5)] * 3)
    farther, _ = paint(engine, [request(strength=1.0, steps=5)] * 3)
    nearer, _ = paint(engine, [request(strength=0.2, steps=5)] * 3)
    untouched, _ = paint(engine, [request(strength=0.1, steps=5)] * 3)
    apart = [distance(one[0], untouched[0]) for one in (nearer, pictures, farther)]
    assert 0 < apart[0] < apart[1] < apart[2]
    with pytest.raises(BadParameter, match="no picture"):
        paint(engine, [request(strength=0.4, passes=dataclasses.replace(PASSES, color=None))])


def test_settings_may_change_from_frame_to_frame(engine: DiffusersEngine) -> None:
    def clip(**last: Any) -> list[np.ndarray]:
        return paint(engine, [*[request()] * 3, request(**last)])[0]

    same = clip()
    for change in ({"prompt": "ice"}, {"guidance": 9.0}, {"control_depth_scale": 0.1}, {"control_depth": False},
                   {"control_normal": True}):  # fmt: skip
        apart = [distance(one, other) for one, other in zip(clip(**change), same, strict=True)]
        assert apart[3] == max(apart) > 0, change


def test_loras_act_in_clips_and_stay_out_of_stills(engine: DiffusersEngine) -> None:
    still = request(animate_motion="")
    before = engine.paint(still, Recorder()).image
    plain, _ = paint(engine, [request()] * 2)
    styled, _ = paint(engine, [request(lora="film")] * 2)
    half, _ = paint(engine, [request(lora="film"), request()])
    as_half, _ = paint(engine, [request(lora="film:0.5")] * 2)
    assert distance(plain[0], styled[0]) > 0.5
    np.testing.assert_array_equal(half, as_half)
    np.testing.assert_array_equal(paint(engine, [request()] * 2)[0], plain)
    np.testing.assert_array_equal(engine.paint(still, Recorder()).image, before)
    with_lora = dataclasses.replace(still, settings=dataclasses.replace(still.settings, lora="film"))
    engine.paint(with_lora, Recorder())
    np.testing.assert_array_equal(paint(engine, [request()] * 2)[0], plain)


def test_the_weights_are_the_models_own(engine: DiffusersEngine) -> None:
    paint(engine, [request(steps=1)])
    model = engine._painter._model  # type: ignore[union-attr]
    assert model is not None
    still, moving = (
        {name.replace(".base_layer", ""): value.data_ptr() for name, value in unet.named_parameters()}
        for unet in (model.unet, model.motions["motion"].unet)
    )
    still = {name: place for name, place in still.items() if "lora" not in name}
    assert still.items() < moving.items()


def test_cancelled_within_a_window(engine: DiffusersEngine) -> None:
    recorder = Recorder(stop_at=6)
    with pytest.raises(Cancelled):
        list(engine.paint_clip([request()] * 20, recorder))
    assert recorder.checks == 6
    assert any("Frames 1 to 16" in stage for stage, _ in recorder.stages)


# ---------------------------------------------------------------- errors


def refused(engine: DiffusersEngine, error: type[PaintoverError], **changes: Any) -> str:
    with pytest.raises(error) as caught:
        paint(engine, [request(**changes)])
    assert caught.value.hint
    return str(caught.value)


def test_models_without_motion_modules(engine: DiffusersEngine) -> None:
    said = refused(engine, BadParameter, model="xl", control_depth=False)
    assert "sd15" in said
    assert "sdxl" in said
    assert "inpaint" in refused(engine, BadParameter, model="inpainting")


def test_adapters_that_cannot_be_used(engine: DiffusersEngine, tmp_path: Path) -> None:
    said = refused(engine, MissingModel, animate_motion="nonesuch")
    assert "nonesuch" in said
    assert "motion" in said
    models.add(write_motion(tmp_path / "wide", block_out_channels=(32, 32)), kind="motion")
    assert "wide" in refused(engine, BadModelFile, animate_motion="wide")
    models.add(write_motion(tmp_path / "deep", motion_layers_per_block=2), kind="motion")
    assert "deep" in refused(engine, BadModelFile, animate_motion="deep")
    models.add(write_motion(tmp_path / "short", motion_max_seq_length=8), kind="motion")
    assert "8 frames" in refused(engine, BadModelFile, animate_motion="short")
    models.add(write_motion(tmp_path / "broken"), kind="motion")
    file = tmp_path / "broken" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-50])
    assert "cut short" in refused(engine, BadModelFile, animate_motion="broken")
    assert len(paint(engine, [request(steps=1)])[0]) == 1


def test_what_is_no_adapter_is_not_added(folders: dict[str, Path]) -> None:
    for path, kind in ((folders["tiny"], "motion"), (folders["motion"], "lora"), (folders["film"], "motion")):
        with pytest.raises(PaintoverError) as caught:
            models.add(path, kind=kind)
        assert caught.value.hint
