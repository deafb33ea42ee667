"""Shots for benchmarks: rendered once in real Blender (shots_render.py) into .build/shots, then read frame by frame."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from paintover.bridge.parameters import Settings
from paintover.bridge.scene import Camera, Passes
from paintover.bridge.shot import Link, Place, ShotFrame, plan

ROOT = Path(__file__).parent.parent
INTERVAL = 8


def blender_python() -> str:
    """The interpreter of a Blender as a Python module."""
    return os.environ.get("PAINTOVER_BLENDER_PYTHON") or str(ROOT / ".blender" / "4.5" / "bin" / "python")


@dataclass(frozen=True)
class Shot:
    """A rendered shot. Frames count from 1."""

    name: str
    frames: int
    width: int
    height: int

    @cached_property
    def folder(self) -> Path:
        """Where it lies, rendered."""
        folder = ROOT / ".build" / "shots" / f"{self.name}-{self.frames}-{self.width}x{self.height}-{INTERVAL}"
        if len(list(folder.glob("*.npz"))) < self.frames:
            folder.mkdir(parents=True, exist_ok=True)
            size = (str(value) for value in (self.frames, self.width, self.height, INTERVAL))
            command = [blender_python(), "-m", "benchmarks.shots_render", self.name, *size, str(folder)]
            subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, timeout=1800)
        return folder

    def passes(self, number: int) -> Passes:
        data = np.load(self.folder / f"{number:04}.npz")
        camera = Camera(self.name, data["view"], data["projection"], self.width, self.height)
        return Passes(camera, data["depth"], data["normal"], data["edge"], data["object_id"])

    def link(self, number: int, other: int) -> Link:
        return Link(other, np.load(self.folder / f"{number:04}.npz")[f"link_{other}"])

    def frame(self, place: Place, settings: Settings) -> ShotFrame:
        """A frame as it would come off the wire."""
        links = {name: getattr(place, name) for name in ("before", "after", "previous")}
        found = {name: self.link(place.number, other) for name, other in links.items() if other is not None}
        return ShotFrame(place.number, settings, self.passes(place.number), place.key, **found)

    def sent(
        self, settings: Callable[[int], Settings], interval: int = INTERVAL, cuts: frozenset[int] = frozenset()
    ) -> Iterator[ShotFrame]:
        """The frames in the order of sending. Other intervals than INTERVAL work where their links were rendered."""
        for place in self.places(interval, cuts):
            yield self.frame(place, settings(place.number))

    def places(self, interval: int = INTERVAL, cuts: frozenset[int] = frozenset()) -> Iterator[Place]:
        return plan(range(1, self.frames + 1), interval, cuts)
