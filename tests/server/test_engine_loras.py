"""LoRAs in the engine: what they do to pictures, how their weights act, and that nothing of them stays behind."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel

from paintover.bridge.errors import BadModelFile, MissingModel, PaintoverError
from paintover.bridge.live import LiveSettings
from paintover.bridge.messages import Generate
from paintover.bridge.parameters import Settings
from paintover.bridge.prompts import Blend
from paintover.server import models
from paintover.server.pipelines import loras
from paintover.server.pipelines.engine import DiffusersEngine
from paintover.server.worker_messages import StreamSettings, StreamState

from .small_loras import write_lora
from .tiny_models import Recorder, make_passes, write_model

SIDE = 64
MINI = Path(models.MINI.path)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """LoRAs for mini, and a tiny SDXL with one of its own."""
    base = tmp_path_factory.mktemp("loras")
    unet = UNet2DConditionModel.from_pretrained(MINI / "unet")
    encoder = CLIPTextModel.from_pretrained(MINI / "text_encoder")
    found = {
        "film": write_lora(base / "film.safetensors", unet, [encoder], seed=1),
        "kohya": write_lora(base / "kohya.safetensors", unet, [encoder], seed=1, kohya=True),
        "sketch": write_lora(base / "sketch.safetensors", unet, seed=2, alpha=2),
        "tiny-xl": write_model(base / "tiny-xl", "sdxl", 1024, cross_attention_dim=2048),
    }
    pipeline = StableDiffusionXLPipeline.from_pretrained(found["tiny-xl"])
    encoders = [pipeline.text_encoder, pipeline.text_encoder_2]
    found["xl"] = write_lora(base / "xl.safetensors", pipeline.unet, encoders, kohya=True)
    return found


@pytest.fixture(scope="module", autouse=True)
def registry(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setenv("PAINTOVER_DATA", str(tmp_path_factory.mktemp("data")))
    for file in files.values():
        models.add(file)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def engine() -> DiffusersEngine:
    return DiffusersEngine("cpu")


def paint(engine: DiffusersEngine, lora: str = "", model: str = "mini", **changes: Any) -> np.ndarray:
    """float32 (H, W, 3)."""
    values = {"model": model, "prompt": "a red sphere", "seed": 3, "steps": 2, "guidance": 2.0, "lora": lora}
    values |= {"control_depth": False} | changes
    return engine.paint_float(Generate(Settings.from_mapping(values), SIDE, SIDE), Recorder())[0]


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).mean())


def stock(file: Path, weight: float, folder: Path = MINI) -> np.ndarray:
    """What diffusers' own pipeline paints with a LoRA."""
    cls = StableDiffusionXLPipeline if folder != MINI else StableDiffusionPipeline
    pipeline = cls.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.load_lora_weights(file.parent, weight_name=file.name, adapter_name="own")
    pipeline.set_adapters("own", weight)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        "a red sphere", num_inference_steps=2, guidance_scale=2.0, width=SIDE, height=SIDE,
        generator=torch.Generator().manual_seed(3), output_type="np",
    ).images[0]  # fmt: skip


# ---------------------------------------------------------------- pictures


@pytest.mark.parametrize("name", ["film", "kohya", "sketch"])
@pytest.mark.parametrize("weight", [1.0, 0.6, -0.5])
def test_the_same_picture_as_the_stock_pipeline(
    engine: DiffusersEngine, files: dict[str, Path], name: str, weight: float
) -> None:
    ours, theirs = paint(engine, f"{name}:{weight}"), stock(files[name], weight)
    assert distance(ours, paint(engine)) > 0.005, "it does nothing"
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_sdxl_with_both_text_encoders(files: dict[str, Path]) -> None:
    engine = DiffusersEngine("cpu")
    ours, theirs = paint(engine, "xl:0.7", "tiny-xl"), stock(files["xl"], 0.7, files["tiny-xl"])
    assert distance(ours, paint(engine, "", "tiny-xl")) > 0.001
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_the_same_lora_in_two_ways_of_writing(engine: DiffusersEngine, files: dict[str, Path], tmp_path: Path) -> None:
    """Also where diffusers would leave a part out: text encoder layers without the output layer."""
    np.testing.assert_allclose(paint(engine, "film:0.8"), paint(engine, "kohya:0.8"), atol=1e-5)
    encoder = CLIPTextModel.from_pretrained(MINI / "text_encoder")
    unet = UNet2DConditionModel.from_pretrained(MINI / "unet")
    for kohya in (False, True):
        path = tmp_path / f"queries{int(kohya)}.safetensors"
        models.add(write_lora(path, unet, [encoder], kohya=kohya, text_layers=["q_proj"]))
    np.testing.assert_allclose(paint(engine, "queries0"), paint(engine, "queries1"), atol=1e-5)


def test_weights(engine: DiffusersEngine) -> None:
    """At 0 it is not there, and half of it lies between; afterwards the model is what it was, bit for bit."""
    without = paint(engine)
    whole, half, none = paint(engine, "sketch"), paint(engine, "sketch:0.5"), paint(engine, "sketch:0")
    np.testing.assert_array_equal(none, without)
    assert 0 < distance(half, without) < distance(whole, without)
    assert distance(half, whole) < distance(whole, without)
    np.testing.assert_array_equal(paint(engine), without)
    np.testing.assert_array_equal(paint(engine, "sketch:0.5"), half)


