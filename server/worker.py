"""The worker process: owns torch and the GPU, runs one job at a time, and ends when the front goes away.

The front starts it (worker_process.py), nobody else: python -m paintover.server.worker PORT ENGINE [standby], with a
nonce as the first line of standard input.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from paintover.bridge.connection import Connection
from paintover.bridge.cores import go_anywhere
from paintover.bridge.errors import Cancelled, ConnectionLost, PaintoverError
from paintover.bridge.messages import Failure, FrameGiven, FrameWanted, Generate, ImageResult, Preview, Progress, Shot
from paintover.bridge.shot import ShotFrame
from paintover.bridge.shot_messages import AHEAD
from paintover.bridge.wire import UNLIMITED, Decoder, Malformed

from .engine import Engine, failure_of
from .stream import StreamLoop
from .worker_messages import TO_WORKER, Beat, Ended, Run, Stop, Warm, WorkerHello, Yield

log = logging.getLogger("paintover.worker")

PREVIEW_SIDE = 128
PREVIEW_INTERVAL = 0.1
"""Seconds between previews at the least: more are not seen, and cost time."""
BEAT_INTERVAL = 1.0
WAITING = 5.0
"""Seconds after which a job that waits for frames says so, and that it is alive."""


class JobMonitor:
    """A running job's voice and ear (see engine.Monitor). It listens for Stop whenever it is asked to check.

    What comes for others meanwhile goes to the stream, or waits in `waiting`.
    """

    def __init__(self, connection: Connection, job: str, stream: StreamLoop, waiting: list[Any]) -> None:
        self._connection = connection
        self._job = job
        self._stream = stream
        self._waiting = waiting
        self._last_preview = 0.0
        self._given: dict[int, ShotFrame] = {}
        """Frames that have come and are not painted yet, by place."""

    def progress(self, stage: str, fraction: float) -> None:
        self._connection.send(Progress(self._job, stage, float(min(1.0, max(0.0, fraction)))))

    def preview(self, image: np.ndarray) -> None:
        now = time.monotonic()
        if now - self._last_preview >= PREVIEW_INTERVAL:
            self._last_preview = now
            stride = max(1, -(-max(image.shape[:2]) // PREVIEW_SIDE))
            self._connection.send(Preview(self._job, np.ascontiguousarray(image[::stride, ::stride])))

    def result(self, message: Any) -> None:
        """Send a finished part of the job."""
        self._connection.send(message)

    def check(self) -> None:
        with contextlib.suppress(queue.Empty):  # all is heard
            while True:
                self._hear(self._connection.receive(timeout=0))
        if Stop(self._job) in self._waiting:
            raise Cancelled()

    def frames(self, first: int, count: int) -> Iterator[ShotFrame]:
        """Those of a shot from place `first` on, as they are asked for. They come from the client: a few are under way
        at a time, so that one is rendered while another is painted."""
        asked = first
        for place in range(first, count):
            if asked < min(place + AHEAD, count):
                ahead = min(place + AHEAD, count) - asked
                self.result(FrameWanted(self._job, asked, ahead))
                asked += ahead
            self.check()
            while place not in self._given:
                try:
                    self._hear(self._connection.receive(timeout=WAITING))
                except queue.Empty:
                    self.progress("Waiting for Blender to render", place / count)
                self.check()
            yield self._given.pop(place)

    def _hear(self, message: Any) -> None:
        if isinstance(message, FrameGiven):
            if message.job == self._job:
                self._given[message.place] = message.frame
        elif not self._stream.hear(message):
            self._waiting.append(message)


def make_engine(name: str) -> Engine:
    """The engine called `name`: "diffusers", or the tests' "fake", which needs no torch."""
    if name == "fake":
        from .fake_engine import FakeEngine

        return FakeEngine()
    from .pipelines.engine import DiffusersEngine

    return DiffusersEngine()


def run_job(engine: Engine, run: Run, monitor: JobMonitor) -> None:
    """Do what the request asks for and send its results."""
    request = run.request
    if isinstance(request, Generate):
        if request.passes is not None:
            request.passes.check_values()
        painting = engine.paint(request, monitor)
        monitor.result(ImageResult(run.job, painting.image, request.settings, painting.seconds))
        return
    if isinstance(request, Shot):
        from .animation.shot import paint_shot

        for part in paint_shot(engine, run, request, monitor.frames(run.place, len(request.numbers)), monitor):
            monitor.result(part)
        return
    from .texturing.job import paint_textures  # imports torch, which jobs of the fake engine may not need

    for result in paint_textures(engine, run, request, monitor):
        monitor.result(result)


def serve(connection: Connection, engine: Engine, waiting: list[Any]) -> None:
    """Run jobs, and paint frames between them, until the connection ends; first what is in `waiting`."""

    def listen() -> None:
        drain(connection, stream, waiting)

    stream = StreamLoop(engine, connection.send, listen)
    while True:
        try:
            message = waiting.pop(0) if waiting else connection.receive(stream.patience)
        except queue.Empty:
            stream.paint()
            continue
        if stream.hear(message):
            continue
        if isinstance(message, Malformed):
            connection.send(Ended(message.job, Failure.of(message.error)))
        elif isinstance(message, Run):
            go_anywhere()
            failure = None
            try:
                run_job(engine, message, JobMonitor(connection, message.job, stream, waiting))
            except Exception as error:  # noqa: BLE001 - whatever a job does, the worker lives on and says so
                failure = failure_of(error)
            connection.send(Ended(message.job, failure))
        elif isinstance(message, Warm):
            apart(connection, waiting, lambda message=message: warm(engine, message))  # type: ignore[misc]


