"""LoRAs and motion adapters in the registry: how they tell their family, and where they are found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from paintover.bridge.errors import BadModelFile, BadParameter, MissingModel
from paintover.server import extras, models

from .model_folders import refused, write_control, write_tensors

LAYER = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"

pytestmark = pytest.mark.usefixtures("data")


def lora_shapes(width: int, form: str = "kohya") -> dict[str, tuple[int, ...]]:
    """The telling tensors of a LoRA, as one of three kinds of program writes them."""
    if form == "kohya":
        layer = f"lora_unet_{LAYER.replace('.', '_')}"
        return {f"{layer}.lora_down.weight": (4, width), f"{layer}.lora_up.weight": (8, 4), f"{layer}.alpha": ()}
    if form == "peft":
        return {f"unet.{LAYER}.lora_A.weight": (4, width), f"unet.{LAYER}.lora_B.weight": (8, 4)}
    layer = f"unet.{LAYER.replace('to_k', 'processor.to_k_lora')}"
    return {f"{layer}.down.weight": (4, width), f"{layer}.up.weight": (8, 4)}


@pytest.mark.parametrize("form", ["kohya", "peft", "diffusers"])
@pytest.mark.parametrize(("width", "family"), [(768, "sd15"), (2048, "sdxl"), (128, "sd15")])
def test_loras_tell_their_family(tmp_path: Path, form: str, width: int, family: str) -> None:
    file = write_tensors(tmp_path / "my style.v2.safetensors", lora_shapes(width, form))
    assert models.add(file) == "my_style.v2"
    assert extras.lora("my_style.v2") == models.Extra("my_style.v2", family, str(file))
    assert models.add(file, name="other", kind="lora", family=family) == "other"
    with pytest.raises(BadParameter, match="family"):
        models.add(file, family="sd15" if family == "sdxl" else "sdxl")
    for wrong in ({"kind": "motion"}, {"control": "depth"}, {"name": "two words"}):
        with pytest.raises(BadParameter):
            models.add(file, **wrong)


def test_a_lora_that_does_not_tell_its_family(tmp_path: Path) -> None:
    assert "another family" in refused(write_tensors(tmp_path / "sd2.safetensors", lora_shapes(1024)))
    file = write_tensors(tmp_path / "odd.safetensors", {"lora_unet_conv_in.lora_down.weight": (4, 4, 3, 3)})
    with pytest.raises(BadParameter) as caught:
        models.add(file)
    assert "--family" in caught.value.hint
    assert models.add(file, family="sd15") == "odd"


def test_folders_of_loras_as_other_programs_have_them(tmp_path: Path) -> None:
    """What comes into them later is installed, too; what was added by itself goes first."""
    folder = tmp_path / "webui" / "models" / "Lora"
    write_tensors(folder / "film.safetensors", lora_shapes(768))
    write_tensors(folder / "people" / "old man.safetensors", lora_shapes(2048))
    (folder / "notes.txt").write_text("mine")
    assert models.add(folder, kind="lora") == models.add(folder, kind="lora") == str(folder)
    write_tensors(folder / "lcm" / "pytorch_lora_weights.safetensors", lora_shapes(768))
    assert list(extras.loras()) == ["film", "lcm", "old_man"]
    assert extras.lora("old_man").family == "sdxl"
    own = write_tensors(tmp_path / "own.safetensors", lora_shapes(768))
    models.add(own, name="film")
    assert extras.lora("film").path == str(own)
    with pytest.raises(MissingModel) as caught:
        extras.lora("flim")
    assert "film, lcm, old_man" in caught.value.hint
    models.remove("film")
    assert extras.lora("film").path == str(folder / "film.safetensors")
    models.remove(str(folder))
    assert not extras.loras()
    for wrong in (tmp_path / "nowhere", tmp_path / "data"):
        with pytest.raises(BadModelFile):
            models.add(wrong, kind="lora")


def test_motion_adapters(tmp_path: Path) -> None:
    folder = write_control(tmp_path / "mm v15")
    (folder / "config.json").write_text(json.dumps({"_class_name": "MotionAdapter"}))
    assert models.add(folder, kind="motion") == models.add(folder) == "mm_v15"
    assert extras.motion("mm_v15").path == str(folder)
    with pytest.raises(MissingModel) as caught:
        extras.motion("mm")
    assert "mm_v15" in caught.value.hint
    models.remove("mm_v15")
    with pytest.raises(MissingModel):
        extras.motion("mm_v15")
    with pytest.raises(BadParameter):
        models.add(write_control(tmp_path / "net"), kind="motion")


def test_a_list_from_before_there_were_loras(data: Path) -> None:
    data.mkdir()
    (data / "models.json").write_text('{"models": {}, "controls": {}}')
    assert not extras.loras()
    (data / "models.json").write_text('{"models": {}, "controls": {}, "lora": {"film": {"family": "x", "path": "y"}}}')
    with pytest.raises(BadModelFile, match="damaged"):
        extras.loras()
