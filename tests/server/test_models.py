"""The model registry: what is recognised, what is refused and in which words, what is remembered."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from paintover.bridge.errors import BadModelFile, BadParameter, MissingModel, UnsupportedControl
from paintover.bridge.parameters import BY_NAME
from paintover.server import models

from .model_folders import checkpoint, refused, write_control, write_folder, write_tensors

BUILT_IN = [entry.name for entry in models.BUILT_IN]

pytestmark = pytest.mark.usefixtures("data")

# ---------------------------------------------------------------- recognising


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
@pytest.mark.parametrize("variant", ["", "fp16"])
def test_diffusers_folders(tmp_path: Path, family: str, variant: str) -> None:
    folder = write_folder(tmp_path / "castle", family, variant)
    assert models.add(folder) == "castle"
    entry = models.resolve("castle")
    assert (entry.family, entry.path) == (family, str(folder))
    models.validate(entry)


@pytest.mark.parametrize(
    ("shapes", "family"), [(checkpoint(768), "sd15"), (checkpoint(2048, "conditioner.embedders.0"), "sdxl")]
)
def test_single_files(tmp_path: Path, shapes: dict, family: str) -> None:
    file = write_tensors(tmp_path / "dream.v1.safetensors", shapes)
    assert models.add(file) == "dream.v1"
    assert models.resolve("dream.v1").family == family


@pytest.mark.parametrize("prefix", ["control_model.", ""])
def test_single_file_controls(tmp_path: Path, prefix: str) -> None:
    shapes = {f"{prefix}input_hint_block.0.weight": (16, 3, 3, 3),
              f"{prefix}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (4, 768)}  # fmt: skip
    file = write_tensors(tmp_path / "depth.safetensors", shapes)
    assert models.add(file, control="depth") == "sd15 depth"


def test_controls_serve_their_whole_family(tmp_path: Path) -> None:
    models.add(write_folder(tmp_path / "one"))
    models.add(write_folder(tmp_path / "two", "sdxl"))
    control = write_control(tmp_path / "canny")
    models.add(control, control="edge")
    assert models.control_path(models.resolve("one"), "edge") == control
    assert models.resolve("one").lines == "canny"  # as it is called
    assert models.resolve("two").lines == models.resolve("mini").lines == "lineart"
    with pytest.raises(UnsupportedControl):
        models.control_path(models.resolve("two"), "edge")
    assert {info.name: info.controls for info in models.infos() if info.name not in BUILT_IN} == {
        "one": ("edge",),
        "two": (),
    }


# ---------------------------------------------------------------- refusing


def test_a_truncated_file(tmp_path: Path) -> None:
    file = write_tensors(tmp_path / "big.safetensors", checkpoint(768))
    whole = file.read_bytes()
    for length in (len(whole) - 1, 100, 8, 3):
        file.write_bytes(whole[:length])
        assert "cut short" in (words := refused(file)) or length == 3, words
    file.write_bytes(b"")
    assert "empty" in refused(file)


def test_a_truncated_part_of_a_folder(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "castle")
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert "cut short" in refused(folder)


def test_files_that_are_something_else(tmp_path: Path) -> None:
    text = tmp_path / "notes.safetensors"
    text.write_text("These are my notes about models, and nothing else.")
    assert "not a safetensors file" in refused(text)
    text.write_bytes(struct.pack("<Q", 20) + b"not json at all, no." + bytes(100))
    assert "not a safetensors file" in refused(text)
    pickle = tmp_path / "sly.safetensors"
    pickle.write_bytes(b"PK\x03\x04" + bytes(100))
    assert "pickle" in refused(pickle)
    page = write_tensors(tmp_path / "language.safetensors", {"model.layers.0.weight": (2, 2)})
    assert "neither" in refused(page)
    for name in ("hada_w1_a", "lokr_w1", "dora_scale", "lora_mid.weight"):
        kind = write_tensors(tmp_path / "style.safetensors", {f"lora_unet_mid_block.{name}": (2, 2)})
        assert "not supported" in refused(kind)


@pytest.mark.parametrize("suffix", [".ckpt", ".bin", ".pt"])
def test_pickles(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"old{suffix}"
    file.write_bytes(b"\x80\x02}")
    assert "pickle" in refused(file)


def test_a_folder_with_pickled_weights_only(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "castle")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").rename(folder / "unet" / "diffusion_pytorch_model.bin")
    assert "pickles" in refused(folder)


def test_incomplete_folders(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no model_index.json" in refused(tmp_path / "empty")
    assert "does not exist" in refused(tmp_path / "nowhere")
    folder = write_folder(tmp_path / "castle")
    (folder / "text_encoder").rename(folder / "text_encoder_old")
    assert "text_encoder is missing" in refused(folder)
    (folder / "text_encoder_old").rename(folder / "text_encoder")
    (folder / "tokenizer" / "merges.txt").unlink()
    assert "merges.txt" in refused(folder)


def test_a_missing_shard(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "castle")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    index = {"weight_map": {"a": "part-1.safetensors", "b": "part-2.safetensors"}}
    (folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    write_tensors(folder / "unet" / "part-1.safetensors", {"a": (2,)})
    assert "part-2.safetensors" in refused(folder)
    write_tensors(folder / "unet" / "part-2.safetensors", {"b": (2,)})
    models.add(folder)


def test_a_checkpoint_without_its_other_halves(tmp_path: Path) -> None:
    shapes = checkpoint(768)
    del shapes["cond_stage_model.transformer.text_model.embeddings.position_ids"]
    assert "no text encoder" in refused(write_tensors(tmp_path / "unet.safetensors", shapes))


def test_other_families(tmp_path: Path) -> None:
    assert "another family" in refused(write_tensors(tmp_path / "v2.safetensors", checkpoint(1024)))
    folder = write_folder(tmp_path / "flux")
    (folder / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    assert "FluxPipeline" in refused(folder)
    write_tensors(tmp_path / "checkpoints" / "a.safetensors", checkpoint(768))
    assert "folder of 1 model files" in refused(tmp_path / "checkpoints")


def test_wrong_names_and_options(tmp_path: Path) -> None:
    folder, control = write_folder(tmp_path / "castle"), write_control(tmp_path / "net")
    with pytest.raises(BadParameter, match="family sd15"):
        models.add(folder, family="sdxl")
    with pytest.raises(BadParameter, match="not a ControlNet"):
        models.add(folder, control="depth")
    with pytest.raises(BadParameter, match="what it is for"):
        models.add(control)
    for name in ("mini", "../evil", ""):
        if name:
            with pytest.raises(BadParameter):
                models.add(folder, name=name)


# ---------------------------------------------------------------- remembering


def test_only_listed_names_are_resolved(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "castle")
    with pytest.raises(MissingModel, match="castle"):
        models.resolve(str(folder))
    models.add(folder, name="my castle")
    assert models.resolve(str(folder)) == models.resolve("my castle")
    with pytest.raises(MissingModel):
        models.resolve("castle")


def test_removed_models_are_gone_and_their_files_stay(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "castle")
    models.add(folder)
    models.add(write_control(tmp_path / "net"), control="depth")
    assert "depth" in models.resolve("castle").controls
    models.remove("sd15 depth")
    assert models.resolve("castle").controls == {}
    models.remove("castle")
    with pytest.raises(MissingModel):
        models.remove("castle")
    assert (folder / "model_index.json").exists()
    with pytest.raises(BadParameter):
        models.remove("mini")


def test_a_model_that_was_moved_away(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "castle")
    models.add(folder)
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(BadModelFile, match="not on this machine"):
        models.validate(models.resolve("castle"))


def test_a_damaged_list_says_so(data: Path) -> None:
    data.mkdir()
    models.registry_file().write_text('{"models": ')
    with pytest.raises(BadModelFile, match=r"models\.json"):
        models.installed()


def test_defaults_are_valid_parameters() -> None:
    for defaults in (models.MINI.defaults, *models.DEFAULTS.values()):
        for name, value in defaults.items():
            assert BY_NAME[name].check(value) == value


def test_the_registry_needs_no_torch() -> None:
    code = "import sys; import paintover.server.models; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