def drain(connection: Connection, stream: StreamLoop, waiting: list[Any]) -> None:
    """Have the stream hear what has come for it; the rest goes to `waiting`."""
    while True:
        try:
            message = connection.receive(timeout=0)
        except queue.Empty:
            return
        if not stream.hear(message):
            waiting.append(message)


def warm(engine: Engine, wanted: Warm) -> None:
    """Load a model ahead of its job. One that cannot be loaded is the job's to report."""
    try:
        engine.hold(wanted.model, wanted.controls)
    except Exception as error:  # noqa: BLE001 - the standby lives on, without the model
        log.warning("The standby did not load %s: %s", wanted.model, error)


def apart(connection: Connection, waiting: list[Any], work: Callable[[], object]) -> None:
    """Do `work` in a thread of its own, which yields to everybody else from the moment when Yield arrives, and wait
    for it; other messages wait in `waiting`. Raises what it raises.

    On Linux a thread has a priority of its own. It can be lowered, but raised again only with a privilege: so it is not
    this one's. Elsewhere the whole process would keep it, so there nothing is lowered.
    """
    outcome: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again below
            outcome.append(error)

    thread = threading.Thread(target=run, name="paintover-apart", daemon=True)
    thread.start()
    while thread.is_alive():
        try:
            message = connection.receive(timeout=0.1)
        except queue.Empty:
            continue
        if not isinstance(message, Yield):
            waiting.append(message)
        elif sys.platform == "linux" and thread.native_id and thread.is_alive():
            os.setpriority(os.PRIO_PROCESS, thread.native_id, 19)
    for left in slowed():  # pools of threads that it has started, and that are used by everybody
        with contextlib.suppress(OSError):  # not allowed: the heartbeat says so
            os.setpriority(os.PRIO_PROCESS, left, os.getpriority(os.PRIO_PROCESS, os.getpid()))
    if outcome:
        raise outcome[0]


def slowed() -> list[int]:
    """The threads of this process that are at a lower priority than its main one."""
    found = []
    if sys.platform == "linux":
        usual = os.getpriority(os.PRIO_PROCESS, os.getpid())
        for thread in map(int, os.listdir("/proc/self/task")):
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                if os.getpriority(os.PRIO_PROCESS, thread) > usual:
                    found.append(thread)
    return found


def beat(connection: Connection, engine: Engine) -> None:
    """Say every second that this process lives and what it holds, from a thread of its own: a long step is no hang."""

    def run() -> None:
        said, well = Beat(), True
        while not connection.ended.wait(BEAT_INTERVAL):
            try:
                said, well = measure(engine, connection.reading_seconds), True
            except Exception as error:
                if well:
                    log.error("The worker cannot measure itself", exc_info=error)
                well = False
            with contextlib.suppress(ConnectionLost):
                connection.send(said)

    threading.Thread(target=run, name="paintover-beat", daemon=True).start()


def measure(engine: Engine, reading: float) -> Beat:
    """What this worker holds, and what is left. `reading`: processor time that was no work, but came with messages."""
    process = psutil.Process()
    ram_used, ram_free, cpu = process.memory_info().rss, available_ram(), process.cpu_times()
    held = engine.held()
    device_used, device_free = held.device_memory or (ram_used, ram_free)
    return Beat(
        held.model, held.controls, held.model_bytes, device_used, device_free, ram_used, ram_free,
        cpu.user + cpu.system - reading, bool(slowed()),
    )  # fmt: skip


def available_ram() -> int:
    """Bytes that this process could still take: of the machine, and of the container that it may run in."""
    available = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError, KeyError):  # no container, or one without a limit
        group = Path("/sys/fs/cgroup")
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        kinds = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        available = min(available, limit - used + int(kinds["inactive_file"]))  # files that would make room
    return max(0, available)


def stand_in_for_others() -> None:
    """Where memory runs out, have Linux end this process, which is replaced, and not Blender with its unsaved scene."""
    with contextlib.suppress(OSError):  # another system, or not allowed
        Path("/proc/self/oom_score_adj").write_text("1000")


def die_with(connection: Connection) -> None:
    """End this process as soon as the front is gone, even in the middle of a step."""

    def watch() -> None:
        connection.ended.wait()
        os._exit(0)

    threading.Thread(target=watch, name="paintover-watch", daemon=True).start()


def prepare(engine_name: str) -> Engine:
    """An engine with everything imported that a job may need."""
    engine = make_engine(engine_name)
    if engine_name != "fake":
        from .animation import shot as shot
        from .texturing import job as job  # scipy, and what the texture job is made of
    engine.hold("", ())
    return engine


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s worker %(levelname)s %(message)s")
    stand_in_for_others()
    port, engine_name, standby = int(sys.argv[1]), sys.argv[2], "standby" in sys.argv[3:]
    nonce = sys.stdin.readline().strip()
    connection = Connection(socket.create_connection(("127.0.0.1", port)), Decoder(UNLIMITED, TO_WORKER))
    die_with(connection)
    made: list[Engine] = []
    waiting: list[Any] = []
    if standby:
        apart(connection, waiting, lambda: made.append(prepare(engine_name)))
    engine = made[0] if made else make_engine(engine_name)
    connection.send(WorkerHello(nonce, engine.device))
    beat(connection, engine)
    try:
        serve(connection, engine, waiting)
    except PaintoverError as error:
        log.info("The front is gone: %s", error.message)


if __name__ == "__main__":
    main()
