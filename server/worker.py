"""The worker process: owns torch and the GPU, runs one job at a time, and ends when the front goes away.

python -m paintover.server.worker PORT ENGINE     (the front's nonce is read from standard input)
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import sys
import threading
import time
import traceback
from typing import Any

import numpy as np

from paintover.bridge.connection import Connection
from paintover.bridge.errors import Cancelled, OutOfMemory, PaintoverError, ServerFailure
from paintover.bridge.messages import Failure, Generate, ImageResult, Preview, Progress
from paintover.bridge.wire import UNLIMITED, Decoder, Malformed

from .engine import Engine
from .worker_messages import TO_WORKER, Ended, Run, Stop, WorkerHello

log = logging.getLogger("paintover.worker")

PREVIEW_SIDE = 128
PREVIEW_INTERVAL = 0.1
"""Seconds between previews at the least: more are not seen, and cost time."""


class JobMonitor:
    """A running job's voice and ear (see engine.Monitor). It listens for Stop whenever it is asked to check."""

    def __init__(self, connection: Connection, job: str, waiting: list[Any]) -> None:
        self._connection = connection
        self._job = job
        self._waiting = waiting
        self._stopped = False
        self._last_preview = 0.0

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
        while True:
            try:
                message = self._connection.receive(timeout=0)
            except queue.Empty:
                break
            if isinstance(message, Stop):
                self._stopped |= message.job == self._job
            else:
                self._waiting.append(message)
        if self._stopped:
            raise Cancelled()


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
    from .texturing.job import paint_textures  # imports torch, which jobs of the fake engine may not need

    for result in paint_textures(engine, run.job, request, run.meshes, monitor):
        monitor.result(result)


def failure_of(error: Exception) -> Failure:
    """What to tell the client. An error that nobody foresaw is logged whole and told in one line."""
    if isinstance(error, PaintoverError):
        return Failure.of(error)
    if isinstance(error, MemoryError):
        return Failure.of(OutOfMemory(reason=str(error) or "no memory left"))
    log.error("%s", traceback.format_exc())
    return Failure.of(ServerFailure(reason=f"{type(error).__name__}: {error}"))


def serve(connection: Connection, engine: Engine) -> None:
    """Run jobs until the connection ends."""
    waiting: list[Any] = []
    while True:
        message = waiting.pop(0) if waiting else connection.receive()
        if isinstance(message, Malformed):
            connection.send(Ended(message.job, Failure.of(message.error)))
        elif isinstance(message, Run):
            failure = None
            try:
                run_job(engine, message, JobMonitor(connection, message.job, waiting))
            except Exception as error:  # noqa: BLE001 - whatever a job does, the worker lives on and says so
                failure = failure_of(error)
            connection.send(Ended(message.job, failure))


def die_with(connection: Connection) -> None:
    """End this process as soon as the front is gone, even in the middle of a step."""

    def watch() -> None:
        connection.ended.wait()
        os._exit(0)

    threading.Thread(target=watch, name="paintover-watch", daemon=True).start()


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s worker %(levelname)s %(message)s")
    port, engine_name = int(sys.argv[1]), sys.argv[2]
    nonce = sys.stdin.readline().strip()
    engine = make_engine(engine_name)
    connection = Connection(socket.create_connection(("127.0.0.1", port)), Decoder(UNLIMITED, TO_WORKER))
    die_with(connection)
    connection.send(WorkerHello(nonce, engine.device))
    try:
        serve(connection, engine)
    except PaintoverError as error:
        log.info("The front is gone: %s", error.message)


if __name__ == "__main__":
    main()
