"""What can be fetched from the hub by a short name, and how it comes onto this machine."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from paintover.bridge.errors import DiskFull, MissingModel, PaintoverError

from . import model_files, models
from .model_files import SD15, SDXL


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


_SD15_HUB, _SDXL_HUB = models.BASE_HUB[SD15], models.BASE_HUB[SDXL]
_RAIL, _RAIL_XL = "CreativeML Open RAIL-M", "CreativeML Open RAIL++-M"

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
    registry = models.load()
    if item.control:
        model_files.check_control(models.located(item.hub))
        registry.controls.setdefault(item.family, {})[item.control] = item.hub
        models.save(registry)
    else:
        model_files.check_model(models.located(item.hub), item.family)
        defaults = models.DEFAULTS[item.family]
        models.add_entry(registry, models.ModelEntry(item.name, item.family, item.hub, {}, defaults, item.description))
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
