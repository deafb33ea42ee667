"""A model with a LoRA of its own and a small decoder, as mini-turbo is: both are used, and the files are checked."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch
from diffusers import AutoencoderTiny, LCMScheduler, StableDiffusionPipeline

from paintover.bridge.errors import BadModelFile
from paintover.bridge.messages import Generate
from paintover.bridge.parameters import Settings
from paintover.server import models
from paintover.server.pipelines.engine import DiffusersEngine

from .tiny_models import Recorder

pytestmark = pytest.mark.skipif(
    not Path(models.MINI_TURBO.decoder).is_dir(), reason="server/mini_turbo has not been trained yet"
)
SIDE = 128


def request(entry: models.ModelEntry = models.MINI_TURBO, **changes: object) -> Generate:
    values = {**entry.defaults, "model": entry.name, "prompt": "a red sphere", "seed": 3, **changes}
    return Generate(Settings.from_mapping(values), SIDE, SIDE)


def test_it_is_installed_and_sound() -> None:
    models.validate(models.MINI_TURBO)
    assert models.resolve("mini-turbo") == models.MINI_TURBO
    assert models.resolve("mini") == models.MINI
    assert "mini-turbo" in {info.name for info in models.infos()}


def test_the_same_picture_as_the_stock_pipeline() -> None:
    """Merged into the UNet, the LoRA does what the stock pipeline does with it beside the UNet."""
    ours, _ = DiffusersEngine("cpu").paint_float(request(), Recorder())
    pipeline = StableDiffusionPipeline.from_pretrained(models.MINI.path, torch_dtype=torch.float32)
    lora = Path(models.MINI_TURBO.lora)
    pipeline.unet.load_lora_adapter(lora.parent, weight_name=lora.name, prefix=None)
    pipeline.vae = AutoencoderTiny.from_pretrained(models.MINI_TURBO.decoder, torch_dtype=torch.float32)
    pipeline.scheduler = LCMScheduler.from_config(pipeline.scheduler.config)
    stock = pipeline(
        "a red sphere",
        num_inference_steps=2,
        guidance_scale=1.0,
        width=SIDE,
        height=SIDE,
        generator=torch.Generator().manual_seed(3),
        output_type="np",
    ).images[0]
    np.testing.assert_allclose(ours, stock, atol=2e-3)


def test_one_engine_changes_between_mini_and_turbo() -> None:
    """The LoRA is merged into weights of its own: mini afterwards paints what it painted before."""
    engine = DiffusersEngine("cpu")
    before = engine.paint(request(models.MINI, steps=2), Recorder()).image
    turbo = engine.paint(request(), Recorder()).image
    after = engine.paint(request(models.MINI, steps=2), Recorder()).image
    np.testing.assert_array_equal(before, after)
    assert (turbo != before).mean() > 0.5


@pytest.mark.parametrize("part", ["lora", "decoder"])
def test_damaged_parts_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    shutil.copytree(Path(models.MINI_TURBO.decoder).parent, tmp_path / "turbo")
    entry = dataclasses.replace(
        models.MINI_TURBO,
        lora=str(tmp_path / "turbo" / Path(models.MINI_TURBO.lora).name),
        decoder=str(tmp_path / "turbo" / "decoder"),
    )
    monkeypatch.setattr(models, "BUILT_IN", (models.MINI, entry))
    weights = Path(entry.lora) if part == "lora" else Path(entry.decoder) / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(BadModelFile, match="cut short"):
        models.validate(entry)
    with pytest.raises(BadModelFile):
        DiffusersEngine("cpu").paint(request(entry), Recorder())
