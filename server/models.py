"""The models that this server can paint with: what is installed, by name. A name is all that ever comes off the wire.

`mini` is part of the package. The user's own models are listed in models.json in the data folder: diffusers folders,
single .safetensors files, and hub ids that were fetched into Hugging Face's cache. ControlNets are listed by family,
and every model of that family can use them.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from paintover.bridge.errors import (
    BadModelFile,
    BadParameter,
    DiskFull,
    MissingModel,
    PaintoverError,
    UnsupportedControl,
)
from paintover.bridge.messages import ModelInfo
from paintover.bridge.parameters import CONTROLS, Settings
from paintover.bridge.paths import data_folder

from . import model_files
from .model_files import SD15, SDXL

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
NAME = re.compile(r"[\w][\w .+()-]{0,99}")


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


@dataclass(frozen=True)
class Known:
    """Something that can be fetched from the hub by a short name."""

    name: str
    hub: str
    family: str
    gigabytes: float
    """About what is downloaded; `plan` knows exactly."""
    licence: str
    description: str
    control: str = ""
    """The control that this ControlNet is for; empty for a model."""
    config_only: bool = False
    """Only the small text files, which single-file checkpoints of the family need as well."""


_RAIL, _RAIL_XL = "CreativeML Open RAIL-M", "CreativeML Open RAIL++-M"
_SD15_HUB = "stable-diffusion-v1-5/stable-diffusion-v1-5"
_SDXL_HUB = "stabilityai/stable-diffusion-xl-base-1.0"
BASE_HUB = {SD15: _SD15_HUB, SDXL: _SDXL_HUB}
"""Where the configuration and tokenizer for single-file checkpoints come from."""

CATALOGUE = (
    Known("sd15", _SD15_HUB, SD15, 2.1, _RAIL, "Stable Diffusion 1.5"),
    Known("sd15-depth", "lllyasviel/control_v11f1p_sd15_depth", SD15, 0.7, _RAIL, "Depth for SD 1.5", "depth"),
    Known("sd15-normal", "lllyasviel/control_v11p_sd15_normalbae", SD15, 0.7, _RAIL, "Normals for SD 1.5", "normal"),
    Known("sd15-edge", "lllyasviel/control_v11p_sd15_lineart", SD15, 0.7, _RAIL, "Edges for SD 1.5", "edge"),
    Known("sdxl", _SDXL_HUB, SDXL, 7.0, _RAIL_XL, "Stable Diffusion XL 1.0"),
    Known("sdxl-depth", "diffusers/controlnet-depth-sdxl-1.0", SDXL, 2.5, _RAIL_XL, "Depth for SDXL", "depth"),
    Known("sdxl-edge", "diffusers/controlnet-canny-sdxl-1.0", SDXL, 2.5, _RAIL_XL, "Edges for SDXL", "edge"),
    Known("sd15-config", _SD15_HUB, SD15, 0.01, _RAIL, "For single-file SD 1.5 checkpoints", config_only=True),
    Known("sdxl-config", _SDXL_HUB, SDXL, 0.01, _RAIL_XL, "For single-file SDXL checkpoints", config_only=True),
)


# ---------------------------------------------------------------- the user's list


@dataclass(frozen=True)
class _Registry:
    models: dict[str, ModelEntry]
    controls: dict[str, dict[str, str]]
    """Family -> control -> ControlNet."""


def registry_file() -> Path:
    return data_folder() / "models.json"


def _load() -> _Registry:
    path = registry_file()
    if not path.exists():
        return _Registry({}, {})
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        models = {name: _entry(name, entry) for name, entry in plain["models"].items()}
        return _Registry(models, {family: _texts(controls) for family, controls in plain["controls"].items()})
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


def _texts(plain: Any) -> dict[str, str]:
    texts = dict(plain)
    if not all(isinstance(text, str) for text in texts.values()):
        raise TypeError("a path is not a text")
    return texts


def _save(registry: _Registry) -> None:
    """Write the list whole or not at all, so that a server that reads meanwhile never sees half of it."""
    entries = {name: asdict(entry) for name, entry in sorted(registry.models.items())}
    for entry in entries.values():
        del entry["name"]
    path = registry_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.part")
    temporary.write_text(json.dumps({"models": entries, "controls": registry.controls}, indent=2), encoding="utf-8")
    temporary.replace(path)


def installed() -> list[ModelEntry]:
    """Every installed model, the built-in ones first."""
    registry = _load()
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


def add(path: str | Path, name: str | None = None, family: str | None = None, control: str | None = None) -> str:
    """List a model or ControlNet that lies on this machine; returns its name, or "family control".

    Family and kind are told from the file; `family` is only checked against that. A ControlNet needs `control`.
    Raises BadModelFile for anything that cannot be used, and BadParameter for wrong or missing names.
    """
    try:
        place = Path(path).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, or not a path at all
        raise BadModelFile(name=str(path), reason=f"it cannot be found ({error})", hint="Check the path.") from error
    found = model_files.inspect(place)
    if family is not None and family != found.family:
        raise BadParameter(name="family", reason=f"{place.name} is of the family {found.family}, not {family}")
    registry = _load()
    if found.kind == "control":
        if control not in CONTROLS:
            raise BadParameter(
                name="control",
                reason=f"{place.name} is a ControlNet: say what it is for",
                hint=f"Add --control and one of: {', '.join(CONTROLS)}",
            )
        model_files.check_control(place)
        registry.controls.setdefault(found.family, {})[control] = str(place)
        _save(registry)
        return f"{found.family} {control}"
    if control is not None:
        raise BadParameter(
            name="control", reason=f"{place.name} is a model, not a ControlNet", hint="Leave --control out."
        )
    model_files.check_model(place, found.family)
    _add_entry(registry, ModelEntry(name or place.stem, found.family, str(place), defaults=DEFAULTS[found.family]))
    return name or place.stem


def _add_entry(registry: _Registry, entry: ModelEntry) -> None:
    if not NAME.fullmatch(entry.name):
        raise BadParameter(name="name", reason=f"{entry.name!r} is not a plain name", hint="Choose one with --name.")
    if entry.name in {built_in.name for built_in in BUILT_IN}:
        raise BadParameter(
            name="name", reason=f"“{entry.name}” is a built-in model", hint="Choose another with --name."
        )
    registry.models[entry.name] = entry
    _save(registry)


def remove(name: str) -> None:
    """Take a model, or a ControlNet ("sd15 depth"), off the list. Its files stay."""
    registry = _load()
    if name in registry.models:
        del registry.models[name]
    elif name.count(" ") == 1 and name.split()[1] in registry.controls.get(name.split()[0], {}):
        family, control = name.split()
        del registry.controls[family][control]
    elif name == MINI.name:
        raise BadParameter(name="name", reason="mini is part of Paintover", hint="It needs no removing.")
    else:
        raise MissingModel(name=name)
    _save(registry)


# ---------------------------------------------------------------- fetching


def known(name: str) -> Known:
    """The catalogue's item with this name, or MissingModel that lists the names."""
    for item in CATALOGUE:
        if item.name == name:
            return item
    raise MissingModel(name=name, hint=f"Known are: {', '.join(item.name for item in CATALOGUE)}")


