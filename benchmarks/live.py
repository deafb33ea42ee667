"""How fast does the stage run, and how soon does a change show? Real server processes, frames through shared memory.

**null**: an engine that sleeps for 10 ms in the network's place. A client streams depth, normals and edges (with
object ids, as Blender does: 3.4 MB a frame) of a still life at 512², a new frame every 10 ms, and takes the painted
512² pictures. A picture's overhead is the time since the one before it *arrived at the client*, less what the engine
says that it took for it: all that the worker's loop, two hops through the front, the codec and the client add, and
every frame that went missing. `null_fps` counts pictures at the client. Then, as below, latency: in milliseconds, since
the way there and back takes as long however long a frame takes.

**mini**: mini-turbo on the CPU, one step at 256² under depth, normal and edge, one thread to compute with (the other
core is the front's, and the client's). Control frames of that size come 30 times a second, each with other values, so
that nothing is reused. `overhead_share` is all but the network's compute: of the time from the first picture's
arrival at the client to the last's, what did not pass within UNet, ControlNets and decoder. Latency: the client sets
the seed at a random moment, and waits for the first picture that was painted with it; in units of the median time
between pictures. The output's pace is read from the times of its frames in shared memory, meanwhile, at 30 a second;
its jitter is how far the time between two is off their interval.

**--gpu**: see live_gpu.py.

Run: python -m benchmarks.live [null] [mini] [--gpu]
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import queue
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from paintover.bridge.client import Client
from paintover.bridge.live_messages import LiveFrame, LiveJoin, LivePicture, LiveSet, LiveTrouble
from paintover.bridge.scene import Camera, Passes
from tests.server_process import ServerProcess, running

from .osc import watch
from .report import Result, report
from .wire import still_life

NULL_SIDE = 512
NULL_PICTURES, NULL_CHANGES = 1500, 300
CONTROL_INTERVAL = 0.01
WARM_UP = 100
"""Pictures before anything is measured."""
MINI_SIDE = 256
MINI_CHANGES, WARM_FRAMES = 150, 5
OUTPUT_FPS = 30.0


def passes_of(side: int) -> Passes:
    camera = Camera("Camera", np.eye(4), np.diag([1.0, 1.0, -1.0, 1.0]), side, side)
    return Passes(camera, *still_life(side))


class Source(threading.Thread):
    """Sends control frames at a fixed rate, as a viewport does that is orbited."""

    def __init__(self, client: Client, passes: Passes, interval: float, *, varied: bool = True) -> None:
        super().__init__(daemon=True)
        self._varied = varied
        self._client, self._passes, self._interval = client, passes, interval
        self._over = threading.Event()

    def run(self) -> None:
        number, due = 0, time.monotonic()
        other = self._passes
        if self._varied:
            other = dataclasses.replace(other, depth=other.depth * np.float32(1.01))
        while not self._over.wait(max(0.0, due - time.monotonic())):
            self._client.send(LiveFrame(number, self._passes if number % 2 else other))
            number, due = number + 1, max(due + self._interval, time.monotonic())

    def stop(self) -> None:
        self._over.set()
        self.join()


class Watcher:
    """Takes pictures and says when each arrived."""

    def __init__(self, server: ServerProcess, **settings: Any) -> None:
        self.client = server.client()
        self.client.send(LiveSet(settings))
        self.client.send(LiveJoin(source=True, pictures=True))

    def next(self, timeout: float = 120.0) -> tuple[float, LivePicture]:
        until = time.monotonic() + timeout
        while True:
            try:
                message = self.client.receive(max(0.0, until - time.monotonic()))
            except queue.Empty:
                raise TimeoutError("no picture came") from None
            if isinstance(message, LiveTrouble):
                raise message.failure.error()
            if isinstance(message, LivePicture):
                return time.monotonic(), message


def null(folder: Path) -> list[Result]:
    with running(folder, "fake", "--no-standby") as server:
        watcher = Watcher(server, output_width=NULL_SIDE, output_height=NULL_SIDE, seed=1, prompt="moss")
        source = Source(watcher.client, passes_of(NULL_SIDE), CONTROL_INTERVAL)
        source.start()
        for _ in range(WARM_UP):
            before, _ = watcher.next()
        begun, overheads = before, []
        for _ in range(NULL_PICTURES):
            now, picture = watcher.next()
            overheads.append((now - before - picture.seconds["paint"]) * 1000)
            before = now
        steered = measure(watcher, NULL_CHANGES)
        source.stop()
        shares_memory = watcher.client.shares_memory
        watcher.client.close()
    assert shares_memory, "measured through the socket"
    return [
        Result("null_fps", NULL_PICTURES / (before - begun), "pictures/s at the client", at_least=90),
        Result("null_overhead_p99_ms", float(np.percentile(overheads, 99)), "ms", at_most=2),
        Result("null_overhead_median_ms", float(np.median(overheads)), "ms"),
        Result("null_latency_median_ms", steered.beyond(50, 1.5), "ms beyond 1.5 frame times"),
        Result("null_latency_p99_ms", steered.beyond(99, 2.0), "ms beyond 2 frame times"),
    ]


@dataclasses.dataclass
class Measured:
    """What a stage did while a parameter was changed at random moments. Times in seconds."""

    arrivals: list[float]
    networks: list[float]
    latencies: list[float]
    pictures: list[int]
    """That arrived from a change to the first that shows it, which counts: two, where none is late."""

    @property
    def frame(self) -> float:
        return float(np.median(np.diff(self.arrivals)))

    def beyond(self, percentile: float, frames: float) -> float:
        """Milliseconds of the latency that no frame accounts for: the way there and back."""
        return (float(np.percentile(self.latencies, percentile)) - frames * self.frame) * 1000

    @property
    def overhead_share(self) -> float:
        return 1 - sum(self.networks[1:]) / (self.arrivals[-1] - self.arrivals[0])


def measure(watcher: Watcher, changes: int) -> Measured:
    """Set the seed at random moments, each phase of a frame as often, and wait for the first picture that shows it."""
    chance = random.Random(7)
    before = [watcher.next()[0] for _ in range(WARM_FRAMES)]
    arrivals: list[float] = []
    networks: list[float] = []
    latencies: list[float] = []
    pictures: list[int] = []
    for seed in range(1, changes + 1):
        frame = float(np.median(np.diff(arrivals[-50:] if len(arrivals) > 1 else before)))
        until, asked, since = time.monotonic() + chance.uniform(0, 2) * frame, 0.0, 0
        while True:
            if not asked and time.monotonic() >= until:
                asked, since = time.monotonic(), len(arrivals)
                watcher.client.send(LiveSet({"seed": seed}))
            try:
                now, picture = watcher.next(60.0 if asked else until - time.monotonic())
            except TimeoutError:
                continue
            networks.append(picture.seconds.get("network", 0.0))
            arrivals.append(now)
            if asked and picture.seed == seed:
                latencies.append(now - asked)
                pictures.append(len(arrivals) - since)
                break
    return Measured(arrivals, networks, latencies, pictures)


def latency_results(measured: Measured, prefix: str = "") -> list[Result]:
    frames = np.array(measured.latencies) / measured.frame
    return [
        Result(f"{prefix}latency_median_frames", float(np.median(frames)), "frame times", at_most=1.6),
        Result(f"{prefix}latency_p99_frames", float(np.percentile(frames, 99)), "frame times", at_most=2.1),
        Result(f"{prefix}latency_pictures_mean", float(np.mean(measured.pictures)), "pictures until the change shows"),
        Result(
            f"{prefix}frame_p99_over_median",
            float(np.percentile(np.diff(measured.arrivals), 99)) / measured.frame,
            "how evenly the machine paints",
        ),
        Result(f"{prefix}latency_median_ms", float(np.median(measured.latencies)) * 1000, "ms"),
    ]


def mini(folder: Path) -> list[Result]:
    os.environ["OMP_NUM_THREADS"] = "1"
    settings = {
        "model": "mini-turbo", "steps": 1, "prompt": "brick, white background", "seed": 0, "output_width": MINI_SIDE,
        "output_height": MINI_SIDE, "control_depth": True, "control_normal": True, "control_edge": True,
        "output_fps": OUTPUT_FPS,
    }  # fmt: skip
    with running(folder, "diffusers", "--no-standby", "--sink", "shared") as server:
        watcher = Watcher(server, **settings)
        source = Source(watcher.client, passes_of(MINI_SIDE), 1 / 30)
        source.start()
        watcher.next()
        with frame_times(f"paintover-{server.port}") as times:
            measured = measure(watcher, MINI_CHANGES)
        source.stop()
        watcher.client.close()
    jitter = np.abs(between(times) - 1 / OUTPUT_FPS) * 1000
    return [
        Result("overhead_share", measured.overhead_share, "", at_most=0.05),
        *latency_results(measured),
        Result("pacing_jitter_p99_ms", float(np.percentile(jitter, 99)), "ms", at_most=4),
        Result("mini_fps", 1 / measured.frame, "pictures/s"),
        Result("changes", len(measured.latencies), ""),
        Result("frames_out", len(jitter), ""),
    ]


@contextlib.contextmanager
def frame_times(name: str) -> Iterator[list[tuple[int, float]]]:
    """The numbers and times of all frames that go out meanwhile, as another process finds them in shared memory."""
    context = multiprocessing.get_context("spawn")
    mine, its = context.Pipe()
    watching = context.Process(target=watch, args=(name, its), daemon=True)
    watching.start()
    times: list[tuple[int, float]] = []
    yield times
    mine.send("stop")
    times += mine.recv()
    watching.join(10)


def between(times: list[tuple[int, float]]) -> np.ndarray:
    """Seconds between frames that went out one after the other. Where the reader missed one, its neighbours are left
    out: the output counts what it sends, and leaves ticks out that it misses, so its own gaps are all here."""
    numbers, when = np.array(times).T
    gaps: np.ndarray = np.diff(when)[np.diff(numbers) == 1]
    return gaps


def main() -> None:
    if "--gpu" in sys.argv:
        from . import live_gpu

        return live_gpu.main()
    wanted = sys.argv[1:] or ["null", "mini"]
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        if "null" in wanted:
            results += null(Path(folder) / "null")
        if "mini" in wanted:
            results += mini(Path(folder) / "mini")
    report("live", results)


if __name__ == "__main__":
    main()
