"""What is added to models, by name: LoRAs and motion adapters (models.py lists them)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from paintover.bridge.errors import MissingModel

from . import model_files
from .models import Extra, load, plain_name


def loras() -> dict[str, Path]:
    """The installed LoRAs by name: those that were added one by one, then those of the folders."""
    registry = load()
    found = {name: Path(one.path) for name, one in registry.extras["lora"].items()}
    for folder in registry.lora_folders:
        for file in sorted(Path(folder).rglob("*.safetensors")):
            found.setdefault(plain_name(file), file)
    return found


def lora(name: str) -> Extra:
    """The installed LoRA with this name. MissingModel, BadModelFile."""
    if one := load().extras["lora"].get(name):
        return one
    found = loras()
    if name not in found:
        raise _missing("lora", name, found)
    return Extra(name, model_files.inspect(found[name]).family, str(found[name]))


def motion(name: str) -> Extra:
    """The installed motion adapter with this name, or MissingModel."""
    found = load().extras["motion"]
    if name not in found:
        raise _missing("motion", name, found)
    return found[name]


def _missing(kind: str, name: str, installed: Iterable[str]) -> MissingModel:
    first = sorted(installed)
    more = f" and {len(first) - 8} more" if len(first) > 8 else ""
    have = f"Installed are: {', '.join(first[:8])}{more}." if first else "None is installed yet."
    hint = f"{have} Add it with: paintover models add PATH --{kind}"
    return MissingModel(f"No {model_files.KINDS[kind]} named {name!r} is installed.", hint=hint)
