"""Single-file checkpoints, as AUTOMATIC1111 and ComfyUI keep them, paint what their diffusers folders paint."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from safetensors.torch import load_file, save_file

from paintover.bridge.errors import BadModelFile
from paintover.bridge.messages import Generate
from paintover.bridge.parameters import Settings
from paintover.server import models
from paintover.server.pipelines.engine import DiffusersEngine

from .tiny_models import Recorder, make_passes, write_model

pytestmark = pytest.mark.usefixtures("one_thread")

RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
          "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}  # fmt: skip
TOP = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
       "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}  # fmt: skip


def original_unet_key(key: str) -> str:
    """The original code's name for a weight of tiny_models' SD1.5 UNet (two levels, one layer each) or ControlNet."""
    for ours, theirs in TOP.items():
        key = re.sub(rf"^{ours}\.", f"{theirs}.", key)
    key = re.sub(r"^(.*resnets\.\d+)\.(\w+)\.", lambda m: f"{m[1]}.{RESNET[m[2]]}.", key)
    places = {
        "down_blocks.0.resnets.0": "input_blocks.1.0", "down_blocks.0.attentions.0": "input_blocks.1.1",
        "down_blocks.0.downsamplers.0.conv": "input_blocks.2.0.op", "down_blocks.1.resnets.0": "input_blocks.3.0",
        "mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1",
        "mid_block.resnets.1": "middle_block.2", "up_blocks.0.resnets.0": "output_blocks.0.0",
        "up_blocks.0.resnets.1": "output_blocks.1.0", "up_blocks.0.upsamplers.0": "output_blocks.1.1",
        "up_blocks.1.resnets.0": "output_blocks.2.0", "up_blocks.1.attentions.0": "output_blocks.2.1",
        "up_blocks.1.resnets.1": "output_blocks.3.0", "up_blocks.1.attentions.1": "output_blocks.3.1",
    }  # fmt: skip
    for ours, theirs in places.items():
        if key.startswith(ours + "."):
            return theirs + key[len(ours) :]
    return key


def original_vae(state: dict[str, Any]) -> dict[str, Any]:
    """The original code's names for the VAE's weights; its attention is made of 1 × 1 convolutions."""
    original = {}
    for key, value in state.items():
        key = key.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        key = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2", key)
        key = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", key)
        key = re.sub(r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"up.{3 - int(m[1])}.block.{m[2]}", key)
        key = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{3 - int(m[1])}.upsample", key)
        key = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", key)
        if "mid_block.attentions.0" in key:
            key = key.replace("mid_block.attentions.0", "mid.attn_1").replace("group_norm", "norm")
            for ours, theirs in (("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
                if f".{ours}." in key:
                    key = key.replace(f".{ours}.", f".{theirs}.")
                    value = value[:, :, None, None] if value.ndim == 2 else value
        original[f"first_stage_model.{key}"] = value.contiguous()
    return original


def write_checkpoint(folder: Path, path: Path) -> Path:
    """One .safetensors file in the original layout with the weights of a tiny diffusers folder."""
    unet = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    state = {f"model.diffusion_model.{original_unet_key(key)}": value for key, value in unet.items()}
    state |= original_vae(load_file(folder / "vae" / "diffusion_pytorch_model.safetensors"))
    for key, value in load_file(folder / "text_encoder" / "model.safetensors").items():
        state[f"cond_stage_model.transformer.text_model.{key.removeprefix('text_model.')}"] = value
    save_file(state, path)
    return path


def original_control_key(key: str) -> str:
    """The original code's name for a weight of a ControlNet."""
    key = re.sub(r"^controlnet_down_blocks\.(\d)\.", r"zero_convs.\1.0.", key)
    key = re.sub(r"^controlnet_mid_block\.", "middle_block_out.0.", key)
    key = re.sub(r"^controlnet_cond_embedding\.conv_in\.", "input_hint_block.0.", key)
    key = re.sub(r"^controlnet_cond_embedding\.conv_out\.", "input_hint_block.14.", key)
    key = re.sub(r"^controlnet_cond_embedding\.blocks\.(\d)\.", lambda m: f"input_hint_block.{2 * int(m[1]) + 2}.", key)
    return f"control_model.{original_unet_key(key)}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # The converters know SD1.5 by the width of its text embeddings.
    return write_model(tmp_path_factory.mktemp("tiny") / "tiny", "sd15", text_width=768)


def request(model: str, controls: bool = False) -> Generate:
    settings = Settings(prompt="brick", model=model, steps=2, seed=1, control_depth=controls)
    return Generate(settings, 64, 64, passes=make_passes(64, 64))


def test_a_checkpoint_paints_like_its_folder(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAINTOVER_DATA", str(tmp_path / "data"))
    models.add(folder, name="folder")
    models.add(write_checkpoint(folder, tmp_path / "file.safetensors"))
    engine = DiffusersEngine("cpu")
    with pytest.raises(BadModelFile) as caught:
        engine.paint(request("file"), Recorder())
    assert "models fetch sd15-config" in caught.value.hint
    monkeypatch.setitem(models.BASE_HUB, "sd15", str(folder))
    file = engine.paint_float(request("file"), Recorder())[0]
    whole = engine.paint_float(request("folder"), Recorder())[0]
    np.testing.assert_allclose(file, whole, atol=1e-5)

    models.add(folder / "controlnet-depth", control="depth")
    steered = engine.paint_float(request("folder", controls=True), Recorder())[0]
    assert np.abs(steered - whole).max() > 0.01
    net = load_file(folder / "controlnet-depth" / "diffusion_pytorch_model.safetensors")
    original = {original_control_key(key): value for key, value in net.items()}
    save_file(original, tmp_path / "depth.safetensors")
    models.add(tmp_path / "depth.safetensors", control="depth")
    again = engine.paint_float(request("folder", controls=True), Recorder())[0]
    np.testing.assert_allclose(again, steered, atol=1e-5)
