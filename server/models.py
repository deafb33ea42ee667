"""The models that this server can paint with: what is installed, by name. A name is all that ever comes off the wire.

`mini` is part of the package. The user's own models are listed in models.json in the data folder: diffusers folders,
single .safetensors files, and hub ids that were fetched into Hugging Face's cache. ControlNets, LoRAs and motion
adapters are listed with their family, and every model of that family can use them.
"""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from paintover.bridge.errors import (
    BadModelFile,
    BadParameter,
    MissingModel,
    UnsupportedControl,
)
from paintover.bridge.messages import ModelInfo
from paintover.bridge.parameters import CONTROLS, Settings
from paintover.bridge.paths import data_folder

from . import disk, model_files
from .model_files import SD15, SDXL

EXTRAS = ("lora", "motion")
"""Kinds of what is added to models."""
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
NAME = re.compile(r"[\w][\w .+()-]{0,99}")
LORA_NAME = re.compile(r"[\w][\w.+()-]{0,99}")
"""Without spaces: they stand between names (see bridge/loras.py)."""


@dataclass(frozen=True)
class ModelEntry:
    """An installed model."""

    name: str
    family: str
    path: str
    """A diffusers folder, a .safetensors file, or a hub id."""
    controls: dict[str, str] = field(default_factory=dict)
    """Control (see parameters.CONTROLS) -> ControlNet, given like `path`."""
    defaults: dict[str, Any] = field(default_factory=dict)
    """Parameter values that suit the model."""
    description: str = ""
    normals: str = "bae"
    """How its normal ControlNet wants normals drawn (see hints.normal_hint)."""
    lora: str = ""
    """A LoRA for the UNet, .safetensors in diffusers' format, that is part of the model."""
    decoder: str = ""
    """A folder with an AutoencoderTiny that decodes in place of the VAE."""

    @property
    def lines(self) -> str:
        """How its edge ControlNet wants lines drawn (see hints.edge_hint), which its name tells."""
        return "canny" if "canny" in self.controls.get("edge", "").lower() else "lineart"


_MINI = Path(__file__).parent / "mini"
MINI = ModelEntry(
    "mini",
    SD15,
    str(_MINI),
    {control: str(_MINI / f"controlnet-{control}") for control in CONTROLS},
    {"size": 256, "steps": 12, "guidance": 3.0, "texture_size": 512, "control_depth": False, "control_normal": True},
    "Small model that comes with Paintover: a few dozen materials and colours, quick on any computer",
    normals="camera",
)
_TURBO = Path(__file__).parent / "mini_turbo"
MINI_TURBO = replace(
    MINI,
    name="mini-turbo",
    defaults={**MINI.defaults, "steps": 2, "guidance": 1.0, "scheduler": "lcm"},
    description="mini in one to four steps, for live work: quicker and rougher",
    lora=str(_TURBO / "pytorch_lora_weights.safetensors"),
    decoder=str(_TURBO / "decoder"),
)
BUILT_IN = (MINI, MINI_TURBO)
DEFAULTS: dict[str, dict[str, Any]] = {
    SD15: {"size": 512, "steps": 20, "guidance": 7.0},
    SDXL: {"size": 1024, "steps": 25, "guidance": 6.0},
}


BASE_HUB = {SD15: "stable-diffusion-v1-5/stable-diffusion-v1-5", SDXL: "stabilityai/stable-diffusion-xl-base-1.0"}
"""Where the configuration and tokenizer for single-file checkpoints come from."""


# ---------------------------------------------------------------- the user's list


@dataclass(frozen=True)
class Extra:
    """A LoRA or a motion adapter: every model of its family can use it."""

    name: str
    family: str
    path: str
    """A .safetensors file or a diffusers folder."""


@dataclass(frozen=True)
class Registry:
    models: dict[str, ModelEntry]
    controls: dict[str, dict[str, str]]
    """Family -> control -> ControlNet."""
    extras: dict[str, dict[str, Extra]] = field(default_factory=lambda: {kind: {} for kind in EXTRAS})
    """Kind -> name -> what it is."""
    lora_folders: list[str] = field(default_factory=list)
    """Folders whose LoRAs are all installed, by their file names."""


def registry_file() -> Path:
    return data_folder() / "models.json"


def load() -> Registry:
    path = registry_file()
    if not path.exists():
        return Registry({}, {})
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        models = {name: _entry(name, entry) for name, entry in plain["models"].items()}
        controls = {family: _texts(one) for family, one in plain["controls"].items()}
        extras = {kind: {name: _extra(name, **one) for name, one in plain.get(kind, {}).items()} for kind in EXTRAS}
        return Registry(models, controls, extras, list(_texts(dict(enumerate(plain.get("lora_folders", [])))).values()))
    except (ValueError, TypeError, KeyError, AttributeError, OSError, RecursionError, BadParameter) as error:
        raise BadModelFile(
            name=str(path), reason=f"it is damaged ({error})", hint="Mend it, or delete it and add your models again."
        ) from error


