"""How fast does the stage run, and how soon does a change show? Real server processes, frames through shared memory.

**null**: an engine that sleeps for 10 ms in the network's place. A client streams depth, normals and edges (with object
ids, as Blender does: 3.4 MB a frame) of a still life at 512², a new frame every 8 ms, and takes the painted 512²
pictures. A picture's overhead is the time since the one before it *arrived at the client*, less what the engine says
that it took for it: all that the worker's loop, two hops through the front, the codec and the client add, and every
frame that went missing. `null_fps` counts pictures at the client.

Run: python -m benchmarks.live [null] [mini] [--gpu]
"""

from __future__ import annotations

import dataclasses
import queue
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from paintover.bridge.client import Client
from paintover.bridge.live_messages import LiveFrame, LiveJoin, LivePicture, LiveSet, LiveTrouble
from paintover.bridge.scene import Camera, Passes
from tests.server_process import ServerProcess, running

from .report import Result, report
from .wire import still_life

NULL_SIDE = 512
NULL_PICTURES = 1500
CONTROL_INTERVAL = 0.008
WARM_UP = 100
"""Pictures before anything is measured."""


def passes_of(side: int) -> Passes:
    camera = Camera("Camera", np.eye(4), np.diag([1.0, 1.0, -1.0, 1.0]), side, side)
    return Passes(camera, *still_life(side))


class Source(threading.Thread):
    """Sends control frames at a fixed rate, as a viewport does that is orbited."""

    def __init__(self, client: Client, passes: Passes, interval: float) -> None:
        super().__init__(daemon=True)
        self._client, self._passes, self._interval = client, passes, interval
        self._over = threading.Event()

    def run(self) -> None:
        number, due = 0, time.monotonic()
        # Never the same values twice, so that nothing can be reused.
        other = dataclasses.replace(self._passes, depth=self._passes.depth * np.float32(1.01))
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
                raise RuntimeError("no picture came") from None
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
        source.stop()
        shares_memory = watcher.client.shares_memory
        watcher.client.close()
    assert shares_memory, "measured through the socket"
    return [
        Result("null_fps", NULL_PICTURES / (before - begun), "pictures/s at the client", at_least=90),
        Result("null_overhead_p99_ms", float(np.percentile(overheads, 99)), "ms", at_most=2),
        Result("null_overhead_median_ms", float(np.median(overheads)), "ms"),
    ]


def main() -> None:
    wanted = sys.argv[1:] or ["null", "mini"]
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        if "null" in wanted:
            results += null(Path(folder) / "null")
    report("live", results)


if __name__ == "__main__":
    main()
