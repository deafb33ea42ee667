"""What a model file or folder holds, told from its headers and config files alone: no weights are read.

Nothing here unpickles anything: weights are safetensors, whose header is plain JSON
(https://huggingface.co/docs/safetensors: 8 bytes of little-endian header length, the header, the tensors).
"""

from __future__ import annotations

import functools
import json
import math
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from paintover.bridge.errors import BadModelFile

SD15, SDXL = "sd15", "sdxl"
FAMILIES = (SD15, SDXL)
PICKLES = (".ckpt", ".bin", ".pt", ".pth")
MAX_HEADER = 100 << 20
"""Bytes; the safetensors library's own limit."""

MAX_CONFIG = 16 << 20
"""Bytes: a configuration has a few thousand."""
ITEM_SIZES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
              "I8": 1, "U8": 1, "BOOL": 1}  # fmt: skip
WIDTHS = ("block_out_channels", "cross_attention_dim", "hidden_size", "intermediate_size", "vocab_size")
"""Sizes in configurations that some tensor must have: memory is taken for them before any tensor is read."""
COUNTS = ("layers_per_block", "num_hidden_layers", "transformer_layers_per_block")
"""Numbers of layers in configurations: there cannot be more of them than tensors."""

INDEXES = ("model_index.json", "config.json")
"""What tells that a folder is a model, or a part of one."""
COMPONENTS = {
    SD15: ("unet", "vae", "text_encoder", "tokenizer", "scheduler"),
    SDXL: ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler"),
}
"""The subfolders of a diffusers folder that a family needs."""

_CROSS_ATTENTION = {768: SD15, 2048: SDXL}
"""Width of the text embeddings -> family."""
_MINI_WIDTH = 128
"""mini's: it is an SD 1.5 of another size."""
_LORA_KEY = re.compile(r"attn2[._](processor\.)?to_k[._].*(down|lora_A)\.weight")
"""The part of a LoRA that reads the text embeddings, in the names of diffusers, peft and kohya's scripts."""
_NOT_LORAS = {
    "hada_": "a LoHa", "lokr_": "a LoKr", "lora_mid": "a LoCon with Tucker decomposition", "dora_scale": "a DoRA",
    "lora_magnitude": "a DoRA", "control_model.": "a Control-LoRA", "lora_controlnet": "a Control-LoRA",
}  # fmt: skip
"""What a name of a tensor tells of kinds that diffusers does not load, or loads without a part of them."""


@dataclass(frozen=True)
class Found:
    """What a path holds."""

    kind: str
    """"model", "control", "lora" or "motion"."""
    family: str
    """Empty for a LoRA that does not tell it."""
    single_file: bool


KINDS = {"model": "model", "control": "ControlNet", "lora": "LoRA", "motion": "motion adapter"}
"""Of Found, in words."""

P = ParamSpec("P")
R = TypeVar("R")


def _named_errors(check: Callable[Concatenate[Path, P], R]) -> Callable[Concatenate[Path, P], R]:
    """Whatever the file system says about a file becomes BadModelFile: no rights, a loop of links, too long a name."""

    @functools.wraps(check)
    def checked(path: Path, *args: P.args, **options: P.kwargs) -> R:
        try:
            return check(path, *args, **options)
        except OSError as error:
            where = Path(error.filename).name if isinstance(error.filename, str) else path.name
            raise BadModelFile(name=where, reason=f"it cannot be read ({error.strerror or error})") from error
        except RecursionError as error:
            raise BadModelFile(name=path.name, reason="it is nested too deeply to be one") from error

    return checked


def _must_be_file(path: Path) -> None:
    if not path.is_file():  # a folder, a pipe that would be waited for, a device that never ends
        raise BadModelFile(name=path.name, reason="it is not a file")


@_named_errors
def read_header(path: Path) -> dict[str, tuple[int, ...]]:
    """Tensor name -> shape of a .safetensors file, or BadModelFile if it is anything else or not complete."""
    name = path.name
    _must_be_file(path)
    with path.open("rb") as file:
        start = file.read(8)
        size = path.stat().st_size
        if size == 0:
            raise BadModelFile(name=name, reason="it is empty")
        if start[:2] == b"PK" or start[:1] == b"\x80":
            raise BadModelFile(name=name, reason="it is a pickle (it could run programs), not safetensors")
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else MAX_HEADER + 1
        if length > MAX_HEADER:
            raise BadModelFile(name=name, reason="it is not a safetensors file")
        if 8 + length > size:
            raise BadModelFile(name=name, reason=_truncated(size, 8 + length))
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            found = {key: _tensor(entry) for key, entry in header.items()}
        except (ValueError, AttributeError, KeyError, TypeError, IndexError) as error:
            raise BadModelFile(name=name, reason="it is not a safetensors file") from error
    end = max((end for _, end in found.values()), default=0)
    if 8 + length + end > size:
        raise BadModelFile(name=name, reason=_truncated(size, 8 + length + end))
    return {key: shape for key, (shape, _) in found.items()}


