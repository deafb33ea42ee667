"""Kills the worker with SIGKILL at random moments of a texture job: is a job lost, and how soon does work go on?

A real server with `mini`: six views of a ring at 128 × 128, 20 steps each, a texture of 256 × 256. Each job is hit
once, at a moment drawn evenly from an undisturbed job's duration. Work has gone on when the new worker reports a
denoising step, or baking: neither loading nor preparing counts. Before each kill the standby, where there is one, is
warm; how long it takes to be so again is reported. A job counts as lost if it does not end as done with its texture.
"""

from __future__ import annotations

import contextlib
import queue
import random
import re
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from paintover.bridge.client import Client
from paintover.bridge.messages import ENDED, QUEUED, JobState, Progress, Texture, TextureResult
from paintover.bridge.parameters import Settings
from tests.server_process import ServerProcess, running

from . import ring
from .report import Result, report

KILLS, KILLS_ALONE = 20, 10
"""With the standby, and without it, which is for comparison."""
SETTINGS = Settings(prompt="brick", seed=1, steps=20, texture_size=256)


class Bench:
    def __init__(self, server: ServerProcess, client: Client) -> None:
        self.server, self.client = server, client
        self._killed = 0
        """The worker that was killed last."""
        mesh, soup = ring.scene()
        (name,) = client.upload([mesh])
        views = tuple(ring.render_passes(soup, camera) for camera in ring.cameras(6, 128))
        self.request = Texture(SETTINGS, views, (name,))

    def run(self, kill_after: float | None = None) -> tuple[float, float | None, np.ndarray | None]:
        """A job: its duration, the time from the kill until work went on, its texture. Seconds from the first step."""
        job = self.client.submit(self.request)
        started: float | None = None
        killed: float | None = None
        back: float | None = None
        requeued = False
        texture: np.ndarray | None = None
        while True:
            message = self._next(started, kill_after if killed is None else None)
            now = time.monotonic()
            if message is None:
                worker = self.server.worker()
                worker.kill()
                self._killed, killed = worker.pid, now
                continue
            if getattr(message, "job", "") != job:
                continue
            if isinstance(message, Progress) and at_work(message):
                started = started or now
                if killed and requeued and back is None:
                    back = now - killed
            requeued |= killed is not None and isinstance(message, JobState) and message.state == QUEUED
            if isinstance(message, TextureResult):
                texture = message.image
            if isinstance(message, JobState) and message.state in ENDED:
                if killed and requeued and back is None:
                    back = now - killed  # all was finished but the last word
                assert started, "no step of it was seen: the kill's moment would mean nothing"
                return now - started, back, texture

    def _next(self, started: float | None, kill_after: float | None) -> Any:
        """The next message, or None when it is time to kill."""
        if started is None or kill_after is None:
            return self.client.receive(120)
        with contextlib.suppress(queue.Empty):  # its time has come
            return self.client.receive(max(0.0, started + kill_after - time.monotonic()))
        return None

    def wait_until_warm(self) -> float:
        """Seconds until a standby holds the model, beside a worker that lives."""
        begun = time.monotonic()
        while not self._warm():
            if time.monotonic() > begun + 300:
                raise TimeoutError(f"no standby became warm:\n{self.server.log.read_text()[-4000:]}")
            time.sleep(0.05)
        return time.monotonic() - begun

    def _warm(self) -> bool:
        active = {worker.pid for worker in self.server.workers()} - {self._killed}  # the server may not know it yet
        alive = {process.pid for process in self.server.processes()}
        ready = {int(pid) for pid in re.findall(r"Worker (\d+) holds mini ready", self.server.log.read_text())}
        return bool(active) and bool(ready & alive - active)


def at_work(message: Progress) -> bool:
    return ": Step " in message.stage or message.stage.startswith("Baking")


def measure(folder: Path, standby: bool) -> tuple[list[float], int, int, list[float], float]:
    """Seconds until work went on, jobs lost, jobs whose texture differs, seconds until warm, undisturbed duration."""
    chance = random.Random(7)
    back: list[float] = []
    warm: list[float] = []
    lost = changed = 0
    with running(folder, "diffusers", *([] if standby else ["--no-standby"])) as server, server.client() as client:
        bench = Bench(server, client)
        bench.run()  # loads the model
        duration, _, expected = bench.run()
        kills = KILLS if standby else KILLS_ALONE
        while len(back) + lost < kills:
            if standby:
                warm.append(bench.wait_until_warm())
            _, seconds, texture = bench.run(kill_after=chance.uniform(0, duration))
            if texture is None:
                lost += 1
            elif seconds is not None:  # else it was over before the kill: another job is hit
                back.append(seconds)
                changed += not np.array_equal(texture, expected)
            print(f"{len(back) + lost}/{kills} {seconds}", flush=True)
    return back, lost, changed, warm, duration


def slowdown(folder: Path) -> float:
    """Duration of a job while a standby starts, over that of the same job alone."""
    with running(folder, "diffusers") as server, server.client() as client:
        bench = Bench(server, client)
        bench.run()
        bench.wait_until_warm()
        alone = statistics.median(bench.run()[0] for _ in range(5))
        beside = []
        for _ in range(3):
            active = server.worker().pid
            pids = {process.pid for process in server.processes()}
            (standby,) = [process for process in server.processes() if process.pid != active]
            standby.kill()
            while {process.pid for process in server.processes()} <= pids:
                time.sleep(0.05)
            beside.append(bench.run()[0])
            bench.wait_until_warm()
    return statistics.median(beside) / alone


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        back, lost, changed, warm, duration = measure(Path(folder) / "with", standby=True)
        slower = slowdown(Path(folder) / "slowdown")
        alone, lost_alone, changed_alone, _, _ = measure(Path(folder) / "without", standby=False)
    p95 = [float(np.percentile(times, 95)) for times in (back, alone)]
    report(
        "recover",
        [
            Result("jobs_lost", lost + lost_alone, f"of {KILLS + KILLS_ALONE}", at_most=0),
            Result("textures_changed", changed + changed_alone, f"of {KILLS + KILLS_ALONE}", at_most=0),
            Result("back_after_p95_s", p95[0], "s", at_most=5),
            Result("back_after_median_s", statistics.median(back), "s"),
            Result("back_after_p95_s_without_standby", p95[1], "s"),
            Result("back_after_median_s_without_standby", statistics.median(alone), "s"),
            Result("undisturbed_job_s", duration, "s"),
            Result("standby_warm_again_after_median_s", statistics.median(warm), "s"),
            Result("job_slowdown_while_standby_starts", slower, "x"),
        ],
    )


if __name__ == "__main__":
    main()
