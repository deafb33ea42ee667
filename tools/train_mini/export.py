"""Writes the model folder: what diffusers loads, as fp16 safetensors, with how it was made beside it."""

import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, ControlNetModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel

from . import diffusion, turbo, words
from .hints import CONTROLS
from .run import Run

_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.30.0",
    "requires_safety_checker": False,
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def _painter(run: Run) -> diffusion.Painter:
    """The painter with its averaged weights."""
    path = run.folder / "checkpoints" / "joint.pt"
    if not path.exists():
        raise SystemExit("nothing to export: the part joint has not been trained")
    unet = diffusion.make_unet()
    encoder = CLIPTextModel.from_pretrained(run.folder / "text_encoder")
    nets = {
        control: ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=diffusion.HINT_WIDTHS)
        for control in CONTROLS
    }
    painter = diffusion.Painter(unet, encoder, nets)
    state = torch.load(path, map_location="cpu", weights_only=True)
    painter.load_state_dict(state["model"])
    if not json.loads(path.with_suffix(".json").read_text())["finished"]:
        painter.load_state_dict(state["average"], strict=False)  # finished parts hold their average already
    return painter


def _save(model: torch.nn.Module, folder: Path) -> None:
    model.half().save_pretrained(folder, safe_serialization=True)


def how_it_was_made(run: Run) -> dict:
    """Settings, seeds, samples and the last losses of every part that has been trained."""
    parts = {}
    for path in sorted((run.folder / "checkpoints").glob("*.json")):
        parts[path.stem] = json.loads(path.read_text())
        log = run.folder / "losses" / f"{path.stem}.jsonl"
        lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        every = max(1, len(lines) // 40)  # a curve, not a diary
        parts[path.stem]["losses"] = lines[::every][:-1] + lines[-4:]
    vae = run.folder / "vae" / "training.json"
    return {"parts": parts, "vae": json.loads(vae.read_text()) if vae.exists() else {}}


def export(run: Run) -> Path:
    """Write run.folder / "mini" from the newest checkpoints, finished or not, in one go."""
    folder, temporary = run.folder / "mini", run.folder / "mini.part"
    shutil.rmtree(temporary, ignore_errors=True)
    painter = _painter(run)
    for control, net in painter.controls.items():
        _save(net, temporary / f"controlnet-{control}")
    _save(painter.unet, temporary / "unet")
    _save(painter.encoder, temporary / "text_encoder")
    _save(AutoencoderKL.from_pretrained(run.folder / "vae"), temporary / "vae")
    shutil.copytree(run.folder / "tokenizer", temporary / "tokenizer")
    diffusion.make_scheduler().save_pretrained(temporary / "scheduler")
    (temporary / "model_index.json").write_text(json.dumps(_INDEX, indent=2) + "\n")
    (temporary / "training.json").write_text(json.dumps(how_it_was_made(run), indent=1) + "\n")
    (temporary / "vocabulary.md").write_text(words.vocabulary_page())
    _finish(temporary, folder)
    if (run.folder / "turbo" / turbo.LORA_FILE).exists() and (run.folder / "turbo" / "decoder").exists():
        _export_turbo(run)
    return folder


def _export_turbo(run: Run) -> None:
    folder, temporary = run.folder / "mini_turbo", run.folder / "mini_turbo.part"
    shutil.rmtree(temporary, ignore_errors=True)
    _save(AutoencoderTiny.from_pretrained(run.folder / "turbo" / "decoder"), temporary / "decoder")
    lora = load_file(run.folder / "turbo" / turbo.LORA_FILE)
    save_file({name: weight.half().contiguous() for name, weight in lora.items()}, temporary / turbo.LORA_FILE)
    _finish(temporary, folder)


def _finish(temporary: Path, folder: Path) -> None:
    """Give a finished folder its name, in place of an older one."""
    for config in temporary.glob("*/config.json"):  # no traces of where it was made
        settings = json.loads(config.read_text())
        settings.pop("_name_or_path", None)
        if settings.get("_class_name") == "AutoencoderTiny":  # diffusers writes it, and warns of it when it reads it
            settings.pop("block_out_channels", None)
        config.write_text(json.dumps(settings, indent=2) + "\n")
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    temporary.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    print(f"export: {folder}, {size / 1e6:.2f} MB", flush=True)