def _entry(name: str, plain: dict[str, Any]) -> ModelEntry:
    """An entry of the list; TypeError or ValueError unless every value is of its type."""
    entry = ModelEntry(name=name, **plain)
    if entry.family not in model_files.FAMILIES:
        raise ValueError(f"{name} is of no known family")
    for text in (entry.path, entry.description, entry.normals):
        if not isinstance(text, str):
            raise TypeError(f"{name} has a {type(text).__name__} where a text belongs")
    Settings.from_mapping(dict(entry.defaults))
    return replace(entry, controls=_texts(entry.controls))


def _extra(name: str, family: str, path: str) -> Extra:
    if family not in model_files.FAMILIES or not isinstance(path, str):
        raise ValueError(f"{name} is of no known family, or has no path")
    return Extra(name, family, path)


def _texts(plain: Any) -> dict[str, str]:
    texts = dict(plain)
    if not all(isinstance(text, str) for text in texts.values()):
        raise TypeError("a path is not a text")
    return texts


def save(registry: Registry) -> None:
    """Write the list whole or not at all, so that a server that reads meanwhile never sees half of it.

    Raises DiskFull or NotStored.
    """
    entries = {name: asdict(entry) for name, entry in sorted(registry.models.items())}
    for entry in entries.values():
        del entry["name"]
    path = registry_file()
    extras = {
        kind: {one.name: {"family": one.family, "path": one.path} for one in found.values()}
        for kind, found in registry.extras.items()
    }
    plain = {"models": entries, "controls": registry.controls, **extras, "lora_folders": registry.lora_folders}
    with disk.told("the list of models", path.parent, f"Look at {path.parent}, then run it again."):
        disk.write(path, [json.dumps(plain, indent=2).encode()])


def installed() -> list[ModelEntry]:
    """Every installed model, the built-in ones first."""
    registry = load()
    own = [
        replace(entry, controls={**registry.controls.get(entry.family, {}), **entry.controls})
        for entry in registry.models.values()
    ]
    return [entry for entry in BUILT_IN if Path(entry.decoder or entry.path).is_dir()] + own


def resolve(name: str) -> ModelEntry:
    """The installed model with this name (or listed with this path or hub id), or MissingModel."""
    for entry in installed():
        if name in (entry.name, entry.path):
            return entry
    raise MissingModel(name=name)


def infos() -> tuple[ModelInfo, ...]:
    """What clients are told about the installed models."""
    return tuple(
        ModelInfo(
            entry.name,
            entry.family,
            tuple(c for c in CONTROLS if c in entry.controls),
            entry.defaults,
            entry.description,
        )
        for entry in installed()
    )


def located(source: str) -> Path:
    """Where a path or hub id lies on this machine, or BadModelFile. Never goes to the network."""
    path = Path(source)
    with contextlib.suppress(OSError, ValueError):  # too long, or not a path at all: then it is not here
        if path.exists():
            return path
    if HUB_ID.fullmatch(source):
        from huggingface_hub import try_to_load_from_cache  # slow to import, and seldom needed

        for file in ("model_index.json", "config.json"):
            found = try_to_load_from_cache(source, file)
            if isinstance(found, str):
                return Path(found).parent
    raise BadModelFile(name=source, reason="it is not on this machine any more", hint="Fetch or add it again.")


def config_folder(family: str) -> Path:
    """The configuration and tokenizer that a single-file checkpoint of `family` is read with."""
    try:
        return located(BASE_HUB[family])
    except BadModelFile:
        raise BadModelFile(
            name=f"{family}-config",
            reason="single-file checkpoints need its configuration, which is not on this machine",
            hint=f"Run: paintover models fetch {family}-config (a few MB)",
        ) from None


def control_path(entry: ModelEntry, control: str) -> Path:
    """Where the ControlNet for `control` lies, or UnsupportedControl."""
    if control not in entry.controls:
        raise UnsupportedControl(model=entry.name, control=control)
    return located(entry.controls[control])


def validate(entry: ModelEntry) -> None:
    """Check every file of a model by its header; BadModelFile says what is wrong. Takes milliseconds."""
    model_files.check_model(located(entry.path), entry.family)
    for source in entry.controls.values():
        model_files.check_control(located(source))
    if entry.lora:
        model_files.read_header(Path(entry.lora))
    if entry.decoder:
        model_files.check_component(Path(entry.decoder))


def plain_name(file: Path) -> str:
    """What a LoRA is called: as its file, without spaces; a file that has everybody's name as its folder."""
    stem = file.parent.name if file.stem in ("pytorch_lora_weights", "adapter_model") else file.stem
    return re.sub(r"[^\w.+()-]+", "_", stem).lstrip(".+()-") or "lora"