def _tensor(entry: Any) -> tuple[tuple[int, ...], int]:
    """Shape and end of a tensor, as its header's entry says; ValueError if that cannot be true."""
    shape, (begin, end), dtype = tuple(entry["shape"]), entry["data_offsets"], entry["dtype"]
    if not all(type(number) is int and number >= 0 for number in (*shape, begin, end)):
        raise ValueError("a size that is none")
    if dtype in ITEM_SIZES and end - begin != ITEM_SIZES[dtype] * math.prod(shape):
        raise ValueError("a tensor that is not as long as its shape says")
    return shape, end


def _truncated(have: int, want: int) -> str:
    return f"it is cut short ({have:,} of {want:,} bytes)"


@_named_errors
def read_config(path: Path) -> dict[str, Any]:
    """The JSON object in `path`, or BadModelFile."""
    try:
        if path.exists():
            _must_be_file(path)
        if path.stat().st_size > MAX_CONFIG:
            raise BadModelFile(name=str(path), reason="it is too large for a configuration")
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadModelFile(name=str(path.parent), reason=f"it has no {path.name}") from None
    except ValueError as error:
        raise BadModelFile(name=str(path), reason="it is not valid JSON") from error
    if not isinstance(config, dict):
        raise BadModelFile(name=str(path), reason="it is not a JSON object")
    return config


@_named_errors
def inspect(path: Path) -> Found:
    """What `path` (a diffusers folder or a .safetensors file) holds, or BadModelFile in plain words."""
    if path.is_dir():
        return _inspect_folder(path)
    if not path.exists():
        raise BadModelFile(name=str(path), reason="it does not exist", hint="Check the path.")
    if path.suffix.lower() in PICKLES:
        raise BadModelFile(
            name=path.name,
            reason="it is a pickle (it could run programs)",
            hint="Look for the same model as .safetensors.",
        )
    if path.suffix != ".safetensors":  # by the ending the libraries choose how to read a file: others they unpickle
        raise BadModelFile(name=path.name, reason="its name does not end in .safetensors")
    return _inspect_file(path)


def _inspect_folder(path: Path) -> Found:
    if (path / "model_index.json").exists():
        pipeline = str(read_config(path / "model_index.json").get("_class_name", ""))
        if pipeline.startswith("StableDiffusionXL"):
            return Found("model", SDXL, False)
        if pipeline.startswith("StableDiffusion") and not pipeline.startswith("StableDiffusion3"):
            return Found("model", SD15, False)
        raise BadModelFile(name=path.name, reason=f"{pipeline or 'its kind'} is neither Stable Diffusion 1.5 nor SDXL")
    if (path / "config.json").exists():
        config = read_config(path / "config.json")
        if config.get("_class_name") == "MotionAdapter":
            return Found("motion", SD15, False)
        if config.get("_class_name") != "ControlNetModel":
            raise BadModelFile(name=path.name, reason=f"it holds a {config.get('_class_name', 'part of a model')}")
        return Found("control", SDXL if config.get("addition_embed_type") == "text_time" else SD15, False)
    files = sorted(file.name for file in path.glob("*.safetensors"))
    if files:
        raise BadModelFile(
            name=path.name,
            reason=f"it is a folder of {len(files)} model files",
            hint=f"Add the files that you want one by one, for example {files[0]}.",
        )
    raise BadModelFile(name=path.name, reason="it has no model_index.json, so it is not a diffusers model folder")


def _inspect_file(path: Path) -> Found:
    """Tell a single file by its tensors' names: those of the original Stable Diffusion and ControlNet code."""
    shapes = read_header(path)
    name = path.name
    if any("lora" in key for key in shapes):
        return Found("lora", _lora_family(name, shapes), True)
    prefix = "model.diffusion_model."
    control = any(
        key.endswith(("input_hint_block.0.weight", "controlnet_cond_embedding.conv_in.weight")) for key in shapes
    )
    if not control and not any(key.startswith(prefix + "input_blocks.") for key in shapes):
        raise BadModelFile(name=name, reason="it is neither a Stable Diffusion 1.5 or SDXL checkpoint nor a ControlNet")
    if not control:
        for start, part in ((("cond_stage_model.", "conditioner."), "text encoder"), (("first_stage_model.",), "VAE")):
            if not any(key.startswith(start) for key in shapes):
                raise BadModelFile(name=name, reason=f"it has no {part}", hint="Choose a complete checkpoint.")
    widths = {
        shape[1]
        for key, shape in shapes.items()
        if key.endswith("attn2.to_k.weight") and len(shape) == 2 and (control or key.startswith(prefix))
    }
    family = _CROSS_ATTENTION.get(widths.pop() if len(widths) == 1 else 0)
    if family is None:
        raise BadModelFile(name=name, reason="it is of another family than Stable Diffusion 1.5 and SDXL")
    return Found("control" if control else "model", family, True)


