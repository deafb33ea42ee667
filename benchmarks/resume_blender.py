"""The part of `resume` in which Blender itself is killed: real Blender with the built extension renders a shot from its
.blend file, is killed with SIGKILL at a random moment, and started again on the same file."""

from __future__ import annotations

import random
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import build_addon
from tests.end_to_end.conftest import Blender
from tests.end_to_end.film import FILM, pictures

from .shots import blender_python

FRAMES = 24
MAKE = FILM.replace("(8, 1.0)", f"({FRAMES}, 1.0)").replace("frame_end = 1, 8", f"frame_end = 1, {FRAMES}")
SHOOT = """
install()
bpy.ops.wm.open_mainfile(filepath=os.path.abspath("film.blend"))
bpy.ops.paintover.connect()
print("begins", flush=True)
tell(painted=list(bpy.ops.paintover.render_shot()), fresh=part("session").session.tasks[-1].pace.painted)
"""
PATIENCE = 600.0


@dataclass
class Found:
    """What came of the shots in which one kind of process was killed."""

    lost: int = 0
    exact: int = 0
    late: list[float] = field(default_factory=list)
    again: list[int] = field(default_factory=list)
    """Frames of each that came more than once: of Blender, beyond those that were missing on disk."""


class Film:
    """A folder with film.blend, and its frames."""

    def __init__(self, folder: Path, addon: Path, port: int) -> None:
        folder.mkdir()
        self.port, self.blender = port, Blender(folder, addon, blender_python())
        self.blender.run(MAKE, port=port)

    @property
    def frames(self) -> dict[str, np.ndarray]:
        return pictures(self.blender.folder / "frames")

    def shoot(self, after: float | None = None) -> tuple[float, bool, int]:
        """Render the shot; a Blender that is still at it `after` seconds is killed. Returns the seconds from its begin,
        whether it was killed, and how many frames were painted."""
        process = self.blender.start(SHOOT, port=self.port)
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("begins"):
                break
        began = time.monotonic()
        reader = threading.Thread(target=process.stdout.read, daemon=True)  # else it would wait for one
        reader.start()
        try:
            process.wait(PATIENCE if after is None else after)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)
            return time.monotonic() - began, True, 0
        finally:
            reader.join(20)
            process.stdout.close()
        told = self.blender.finish(process)
        assert told["painted"] == ["FINISHED"], told
        return time.monotonic() - began, False, told["fresh"]


def measure(port: int, kills: int, say: Callable[[str], None]) -> Found:
    """Kill Blender at random moments of as many shots. A moment behind a shot's end counts for nothing."""
    chance, found = random.Random(12), Found()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        addon = build_addon.build(folder / "dist")
        whole = Film(folder / "whole", addon, port)
        seconds, _, _ = whole.shoot()
        wanted = whole.frames
        assert len(wanted) == FRAMES
        while len(found.late) < kills:
            film = Film(folder / f"film-{random.randrange(2**32)}", addon, port)
            first, killed, _ = film.shoot(chance.uniform(0, seconds))
            if not killed:
                continue
            there = len(film.frames)
            second, _, fresh = film.shoot()
            frames = film.frames
            found.lost += FRAMES - len(frames)
            found.exact += frames.keys() == wanted.keys() and all(np.array_equal(frames[n], wanted[n]) for n in wanted)
            found.late.append(first + second - seconds)
            found.again.append(fresh - (FRAMES - there))
            say(f"blender {len(found.late)}/{kills}: {there} were there, {found.lost} lost, {found.exact} exact")
    return found
