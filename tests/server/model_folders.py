"""Files of models that are well formed, and nothing more: what the registry looks at before anything is loaded."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from paintover.bridge.errors import BadModelFile
from paintover.server import model_files, models


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



def refused(path: Path, **options: Any) -> str:
    """Why it cannot be added; it is not on the list afterwards."""
    with pytest.raises(BadModelFile) as caught:
        models.add(path, **options)
    assert caught.value.hint
    assert [entry.name for entry in models.installed()] == [entry.name for entry in models.BUILT_IN]
    return caught.value.message
