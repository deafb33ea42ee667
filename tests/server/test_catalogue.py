"""Models that can be fetched: what of them, how far it is, and what is said without a network."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from paintover.bridge.errors import BadModelFile, MissingModel, PaintoverError
from paintover.bridge.parameters import CONTROLS
from paintover.server import catalogue, model_files, models

from .model_folders import write_folder

pytestmark = pytest.mark.usefixtures("data")

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