def test_two_at_once(engine: DiffusersEngine) -> None:
    both, film, sketch = paint(engine, "film:0.5 sketch"), paint(engine, "film:0.5"), paint(engine, "sketch")
    assert min(distance(both, film), distance(both, sketch)) > 0.01
    np.testing.assert_allclose(both, paint(engine, "sketch film:0.5"), atol=1e-4)
    np.testing.assert_array_equal(paint(engine, "film:0.5 sketch:0"), film)
    np.testing.assert_array_equal(paint(engine, "sketch"), sketch)


def test_nothing_is_loaded_twice_nor_stays_for_ever(
    engine: DiffusersEngine, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    really = loras.read
    monkeypatch.setattr(loras, "read", lambda model, name: (read.append(name), really(model, name))[1])
    monkeypatch.setattr(loras, "KEPT", 1)
    names = ("one", "two", "three")
    for name in names:
        models.add(shutil.copy(files["sketch"], tmp_path / f"{name}.safetensors"))
    without, first = paint(engine), paint(engine, "one:0.3")
    for weight in (0.1, 0.2, 0.3):
        again = paint(engine, f"one:{weight}")
    np.testing.assert_array_equal(again, first)
    assert read == ["one"]
    paint(engine, "two")
    paint(engine, "three")
    paint(engine, "two")
    assert read == ["one", "two", "three"]
    paint(engine, "one")
    assert read == ["one", "two", "three", "one"], "it had to go when others came"
    np.testing.assert_array_equal(paint(engine), without)


def test_a_file_that_was_written_anew_is_read_anew(
    engine: DiffusersEngine, files: dict[str, Path], tmp_path: Path
) -> None:
    file = Path(shutil.copy(files["sketch"], tmp_path / "mine.safetensors"))
    models.add(file)
    before = paint(engine, "mine")
    tensors = load_file(file)
    file.unlink()
    save_file({name: value * 1.2 for name, value in tensors.items()}, file, {"written": "anew"})
    assert distance(paint(engine, "mine"), before) > 0.001


def test_all_of_them_removed_the_layers_are_the_models_own(files: dict[str, Path]) -> None:
    engine = DiffusersEngine("cpu")
    paint(engine)
    model = engine._painter._model  # type: ignore[union-attr]
    assert model is not None
    kinds = {name: type(module) for name, module in model.unet.named_modules()}
    weights = {name: value.clone() for name, value in model.unet.state_dict().items()}
    paint(engine, "film sketch")
    assert any("lora" in name for name, _ in model.unet.named_modules())
    for name in ("film", "sketch"):
        model.loras._remove(name)
    assert {name: type(module) for name, module in model.unet.named_modules()} == kinds
    assert all(torch.equal(value, weights[name]) for name, value in model.unet.state_dict().items())


# ---------------------------------------------------------------- mini-turbo


@pytest.mark.skipif(not Path(models.MINI_TURBO.decoder).is_dir(), reason="server/mini_turbo has not been trained yet")
def test_mini_turbos_own_lora_stays_beside_others() -> None:
    engine = DiffusersEngine("cpu")
    turbo = {"model": "mini-turbo", "scheduler": "lcm", "guidance": 1.0}
    plain, mini = paint(engine, **turbo), paint(engine, guidance=1.0, scheduler="lcm")
    assert distance(plain, mini) > 0.01
    styled = paint(engine, "sketch:0.4", **turbo)
    assert 0 < distance(styled, plain) < distance(styled, paint(engine, "sketch:0.4", guidance=1.0, scheduler="lcm"))
    np.testing.assert_array_equal(paint(engine, **turbo), plain)


# ---------------------------------------------------------------- errors


def refused(engine: DiffusersEngine, lora: str, error: type[PaintoverError], **changes: Any) -> str:
    before = paint(engine, "sketch", **changes) if not changes else None
    with pytest.raises(error) as caught:
        paint(engine, lora, **changes)
    assert caught.value.hint
    if before is not None:
        np.testing.assert_array_equal(paint(engine, "sketch"), before)
    return str(caught.value)


def test_missing(engine: DiffusersEngine) -> None:
    said = refused(engine, "sketch nonesuch:0.5", MissingModel)
    assert "nonesuch" in said
    assert "models add" in said
    assert "film" in said


def test_of_another_family(engine: DiffusersEngine) -> None:
    assert "sdxl" in refused(engine, "xl", BadModelFile)


def test_of_another_size(engine: DiffusersEngine, tmp_path: Path) -> None:
    """As one for the real SD 1.5 would be for mini."""
    wide = UNet2DConditionModel.from_config(
        {**UNet2DConditionModel.load_config(MINI / "unet"), "cross_attention_dim": 768}
    )
    models.add(write_lora(tmp_path / "wide.safetensors", wide))
    assert "another size" in refused(engine, "wide", BadModelFile)


def test_of_other_layers(engine: DiffusersEngine, tmp_path: Path) -> None:
    save_file(
        {"unet.other.lora_A.weight": torch.ones(2, 2), "unet.other.lora_B.weight": torch.ones(2, 2)},
        tmp_path / "o.safetensors",
    )
    models.add(tmp_path / "o.safetensors", name="other", family="sd15")
    assert "none of its layers" in refused(engine, "other", BadModelFile)


@pytest.mark.parametrize("damage", ["cut", "nan", "gone", "pickle", "half", "metadata"])
def test_damaged(engine: DiffusersEngine, files: dict[str, Path], tmp_path: Path, damage: str) -> None:
    file = Path(shutil.copy(files["sketch"], tmp_path / f"{damage}.safetensors"))
    models.add(file)
    tensors = {name: value.clone() for name, value in load_file(file).items()}
    first = next(name for name in tensors if ".lora_A." in name)
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "gone":
        file.unlink()
    elif damage == "pickle":
        torch.save(tensors, file)
    elif damage == "metadata":
        save_file(tensors, file, {"lora_adapter_metadata": '{"unet.lora_alpha": "much"}'})
    else:
        tensors = {**tensors, first: tensors[first] * torch.nan} if damage == "nan" else tensors
        save_file({name: value for name, value in tensors.items() if damage != "half" or name != first}, file)
    said = refused(engine, damage, BadModelFile)
    words = {"cut": "cut short", "nan": "NaN", "gone": "", "pickle": "pickle", "half": "", "metadata": ""}
    assert words[damage] in said
    assert damage in said


# ---------------------------------------------------------------- streams


class Streamed:
    def __init__(self, engine: DiffusersEngine) -> None:
        self.said: list[StreamState] = []
        self.stream = engine.stream(self.said.append)

    def __call__(self, lora: str = "", prompt: str = "brick") -> np.ndarray:
        """The picture once all is loaded."""
        settings = LiveSettings(
            model="mini", prompt=prompt, seed=3, steps=2, guidance=1.0, output_width=SIDE, output_height=SIDE, lora=lora
        )
        wanted = StreamSettings(1, settings, (Blend(prompt, 1.0),))
        frame = self.stream.frame(None, wanted, lambda: wanted)
        if loader := self.stream._loader:
            loader.join(60)
            frame = self.stream.frame(None, wanted, lambda: wanted)
        assert frame is not None
        return frame.image.astype(np.int16)


def test_weights_change_between_streamed_frames(engine: DiffusersEngine) -> None:
    stream = Streamed(engine)
    without = stream()
    frames = [stream(f"film:{weight}") for weight in (0, 0.25, 0.5, 0.75, 1)]
    np.testing.assert_array_equal(frames[0], without)
    steps = [np.abs(frame - without).mean() for frame in frames]
    assert steps == sorted(steps)
    assert steps[1] > 0
    np.testing.assert_array_equal(stream("film:0.5"), frames[2])
    np.testing.assert_array_equal(stream(), without)
    assert not [state for state in stream.said if state.failure]
    assert len(stream.stream._painter._functions) == 2, "one with the LoRA, whatever its weight, and one without"  # type: ignore[union-attr]


def test_a_job_between_two_frames_leaves_the_stream_as_it_was(engine: DiffusersEngine) -> None:
    paint(engine)
    stream = Streamed(engine)
    before = stream("film:0.7")
    assert engine._painter._model is stream.stream.model  # type: ignore[union-attr]
    paint(engine, "sketch")
    np.testing.assert_array_equal(stream("film:0.7"), before)
    assert stream.stream.patience is None


def test_a_stream_goes_on_without_what_cannot_be_loaded(
    engine: DiffusersEngine, files: dict[str, Path], tmp_path: Path
) -> None:
    stream = Streamed(engine)
    without, film = stream(), stream("film:0.7")
    for lora in ("film:0.7 later:0.5", "film:0.7 later:0.6", "film:0.7 later:0.6"):
        np.testing.assert_array_equal(stream(lora), film)
    failures = [state.failure for state in stream.said if state.failure]
    assert [failure.code for failure in failures] == ["missing_model"], "said once"
    np.testing.assert_array_equal(stream(), without)
    models.add(shutil.copy(files["sketch"], tmp_path / "later.safetensors"))
    assert np.abs(stream("film:0.7 later:0.6") - film).mean() > 0.5
    np.testing.assert_array_equal(stream("film:0.7"), film)


def test_passes_and_loras_together(engine: DiffusersEngine) -> None:
    """ControlNets are no part of what a LoRA changes."""
    values = {"model": "mini", "prompt": "brick", "seed": 3, "steps": 2, "control_depth": False, "control_normal": True}
    requests = [
        Generate(Settings.from_mapping(values | {"lora": lora}), SIDE, SIDE, make_passes(SIDE, SIDE))
        for lora in ("", "film:0.5")
    ]
    plain, styled = (engine.paint(request, Recorder()).image.astype(np.int16) for request in requests)
    assert np.abs(plain - styled).mean() > 1