def _lora_family(name: str, shapes: dict[str, tuple[int, ...]]) -> str:
    """The family of a LoRA, empty where its tensors do not tell; BadModelFile for one that cannot be used."""
    for sign, kind in _NOT_LORAS.items():
        if any(sign in key for key in shapes):
            hint = "Look for the same as a plain LoRA."
            raise BadModelFile(name=name, reason=f"it is {kind}, which is not supported", hint=hint)
    widths = {shape[1] for key, shape in shapes.items() if _LORA_KEY.search(key) and len(shape) >= 2}
    if not widths:
        return SDXL if any(key.startswith(("lora_te2_", "text_encoder_2.")) for key in shapes) else ""
    family = {**_CROSS_ATTENTION, _MINI_WIDTH: SD15}.get(widths.pop() if len(widths) == 1 else 0)
    if family is None:
        reason = "it is of another family than Stable Diffusion 1.5 and SDXL"
        raise BadModelFile(name=name, reason=reason, hint="Choose a LoRA that was made for one of these.")
    return family


@_named_errors
def weights(folder: Path) -> tuple[str | None, tuple[Path, ...]]:
    """The safetensors files of one component and their variant (None or "fp16"); BadModelFile if there are none."""
    for variant in (None, "fp16"):
        dot = f".{variant}" if variant else ""
        for stem in ("diffusion_pytorch_model", "model"):
            whole = folder / f"{stem}{dot}.safetensors"
            if whole.exists():
                return variant, (whole,)
            index = folder / f"{stem}.safetensors.index{dot}.json"
            if index.exists():
                return variant, tuple(folder / shard for shard in _shards(index))
    if any(file.suffix in PICKLES for file in folder.glob("*")):
        reason = "its weights are pickles (they could run programs), not safetensors"
    else:
        reason = "it has no weights (.safetensors)"
    raise BadModelFile(name=f"{folder.parent.name}/{folder.name}", reason=reason)


def _shards(index: Path) -> list[str]:
    """The files that an index names: plain names of safetensors beside it."""
    found = read_config(index).get("weight_map")
    names = set(map(str, found.values())) if isinstance(found, dict) else set()
    if not names or any(Path(name).name != name or not name.endswith(".safetensors") for name in names):
        raise BadModelFile(name=index.name, reason="it does not name .safetensors files beside it")
    return sorted(names)


@_named_errors
def check_component(folder: Path) -> None:
    """Raise BadModelFile unless `folder` has a config and complete safetensors that can belong to it."""
    config = read_config(folder / "config.json")
    shapes: dict[str, tuple[int, ...]] = {}
    for file in weights(folder)[1]:
        if not file.exists():
            raise BadModelFile(name=f"{folder.name}/{file.name}", reason="it is missing")
        shapes |= read_header(file)
    sides = {side for shape in shapes.values() for side in shape}
    for keys, fits in ((WIDTHS, lambda number: number in sides), (COUNTS, lambda number: 0 <= number <= len(shapes))):
        for key in keys:
            for number in _numbers(config.get(key)):
                if not fits(number):
                    reason = f"its weights do not fit its configuration ({key} = {number})"
                    raise BadModelFile(name=f"{folder.parent.name}/{folder.name}", reason=reason)


def _numbers(value: Any) -> list[float]:
    """The numbers in a configuration's value; other types are for the libraries to refuse."""
    if isinstance(value, list):
        return [number for item in value for number in _numbers(item)]
    return [value] if isinstance(value, (int, float)) and not isinstance(value, bool) else []


@_named_errors
def check_model(path: Path, family: str) -> None:
    """Raise BadModelFile unless `path` holds a complete model of `family`."""
    found = inspect(path)
    if found.kind != "model" or found.family != family:
        raise BadModelFile(name=path.name, reason=f"it holds a {found.family} {found.kind} instead of a {family} model")
    if found.single_file:
        return
    for component in COMPONENTS[family]:
        folder = path / component
        if not folder.is_dir():
            raise BadModelFile(name=path.name, reason=f"its {component} is missing")
        if component.startswith("tokenizer"):
            if not ((folder / "vocab.json").is_file() and (folder / "merges.txt").is_file()):
                raise BadModelFile(name=path.name, reason=f"its {component} has no vocab.json or merges.txt")
        elif component == "scheduler":
            read_config(folder / "scheduler_config.json")
        else:
            check_component(folder)


@_named_errors
def check_control(path: Path) -> None:
    """Raise BadModelFile unless `path` holds a complete ControlNet."""
    found = inspect(path)
    if found.kind != "control":
        raise BadModelFile(name=path.name, reason="it is not a ControlNet")
    if not found.single_file:
        check_component(path)


@_named_errors
def check_extra(path: Path, kind: str) -> None:
    """Raise BadModelFile unless `path` holds a LoRA (kind "lora") or a complete motion adapter ("motion")."""
    if inspect(path).kind != kind:
        raise BadModelFile(name=path.name, reason=f"it is no {KINDS[kind]}")
    if kind == "motion":
        check_component(path)
