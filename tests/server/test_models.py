"""The model registry: what is recognised, what is refused and in which words, what is remembered."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from paintover.bridge.errors import (
    BadModelFile,
    BadParameter,
    MissingModel,
    PaintoverError,
    UnsupportedControl,
)
from paintover.bridge.parameters import BY_NAME, CONTROLS
from paintover.server import catalogue, extras, model_files, models

BUILT_IN = [entry.name for entry in models.BUILT_IN]


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    monkeypatch.setenv("PAINTOVER_DATA", str(folder))
    return folder


def write_tensors(path: Path, shapes: dict[str, tuple[int, ...]]) -> Path:
    """A valid .safetensors file of zeros (float16)."""
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 2
        for side in shape:
            size *= side
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))
    return path


def write_folder(path: Path, family: str = "sd15", variant: str = "") -> Path:
    """A diffusers folder whose files are well formed, and nothing more."""
    dot = f".{variant}" if variant else ""
    for component in model_files.COMPONENTS[family]:
        folder = path / component
        folder.mkdir(parents=True)
        if component.startswith("tokenizer"):
            (folder / "vocab.json").write_text("{}")
            (folder / "merges.txt").write_text("")
        elif component == "scheduler":
            (folder / "scheduler_config.json").write_text('{"_class_name": "DDIMScheduler"}')
        else:
            (folder / "config.json").write_text("{}")
            stem = "model" if component.startswith("text") else "diffusion_pytorch_model"
            write_tensors(folder / f"{stem}{dot}.safetensors", {"weight": (2, 2)})
    name = {"sd15": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline"}[family]
    (path / "model_index.json").write_text(json.dumps({"_class_name": name}))
    return path


def write_control(path: Path, family: str = "sd15") -> Path:
    path.mkdir(parents=True)
    kind = "text_time" if family == "sdxl" else None
    (path / "config.json").write_text(json.dumps({"_class_name": "ControlNetModel", "addition_embed_type": kind}))
    write_tensors(path / "diffusion_pytorch_model.safetensors", {"weight": (2, 2)})
    return path


def checkpoint(width: int, encoder: str = "cond_stage_model") -> dict[str, tuple[int, ...]]:
    """The telling tensors of a single-file checkpoint whose text embeddings are `width` wide."""
    return {
        "model.diffusion_model.input_blocks.0.0.weight": (4, 4, 3, 3),
        "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight": (4, width),
        f"{encoder}.transformer.text_model.embeddings.position_ids": (1, 77),
        "first_stage_model.encoder.conv_in.weight": (4, 3, 3, 3),
    }


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


# ---------------------------------------------------------------- LoRAs and motion adapters

LAYER = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"


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


# ---------------------------------------------------------------- refusing


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(BadModelFile) as caught:
        models.add(path, **options)
    assert caught.value.hint
    assert [entry.name for entry in models.installed() if entry.name not in BUILT_IN] == []
    return caught.value.message


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


# ---------------------------------------------------------------- fetching


SD15_FILES = [
    "README.md", "model_index.json", "v1-5-pruned.ckpt", "v1-5-pruned-emaonly.safetensors",
    "safety_checker/config.json",
    "safety_checker/model.safetensors", "scheduler/scheduler_config.json", "text_encoder/config.json",
    "text_encoder/model.safetensors", "text_encoder/model.fp16.safetensors", "text_encoder/pytorch_model.bin",
    "tokenizer/vocab.json", "tokenizer/merges.txt", "unet/config.json", "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.non_ema.safetensors", "vae/config.json", "vae/diffusion_pytorch_model.safetensors",
]  # fmt: skip


def test_only_what_is_needed_is_fetched() -> None:
    wanted = catalogue.wanted_files(catalogue.known("sd15"), SD15_FILES)
    assert [file for file in wanted if file.endswith(".safetensors")] == [
        "text_encoder/model.fp16.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    ]
    assert {"model_index.json", "tokenizer/merges.txt", "unet/config.json"} <= set(wanted)
    assert not any(file.endswith((".bin", ".ckpt", ".md")) or "safety" in file for file in wanted)
    config = catalogue.wanted_files(catalogue.known("sd15-config"), SD15_FILES)
    assert config
    assert not any(file.endswith(".safetensors") for file in config)
    control = ["config.json", "diffusion_pytorch_model.bin", "diffusion_pytorch_model.safetensors", "images/a.png"]
    assert catalogue.wanted_files(catalogue.known("sd15-depth"), control) == [control[0], control[2]]


@pytest.mark.parametrize("error", ["OSError", "HTTPError"])
def test_offline_says_what_to_do(monkeypatch: pytest.MonkeyPatch, error: str) -> None:
    import huggingface_hub

    def unreachable(*args: Any, **options: Any) -> None:
        raise OSError("no route") if error == "OSError" else huggingface_hub.errors.HTTPError("no route")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    with pytest.raises(PaintoverError, match="sd15 could not be fetched") as caught:
        catalogue.fetch("sd15", lambda done, total: None)
    assert "models add PATH" in caught.value.hint
    with pytest.raises(MissingModel) as missing:
        catalogue.fetch("flux", lambda done, total: None)
    assert "sd15-depth" in missing.value.hint


def test_fetched_models_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is played by a folder in its cache's layout; progress counts the bytes of all files together."""
    import huggingface_hub

    cache = tmp_path / "cache" / "models--stable-diffusion-v1-5--stable-diffusion-v1-5"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    listing = write_folder(tmp_path / "listing")
    names = [file.relative_to(listing).as_posix() for file in listing.rglob("*") if file.is_file()]
    siblings = [SimpleNamespace(rfilename=name, size=100) for name in [*names, "unet/old.bin"]]

    def download(repo: str, allow_patterns: list[str], tqdm_class: Any) -> str:
        tqdm_class(total=2, desc="Fetching files").update(1)
        received = tqdm_class(total=100, unit="B", unit_scale=True)
        written = tqdm_class(total=100, unit="B", unit_scale=True)
        for _ in allow_patterns:
            received.update(100)
            written.update(100)
        (cache / "refs").mkdir(parents=True)
        (cache / "refs" / "main").write_text("abc")
        write_folder(cache / "snapshots" / "abc")
        return str(cache / "snapshots" / "abc")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *a, **o: SimpleNamespace(siblings=siblings))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(BadModelFile, match="not on this machine"):
        models.located(catalogue.known("sd15").hub)
    assert catalogue.plan("sd15").size == 100 * len(names)
    seen: list[tuple[int, int]] = []
    assert catalogue.fetch("sd15", lambda done, total: seen.append((done, total))) == "sd15"
    assert seen[0] == (100, 100 * len(names))
    assert seen[-1] == (100 * len(names), 100 * len(names))
    assert models.resolve("sd15").path == catalogue.known("sd15").hub
    models.validate(models.resolve("sd15"))
    assert catalogue.plan("sd15").size == 0
    assert models.config_folder("sd15") == cache / "snapshots" / "abc"


def test_the_catalogue_is_sound() -> None:
    names = [item.name for item in catalogue.CATALOGUE]
    assert len(set(names)) == len(names)
    for item in catalogue.CATALOGUE:
        assert item.family in model_files.FAMILIES
        assert item.control in ("", *CONTROLS)
        assert models.HUB_ID.fullmatch(item.hub)
        assert item.licence
        assert item.gigabytes > 0


def test_the_registry_needs_no_torch() -> None:
    import subprocess

    code = "import sys; import paintover.server.models; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
