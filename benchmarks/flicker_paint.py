"""The pictures that `flicker` compares: every frame by itself with a fixed seed, and shots as animation paints them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from paintover.bridge.messages import Generate
from paintover.bridge.parameters import Settings
from paintover.server import models
from paintover.server.animation.job import animate
from paintover.server.pipelines.engine import DiffusersEngine
from tools.train_mini.sheet import Quiet

from .shots import ROOT, Shot

CACHE = ROOT / ".build" / "flicker"
SEED = 1


@dataclass(frozen=True)
class Take:
    """A painted shot."""

    pictures: dict[int, np.ndarray]
    """Frame number -> uint8 (H, W, 3)."""
    seconds: float
    """Of the processor, in all threads: other work on the machine does not count."""


def settings(prompt: str, steps: int, **changes: Any) -> Settings:
    """mini's defaults with a prompt."""
    values = {**models.MINI.defaults, "model": "mini", "seed": SEED, "steps": steps, "prompt": prompt, **changes}
    return Settings.from_mapping(values)


def kept(name: str, make: Callable[[], Take]) -> Take:
    """What was painted under that name before, or `make`'s."""
    folder = CACHE / name
    about = folder / "take.json"
    if not about.exists():
        take = make()
        folder.mkdir(parents=True, exist_ok=True)
        for number, picture in take.pictures.items():
            Image.fromarray(picture).save(folder / f"{number:04}.png")
        about.write_text(json.dumps({"seconds": take.seconds}), encoding="utf-8")
    return Take(read(folder), json.loads(about.read_text(encoding="utf-8"))["seconds"])


def read(folder: Path) -> dict[int, np.ndarray]:
    return {int(path.stem): np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))}


def by_itself(engine: DiffusersEngine, shot: Shot, asked: Settings) -> Take:
    """Every frame painted as if there were no other, from the same noise."""
    pictures, started = {}, time.process_time()
    for number in range(1, shot.frames + 1):
        request = Generate(asked, shot.width, shot.height, shot.passes(number))
        pictures[number] = engine.paint(request, Quiet()).image
    return Take(pictures, time.process_time() - started)


def as_shot(engine: DiffusersEngine, shot: Shot, asked: Callable[[int], Settings]) -> Take:
    """The shot as animation paints it. `asked`: the settings of every frame."""
    pictures, seconds = {}, 0.0
    frames = animate(engine, shot.sent(asked, asked(1).animate_interval), Quiet())
    while True:
        started = time.process_time()
        painted = next(frames, None)
        seconds += time.process_time() - started
        if painted is None:
            return Take(pictures, seconds)
        pictures[painted.number] = painted.image
        print(f"  {shot.name} {painted.number}: {painted.fresh:.2%} painted, {seconds:.1f} s", flush=True)
