"""The show goes on: the worker is killed with SIGKILL every 30 seconds while clients come and go and OSC never rests.

A real server with mini-turbo (one step at 128², normals), its frames going out at 30 a second through shared memory,
where another process takes the times at which they went. Meanwhile: a client sends control frames 10 times a second; an
OSC program sends 600 messages a second, all faders that do not change what this scene looks like; other clients join,
take pictures or do not, and leave, with or without a word.

Once in every 30 seconds, at a random moment, the worker is killed. The seed is set before and to another one; after
the kill it is set back: the first picture with the old seed can only be the new worker's. How long that takes from the
kill is `fresh_frame_after_kill`; it has to be, pixel by pixel, the picture that the dead worker painted with that seed,
and all values have to be what they were (`state_restored`).

The front's memory is what its process holds while no other clients are there, after the first minute and at the end.

Run: python -m benchmarks.show [--minutes 2]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil

from paintover.bridge.errors import PaintoverError
from paintover.bridge.live_messages import LiveJoin, LivePicture, LiveSet, LiveValues
from paintover.server.live.osc_codec import encode
from tests.server_process import ServerProcess, running

from .live import Source, Watcher, between, frame_times, passes_of
from .report import Result, report

SIDE, FPS, EVERY, RATE = 128, 30.0, 30.0, 600
FADERS = [
    *(f"feedback/{name}" for name in ("zoom", "rotate", "x", "y")), "tempo/bpm", "camera/orbit", "camera/elevation",
    "control/depth/scale", "control/edge/scale",
]  # fmt: skip
"""Without feedback, and with those ControlNets off, none of them changes the picture; most have it painted anew."""
FADED = {address.replace("/", "_") for address in FADERS}
SETTINGS = {
    "model": "mini-turbo", "steps": 1, "prompt": "brick, white background", "output_width": SIDE, "output_height": SIDE,
    "output_fps": FPS, "seed": 1,
}  # fmt: skip


class Program(threading.Thread):
    """Sends OSC at a steady rate."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()
        self._port = port
        self.sent = 0

    def run(self) -> None:
        chance = random.Random(1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            due = time.monotonic()
            while not self.over.wait(max(0.0, due - time.monotonic())):
                for _ in range(RATE // 60):
                    address = FADERS[self.sent % len(FADERS)]
                    sock.sendto(encode(f"/paintover/{address}", chance.uniform(0, 1)), ("127.0.0.1", self._port))
                    self.sent += 1
                due = max(due + 1 / 60, time.monotonic() - 0.5)


class Visitors(threading.Thread):
    """Clients that come and go."""

    def __init__(self, server: ServerProcess) -> None:
        super().__init__(daemon=True)
        self.over, self.pause, self.away = threading.Event(), threading.Event(), threading.Event()
        self.count = 0
        self._server = server

    def run(self) -> None:
        chance = random.Random(2)
        while not self.over.is_set():
            if self.pause.is_set():
                self.away.set()
                time.sleep(0.1)
                continue
            self.away.clear()
            with contextlib.suppress(PaintoverError), self._server.client() as client:
                self.count += 1
                client.send(LiveJoin(pictures=chance.random() < 0.7))
                if chance.random() < 0.3:  # leaves without a word
                    client._socket.close()
                    continue
                self.over.wait(chance.uniform(0.1, 2.0))

    @contextlib.contextmanager
    def all_away(self) -> Iterator[None]:
        self.away.clear()
        self.pause.set()
        self.away.wait(20)
        yield
        self.pause.clear()


def memory(server: ServerProcess, visitors: Visitors) -> float:
    """MB that the front holds while no visitor is there: the least of some looks, since garbage comes and goes."""
    process, looks = psutil.Process(server.process.pid), []
    with visitors.all_away():
        for _ in range(10):
            time.sleep(0.2)
            looks.append(process.memory_info().rss)
    return min(looks) / (1 << 20)


def values_of(server: ServerProcess) -> dict[str, object]:
    """All values but those that change all the time."""
    with server.client() as client:
        client.send(LiveJoin())
        while not isinstance(message := client.receive(20), LiveValues):
            pass
    return {name: value for name, value in message.values.items() if name not in FADED | {"seed"}}


def picture_with(watcher: Watcher, seed: int) -> tuple[float, LivePicture]:
    watcher.client.send(LiveSet({"seed": seed}))
    while True:
        now, picture = watcher.next()
        if picture.seed == seed:
            return now, picture


def perform(server: ServerProcess, osc_port: int, minutes: float) -> list[Result]:
    chance, back, alike = random.Random(3), [], []
    watcher = Watcher(server, **SETTINGS)
    source = Source(watcher.client, passes_of(SIDE), 0.1, varied=False)
    program, visitors = Program(osc_port), Visitors(server)
    for thread in (source, program, visitors):
        thread.start()
    picture_with(watcher, 2)
    server.said("holds mini-turbo ready")
    values = values_of(server)
    begun = time.monotonic()
    first = None
    with frame_times(f"paintover-{server.port}") as times:
        for number in range(max(2, round(minutes * 60 / EVERY))):
            moment = begun + EVERY * number + chance.uniform(2, EVERY - 8)
            if first is None and moment > begun + 60:
                _wait(watcher, begun + 60)
                first = memory(server, visitors)
            _wait(watcher, moment)
            _, expected = picture_with(watcher, 100 + number)
            picture_with(watcher, 5000 + number)
            _wait(watcher, time.monotonic() + chance.uniform(0, 0.3))
            killed = time.monotonic()
            server.worker().kill()
            now, picture = picture_with(watcher, 100 + number)
            back.append(now - killed)
            alike.append(np.array_equal(picture.image, expected.image) and values_of(server) == values)
            print(f"{number + 1}: {back[-1]:.2f} s{'' if alike[-1] else ', NOT as it was'}", flush=True)
        _wait(watcher, begun + minutes * 60)
        last = memory(server, visitors)
    for thread in (program, visitors):
        thread.over.set()
        thread.join(30)
    source.stop()
    gaps = between(times) * FPS
    print("largest gaps:", ", ".join(f"{gap:.2f}" for gap in sorted(gaps)[-5:]))
    return [
        Result("largest_gap_intervals", float(gaps.max()), "intervals of the output", at_most=2),
        Result("fresh_frame_after_kill_p95_s", float(np.percentile(back, 95)), "s", at_most=5),
        Result("state_restored", float(np.mean(alike)), "", at_least=1),
        Result("front_memory_growth_mb", last - (first or last), "MB", at_most=2),
        Result("fresh_frame_after_kill_median_s", float(np.median(back)), "s"),
        Result("kills", len(back), ""),
        Result("frames_out", times[-1][0] - times[0][0], ""),
        Result("frames_that_the_reader_missed", times[-1][0] - times[0][0] - len(gaps), ""),
        Result("osc_messages", program.sent, ""),
        Result("visitors", visitors.count, ""),
    ]


def _wait(watcher: Watcher, until: float) -> None:
    """Until then, taking pictures."""
    while (left := until - time.monotonic()) > 0:
        with contextlib.suppress(TimeoutError):
            watcher.next(left)


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--minutes", type=float, default=2.0)
    minutes = arguments.parse_args().minutes
    os.environ["OMP_NUM_THREADS"] = "1"  # one core is the front's
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        options = ("--sink", "shared", "--osc-port", str(port), "--osc-reply", "0")
        with running(Path(folder), "diffusers", *options) as server:
            results = perform(server, port, minutes)
    report("show", results)


if __name__ == "__main__":
    main()