def wanted_files(item: Known, files: list[str]) -> list[str]:
    """Of a repository's files those that are needed: small text files and, once each, safetensors (fp16 if any)."""
    components = () if item.control else model_files.COMPONENTS[item.family]
    folders = {"", *(f"{component}/" for component in components)}
    inside = [file for file in files if file[: file.rfind("/") + 1] in folders]
    chosen = [file for file in inside if file.endswith((".json", ".txt"))]
    if item.config_only:
        return chosen
    for folder in sorted(folders - {""} if not item.control else folders):
        for stem in ("diffusion_pytorch_model", "model"):
            options = [f"{folder}{stem}.fp16.safetensors", f"{folder}{stem}.safetensors"]
            chosen += [file for file in options if file in inside][:1]
    return chosen


@dataclass(frozen=True)
class Plan:
    """What a fetch would download."""

    item: Known
    files: tuple[str, ...]
    size: int
    """Bytes that are not on this machine yet."""


def plan(name: str) -> Plan:
    """Ask the hub what fetching `name` would download; nothing is downloaded but the list."""
    from huggingface_hub import HfApi, try_to_load_from_cache

    item = known(name)
    with _hub_errors(item):
        listed = HfApi().model_info(item.hub, files_metadata=True).siblings or []
    sizes = {file.rfilename: file.size or 0 for file in listed}
    files = wanted_files(item, list(sizes))
    missing = [file for file in files if not isinstance(try_to_load_from_cache(item.hub, file), str)]
    return Plan(item, tuple(files), sum(sizes[file] for file in missing))


def fetch(name: str, progress: Callable[[int, int], None]) -> str:
    """Download a catalogue item and list it; returns the name that it is listed under.

    `progress(bytes done, bytes in all)` is called as it goes. An interrupted fetch goes on where it stopped.
    """
    from huggingface_hub import snapshot_download

    todo = plan(name)
    item = todo.item
    with _hub_errors(item):
        snapshot_download(item.hub, allow_patterns=list(todo.files), tqdm_class=_byte_counter(progress, todo.size))
    if item.config_only:
        return item.name
    registry = _load()
    if item.control:
        model_files.check_control(located(item.hub))
        registry.controls.setdefault(item.family, {})[item.control] = item.hub
        _save(registry)
    else:
        model_files.check_model(located(item.hub), item.family)
        defaults = DEFAULTS[item.family]
        _add_entry(registry, ModelEntry(item.name, item.family, item.hub, {}, defaults, item.description))
    return item.name


def _byte_counter(progress: Callable[[int, int], None], total: int) -> Any:
    """A tqdm class that shows nothing and reports the bytes of all files together.

    The hub's client may keep two bars of bytes (received, written): the one that is further counts.
    """
    from tqdm.auto import tqdm

    class Counter(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            self._bytes = 0 if options.get("unit") == "B" else None
            options["disable"] = True
            super().__init__(*args, **options)

        def update(self, n: float | None = 1) -> bool | None:
            if self._bytes is not None and n:
                self._bytes += int(n)
                state.done = max(state.done, self._bytes)
                progress(min(state.done, total), total)
            return None

    class state:
        done = 0

    return Counter


@contextmanager
def _hub_errors(item: Known) -> Iterator[None]:
    """Turn the hub's errors into ours, with the next step."""
    from huggingface_hub.errors import HTTPError  # what its HTTP client raises, whichever that is

    try:
        yield
    except (OSError, HTTPError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise DiskFull(what=item.name, folder="Hugging Face's cache (HF_HOME)") from error
        raise PaintoverError(
            f"{item.name} could not be fetched from huggingface.co/{item.hub}: {error}",
            hint="Check the internet connection (and HF_ENDPOINT or proxy, if you use them), then run it again: it "
            "goes on where it stopped. On a machine without internet, copy the folder there and run: "
            "paintover models add PATH",
        ) from error