def add(
    path: str | Path, name: str | None = None, family: str | None = None, control: str | None = None,
    kind: str | None = None,
) -> str:  # fmt: skip
    """List what lies on this machine; returns its name, or "family control" for a ControlNet.

    Family and kind are told from the file; `family` and `kind` (see model_files.KINDS) are only checked against that.
    But a folder may be one of LoRAs, and a LoRA may not tell its family. A ControlNet needs `control`.
    Raises BadModelFile for anything that cannot be used, and BadParameter for wrong or missing names.
    """
    try:
        place = Path(path).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, or not a path at all
        raise BadModelFile(name=str(path), reason=f"it cannot be found ({error})", hint="Check the path.") from error
    registry = load()
    if kind == "lora" and place.is_dir() and not any((place / name).exists() for name in model_files.INDEXES):
        return _add_folder(registry, place)
    found = model_files.inspect(place)
    _check_told(place, found, family, control, kind)
    family = found.family or family or ""
    if found.kind == "control":
        model_files.check_control(place)
        registry.controls.setdefault(family, {})[str(control)] = str(place)
        save(registry)
        return f"{family} {control}"
    if found.kind == "model":
        model_files.check_model(place, family)
        add_entry(registry, ModelEntry(name or place.stem, family, str(place), defaults=DEFAULTS[family]))
        return name or place.stem
    model_files.check_extra(place, found.kind)
    extra = Extra(name or plain_name(place), family, str(place))
    if not LORA_NAME.fullmatch(extra.name):
        reason = f"{extra.name!r} is not a plain name without spaces"
        raise BadParameter(name="name", reason=reason, hint="Choose one with --name.")
    registry.extras[found.kind][extra.name] = extra
    save(registry)
    return extra.name


def _check_told(
    place: Path, found: model_files.Found, family: str | None, control: str | None, kind: str | None
) -> None:
    """BadParameter where what was said of a file is not what it is, or something has to be said and was not."""
    what = model_files.KINDS[found.kind]
    if kind is not None and kind != found.kind:
        reason = f"{place.name} is a {what}, not a {model_files.KINDS[kind]}"
        raise BadParameter(name=kind, reason=reason, hint=f"Leave --{kind} out.")
    if family is not None and family != (found.family or family):
        raise BadParameter(name="family", reason=f"{place.name} is of the family {found.family}, not {family}")
    if not found.family and family not in model_files.FAMILIES:
        reason = f"{place.name} does not tell which family of models it was made for"
        raise BadParameter(name="family", reason=reason, hint="Add --family sd15 or --family sdxl.")
    if found.kind == "control" and control not in CONTROLS:
        raise BadParameter(
            name="control",
            reason=f"{place.name} is a ControlNet: say what it is for",
            hint=f"Add --control and one of: {', '.join(CONTROLS)}",
        )
    if found.kind != "control" and control is not None:
        reason = f"{place.name} is a {what}, not a ControlNet"
        raise BadParameter(name="control", reason=reason, hint="Leave --control out.")


def _add_folder(registry: Registry, place: Path) -> str:
    """List all LoRAs of a folder, those that come into it later included."""
    if next(place.rglob("*.safetensors"), None) is None:
        raise BadModelFile(name=place.name, reason="it has no .safetensors files", hint="Check the path.")
    if str(place) not in registry.lora_folders:
        registry.lora_folders.append(str(place))
        save(registry)
    return str(place)


def add_entry(registry: Registry, entry: ModelEntry) -> None:
    if not NAME.fullmatch(entry.name):
        raise BadParameter(name="name", reason=f"{entry.name!r} is not a plain name", hint="Choose one with --name.")
    if entry.name in {built_in.name for built_in in BUILT_IN}:
        raise BadParameter(
            name="name", reason=f"“{entry.name}” is a built-in model", hint="Choose another with --name."
        )
    registry.models[entry.name] = entry
    save(registry)


def remove(name: str) -> None:
    """Take a model, a ControlNet ("sd15 depth"), a LoRA, a folder of LoRAs (its path) or a motion adapter off the list.
    Its files stay."""
    registry = load()
    extras = next((found for found in registry.extras.values() if name in found), None)
    if name in registry.models:
        del registry.models[name]
    elif extras is not None:
        del extras[name]
    elif str(Path(name).expanduser().resolve()) in registry.lora_folders:
        registry.lora_folders.remove(str(Path(name).expanduser().resolve()))
    elif name.count(" ") == 1 and name.split()[1] in registry.controls.get(name.split()[0], {}):
        family, control = name.split()
        del registry.controls[family][control]
    elif name == MINI.name:
        raise BadParameter(name="name", reason="mini is part of Paintover", hint="It needs no removing.")
    else:
        raise MissingModel(name=name)
    save(registry)
