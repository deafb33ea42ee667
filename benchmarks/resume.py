"""Kills the worker, the server, the client and Blender with SIGKILL at random moments of a shot: what is lost, what is
changed?

Run: python -m benchmarks.resume [--kills N]

A real server with `mini`. For the first three, the client is a process of its own (resume_client.py) that writes PNGs
of a shot which was rendered in real Blender (24 frames at 128 × 128, 4 steps). Then Blender itself renders a shot from
its .blend file (resume_blender.py: 24 frames at 192 × 128), and is started again on that file. Each shot is hit once,
at a moment drawn evenly from the duration of an undisturbed one; whoever was killed is started again at once, as an
artist or a service manager would. A moment that falls behind the shot's end counts for nothing: another shot is hit.

- `frames_lost`: frames without a whole PNG at the end, of all shots. `bit_exact_share`: shots of whose frames every one
  equals the undisturbed shot's bit for bit.
- `painted_again`: frames that came out twice, in the mean of all shots; `late_s_…`: by how much longer a shot takes.
"""

from __future__ import annotations

import argparse
import queue
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tests.server_process import ServerProcess

from . import resume_blender
from .report import Result, report
from .resume_blender import Found
from .resume_client import SHOT, file_of
from .shots import ROOT

VICTIMS = ("worker", "server", "client")
PATIENCE = 600.0
"""Seconds that a shot may take at most, disturbed or not."""


@dataclass
class Taken:
    """A shot that came to its end."""

    seconds: float
    """From its first being at work."""
    hit: bool
    folder: Path
    again: int
    """Frames that came more than once."""


class Stage:
    """A server, and clients one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = ServerProcess(folder / "data", "diffusers")
        self._client: subprocess.Popen[str] | None = None
        self._said: queue.Queue[str] = queue.Queue()

    def close(self) -> None:
        self.server.stop()
        if self._client and self._client.poll() is None:
            self._client.kill()

    def shot(self, victim: str = "", after: float = 0.0) -> Taken:
        """Have a shot painted, and kill somebody so many seconds after it has begun."""
        job = uuid.uuid4().hex
        folder = self.folder / job
        folder.mkdir()
        self._tell_port(folder)
        self._start(job, folder)
        begun: float | None = None
        places: list[str] = []
        hit, until = False, time.monotonic() + PATIENCE
        while True:
            now = time.monotonic()
            if now > until:
                raise TimeoutError(f"the shot did not end:\n{self.server.log.read_text()[-4000:]}")
            moment = until if hit or not victim or begun is None else begun + after
            try:
                said = self._said.get(timeout=max(0.0, min(moment, until) - now))
            except queue.Empty:
                if not hit and begun is not None and victim and time.monotonic() >= begun + after:
                    hit = True
                    self._kill(victim, job, folder)
                continue
            if said == "running":
                begun = begun or time.monotonic()
            elif said == "end":
                assert self._client
                if self._client.wait(20):
                    raise RuntimeError(f"the client failed: {self._client.returncode}")
                assert begun
                return Taken(time.monotonic() - begun, hit, folder, len(places) - len(set(places)))
            elif said:
                places.append(said)

    def _kill(self, victim: str, job: str, folder: Path) -> None:
        if victim == "worker":
            for worker in self.server.workers():  # none: it has just died of itself
                worker.kill()
        elif victim == "server":
            self.server.process.kill()
            self.server.process.wait(20)
            self.server = ServerProcess(self.folder / "data", "diffusers")
            self._tell_port(folder)
        else:
            assert self._client
            self._client.kill()
            self._client.wait(20)
            self._start(job, folder)

    def _tell_port(self, folder: Path) -> None:
        part = folder / "port.part"
        part.write_text(str(self.server.port), encoding="utf-8")
        part.replace(folder / "port")

    def _start(self, job: str, folder: Path) -> None:
        command = [sys.executable, "-m", "benchmarks.resume_client", job, str(folder)]
        client = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self._client = client

        def listen() -> None:
            assert client.stdout
            for line in client.stdout:
                self._said.put(line.removeprefix("painted ").strip())
            if client is self._client and client.wait() != -9:  # else another one goes on
                self._said.put("end")

        threading.Thread(target=listen, daemon=True).start()


def picture(folder: Path, number: int) -> np.ndarray | None:
    """A frame as it lies on disk, None if it does not, or not whole."""
    try:
        return np.asarray(Image.open(file_of(folder, number)))
    except (OSError, SyntaxError):
        return None


def compare(taken: Taken, whole: Taken, found: Found) -> None:
    pairs = [(picture(taken.folder, n), picture(whole.folder, n)) for n in range(1, SHOT.frames + 1)]
    found.lost += sum(own is None for own, _ in pairs)
    found.exact += all(own is not None and other is not None and np.array_equal(own, other) for own, other in pairs)
    found.late.append(taken.seconds - whole.seconds)
    found.again.append(taken.again)


def measure(stage: Stage, kills: int, say: Callable[[str], None]) -> tuple[dict[str, Found], float]:
    """What was found for each victim, and the seconds of an undisturbed shot."""
    chance = random.Random(11)
    stage.shot()  # loads the model
    whole = stage.shot()
    found = {victim: Found() for victim in VICTIMS}
    for victim, one in found.items():
        while len(one.late) < kills:
            taken = stage.shot(victim, chance.uniform(0, whole.seconds))
            if taken.hit:
                compare(taken, whole, one)
                say(f"{victim} {len(one.late)}/{kills}: {one.lost} lost, {one.exact} exact, {one.late[-1]:+.1f} s")
    return found, whole.seconds


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.resume", description=__doc__)
    parser.add_argument("--kills", type=int, default=10, help="of each")
    options = parser.parse_args()

    def say(text: str) -> None:
        print(text, flush=True)

    _ = SHOT.folder  # rendered, if it is not yet
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder))
        try:
            found, seconds = measure(stage, options.kills, say)
            found["blender"] = resume_blender.measure(stage.server.port, options.kills, say)
        finally:
            stage.close()
    shots = options.kills * len(found)
    frames = options.kills * (len(VICTIMS) * SHOT.frames + resume_blender.FRAMES)
    report(
        "resume",
        [
            Result("frames_lost", sum(one.lost for one in found.values()), f"of {frames}", at_most=0),
            Result("bit_exact_share", sum(one.exact for one in found.values()) / shots, "", at_least=1),
            Result("kills", shots, ""),
            Result("undisturbed_s", seconds, "s"),
            *(Result(f"late_s_{victim}", statistics.median(one.late), "s") for victim, one in found.items()),
            Result("painted_again", statistics.mean(n for one in found.values() for n in one.again), "frames"),
        ],
    )


if __name__ == "__main__":
    main()
