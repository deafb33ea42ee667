"""`paintover doctor`: what works on this machine, what does not, and what to do about it."""

from __future__ import annotations

import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version

from rich.console import Console

from paintover.bridge import PROTOCOL, VERSION
from paintover.bridge.client import Client
from paintover.bridge.errors import PaintoverError, ServerNotRunning
from paintover.bridge.paths import data_folder, read_token, token_file

from . import models

PACKAGES = ("torch", "diffusers", "transformers", "safetensors", "numpy", "scipy", "pillow")


def examine(console: Console, host: str, port: int) -> bool:
    """Print the findings; False if something must be mended before the server can paint."""
    sound = True

    def line(good: bool | None, text: str, hint: str = "") -> None:
        mark = {True: "[green]✓[/]", False: "[red]✗[/]", None: "[yellow]–[/]"}[good]
        console.print(f"{mark} {text}", highlight=False)
        if hint:
            console.print(f"    {hint}", highlight=False)

    line(
        True,
        f"Paintover {VERSION} (protocol {PROTOCOL}), Python {platform.python_version()}, {platform.system()}",
    )
    for name in PACKAGES:
        try:
            line(True, f"{name} {version(name)}")
        except PackageNotFoundError:
            sound = False
            line(False, f"{name} is missing", f"{sys.executable} -m pip install {name}")
    if sound:
        line(True, f"Paints on: {_device()}")
    for entry in models.installed():
        try:
            models.validate(entry)
            line(True, f"Model {entry.name} ({entry.family}): {', '.join(entry.controls) or 'no ControlNets'}")
        except PaintoverError as error:
            sound = False
            line(False, f"Model {entry.name}: {error.message}", error.hint)
    folder = data_folder()
    where = folder if folder.exists() else folder.parent
    free = shutil.disk_usage(where).free / 2**30 if where.exists() else 0.0
    line(free > 1 or None, f"Data folder {folder} ({free:.0f} GB free)")
    token = read_token()
    line(
        bool(token) or None,
        f"Token: {token}" if token else f"No token yet; the first start writes {token_file()}",
    )
    try:
        with Client.connect(host, port, name="doctor", timeout=3):
            line(True, f"A server answers at {host}:{port}")
    except ServerNotRunning as error:
        line(None, error.message, "Start it with: paintover serve")
    except PaintoverError as error:
        line(False, error.message, error.hint)
    return sound


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()} (CUDA)"
    if torch.backends.mps.is_available():
        return "Apple GPU (MPS)"
    return f"CPU, {torch.get_num_threads()} threads"
