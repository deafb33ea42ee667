"""`paintover doctor`: what works on this machine, what does not, and what to do about it."""

from __future__ import annotations

import os
import platform
import queue
import shutil
import sys
import time
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from rich.console import Console

from paintover.bridge import PROTOCOL, VERSION
from paintover.bridge.client import Client
from paintover.bridge.errors import PaintoverError, ServerNotRunning, ServerSilent
from paintover.bridge.messages import Ping, Pong, Probe, ProbeAnswer
from paintover.bridge.paths import OTHER_FOLDER, data_folder, read_token, token_file

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
    where = next((one for one in (folder, *folder.parents) if os.access(one, os.F_OK)), None)
    if where and where.is_dir() and os.access(where, os.W_OK | os.X_OK):
        free = shutil.disk_usage(where).free / 2**30
        line(free > 1 or None, f"Data folder {folder} ({free:.0f} GB free)")
    else:
        sound = False
        line(False, f"Data folder {folder}: nothing can be written there", OTHER_FOLDER)
    token = read_token()
    line(
        bool(token) or None,
        f"Token: {token}" if token else f"No token yet; the first start writes {token_file()}",
    )
    try:
        with Client.connect(host, port, name="doctor", timeout=3) as client:
            line(True, f"A server answers at {host}:{port}")
            line(True, measure_link(client))
    except ServerNotRunning as error:
        line(None, error.message, "Start it with: paintover serve")
    except PaintoverError as error:
        line(False, error.message, error.hint)
    return sound


PROBE_BYTES = 16 << 20
PROBE_TIMEOUT = 60.0
"""Seconds: the first part of it also on a slow line."""


def measure_link(client: Client) -> str:
    """What the connection can do, in words: the way that arrays take, their speed, and the time of a small message.

    Raises what is wrong with the connection.
    """

    def timed(question: Ping | Probe, kind: type) -> float:
        start = time.perf_counter()
        client.send(question)
        while not isinstance(client.receive(PROBE_TIMEOUT), kind):
            pass
        return time.perf_counter() - start

    array = np.random.default_rng(0).integers(0, 256, PROBE_BYTES, dtype=np.uint8)
    try:
        reply = min(timed(Ping(number), Pong) for number in range(20))
        # The second one, since the first still makes room.
        seconds = [timed(Probe((array,), 1, 1), ProbeAnswer) for _ in range(2)][1]
    except queue.Empty:
        raise ServerSilent(seconds=PROBE_TIMEOUT) from None
    way = "shared memory" if client.shares_memory else "the socket (no shared memory)"
    speed = PROBE_BYTES / max(seconds - reply, 1e-6) / 1e6
    return f"The link: {speed:,.0f} MB/s through {way}, {reply * 1000:.1f} ms for a small message"


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()} (CUDA)"
    if torch.backends.mps.is_available():
        return "Apple GPU (MPS)"
    return f"CPU, {torch.get_num_threads()} threads"
