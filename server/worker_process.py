"""A worker process as the front sees it: started, spoken to, listened to for its heartbeat, buried."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from paintover.bridge.aio import Channel
from paintover.bridge.board import Board
from paintover.bridge.cores import go_anywhere
from paintover.bridge.errors import ConnectionLost, PaintoverError, ServerStartFailed
from paintover.bridge.wire import UNLIMITED, Malformed

from .ending import end
from .worker_messages import TO_FRONT, Beat, Ended, Run, StreamPicture, StreamState, Warm, WorkerHello

log = logging.getLogger("paintover.front")

START_TIMEOUT = 120.0
"""Seconds: importing torch from a cold disk can take a minute."""
STANDBY_TIMEOUT = 900.0
"""Seconds: while a job runs, a standby imports at low priority."""
LISTEN, MISSED = 5.0, 6
"""A worker that is not heard for so many stretches of LISTEN seconds in a row hangs. Counted in stretches, so that a
front that itself was stopped for a while (a laptop that slept) hears what waits before it judges."""
LOOK = 0.05
"""Seconds between looks whether one that was started has ended before it said a word."""
STUCK = 300.0
"""Seconds for which a job may say nothing and use no processor time. A GPU's long step keeps the processor polling, and
one that is not polled for has long said something."""


QUIET = {
    # Threads that wait for work spin by default, and take the cores from Blender, which renders on the same ones.
    "OMP_WAIT_POLICY": "PASSIVE",
    # By default glibc gives freed memory back to the system at once, and gets it back page by page: 15,000 pages for
    # each frame of 256² on the CPU.
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
}
"""Environment of a worker, unless the server's own says otherwise."""


class WorkerProcess:
    """One worker. `start` makes it; after its end `receive` gives None and `dead` is True, then it wants `bury`."""

    def __init__(self, process: subprocess.Popen[bytes], channel: Channel, device: str) -> None:
        self._process = process
        self._channel = channel
        self.device = device
        self.beat = Beat()
        """What it said of itself last."""
        self.asked: Warm | None = None
        """What it was asked to have loaded."""
        self.dead = False
        self.on_stream: Callable[[StreamPicture | StreamState], None] = lambda message: None
        """Gets what it says of the stream."""
        self.on_death: Callable[[], None] = lambda: None
        self._why = ""
        self._running = False
        self._worked = (time.monotonic(), 0.0)
        """When it was last seen to work, and its processor time then."""
        self._reports: asyncio.Queue[Any] = asyncio.Queue()
        channel.at_once = self._show
        self._listening = asyncio.create_task(self._listen())

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, message: Any) -> None:
        if isinstance(message, Run):
            self._running, self._worked = True, (time.monotonic(), self.beat.cpu_seconds)
        self._channel.send(message)

    @property
    def board(self) -> Board | None:
        """Where its pictures lie."""
        return self._channel.board

    def lend(self, board: Board) -> None:
        """Let it read the frames that a client writes there."""
        self._channel.lend(board)

    async def receive(self) -> Any | None:
        """The next report of its job; None once it is dead."""
        return await self._reports.get()

    # ------------------------------------------------------------ its life

    @classmethod
    async def start(
        cls, engine: str, *, standby: bool = False, connected_to: Callable[[Channel], None] = lambda channel: None
    ) -> WorkerProcess:
        """A worker that is ready for a job. Raises ServerStartFailed. A standby has imported all it needs by then.

        `connected_to` gets its channel as soon as there is one.
        """
        loop = asyncio.get_running_loop()
        connected: asyncio.Future[Channel] = loop.create_future()

        def accept() -> Channel:
            channel = Channel(UNLIMITED, TO_FRONT)
            if not connected.done():
                connected.set_result(channel)
                connected_to(channel)
            return channel

        # A fresh port and nonce for every worker; nobody else can take its place.
        nonce = secrets.token_hex(16)
        listener, process = await _launch(accept, nonce, engine, standby)
        try:
            channel = await _greeted(process, connected, nonce, STANDBY_TIMEOUT if standby else START_TIMEOUT)
        except BaseException as error:
            if not isinstance(error, (PaintoverError, TimeoutError)):
                process.kill()  # the server is being stopped: there may be no second chance
            reason = await asyncio.shield(_end(process))
            if isinstance(error, (PaintoverError, TimeoutError)):
                raise ServerStartFailed(reason=f"the painting process did not start ({reason})") from error
            raise
        finally:
            listener.close()
        channel[0].offer_lane()
        worker = cls(process, channel[0], channel[1])
        log.info("Worker %d is ready%s", process.pid, " to step in" if standby else "")
        return worker

    def give_up(self, reason: str) -> None:
        """It is as good as dead."""
        self._why = self._why or reason
        self._channel.abort()

    async def bury(self) -> str:
        """Kill what is left of it; returns in plain words how it ended."""
        await end([self._listening])
        self.dead = True
        self._channel.close()
        how = await _end(self._process, wait=0.0 if self._why else 0.2)
        return self._why or how

    async def _listen(self) -> None:
        """Sort what it says, until it is dead."""
        missed = 0
        try:
            while not self._why:
                try:
                    message = await asyncio.wait_for(self._channel.receive(), LISTEN)
                except TimeoutError:
                    missed += 1
                    if missed >= MISSED:
                        self._why = f"it did not answer for {LISTEN * MISSED:.0f} seconds"
                    continue
                missed = 0
                self._hear(message)
        except PaintoverError as error:
            if not isinstance(error, ConnectionLost):  # else the channel ended: so did the process
                self._why = self._why or f"what it said could not be taken: {error.message.rstrip('.')}"
        finally:
            self.dead = True
            self._reports.put_nowait(None)
            self.on_death()

    def _show(self, message: Any) -> bool:
        """Pass on at once what the stream says: a picture does not wait for the loop's next turn."""
        if not isinstance(message, StreamPicture | StreamState):
            return False
        self._channel.offer_board()
        try:
            self.on_stream(message)
        except Exception as error:  # a bug in who shows it is no reason to lose the worker
            log.error("A %s could not be shown", type(message).__name__, exc_info=error)
        return True

    def _hear(self, message: Any) -> None:
        now = time.monotonic()
        if isinstance(message, Malformed):
            log.error("The worker sent a malformed %s: %s", message.tag, message.error)
        elif isinstance(message, Beat):
            self.beat = message
            since, cpu = self._worked
            if message.cpu_seconds - cpu > 0.02 * (now - since):
                self._worked = (now, message.cpu_seconds)
            elif self._running and now - since > STUCK:
                self._why = f"its job stood still for {STUCK:.0f} seconds"
        else:
            self._running = not isinstance(message, Ended)
            self._worked = (now, self.beat.cpu_seconds)
            self._reports.put_nowait(message)


async def _launch(
    accept: Callable[[], Channel], nonce: str, engine: str, standby: bool
) -> tuple[asyncio.Server, subprocess.Popen[bytes]]:
    """Start a process that will connect to the listener. Raises ServerStartFailed."""
    listener: asyncio.Server | None = None
    try:
        listener = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        command = [sys.executable, "-m", "paintover.server.worker", str(port), engine, *(["standby"] * standby)]
        environment = {**QUIET, **os.environ, "PYTHONUNBUFFERED": "1"}
        go_anywhere()  # or it would inherit what this thread keeps off
        process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)
    except OSError as error:  # no memory, no process or no port left
        if listener:
            listener.close()
        raise ServerStartFailed(reason=f"the painting process did not start ({error})") from error
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it ended already: that is noticed next
        process.stdin.write(nonce.encode() + b"\n")
        process.stdin.close()
    return listener, process


async def _greeted(
    process: subprocess.Popen[bytes], connected: asyncio.Future[Channel], nonce: str, timeout: float
) -> tuple[Channel, str]:
    """The worker's channel and device, once it has shown that it is the one. Raises PaintoverError or TimeoutError."""
    until = time.monotonic() + timeout
    while not connected.done() and process.poll() is None and time.monotonic() < until:
        await asyncio.wait([connected], timeout=LOOK)
    if not connected.done():
        raise TimeoutError
    channel = connected.result()
    hello = await asyncio.wait_for(channel.receive(), timeout)
    if not isinstance(hello, WorkerHello) or not secrets.compare_digest(hello.nonce, nonce):
        raise ServerStartFailed(reason="something else answered in the worker's place")
    return channel, hello.device


async def _end(process: subprocess.Popen[bytes], wait: float = 0.2) -> str:
    """Kill a process that does not end by itself; returns in plain words how it ended."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        await asyncio.to_thread(process.wait, wait)
    alive = process.poll() is None
    if alive:
        process.kill()
    code = await asyncio.to_thread(process.wait)
    if alive:
        return "it did not answer"
    if code == -9:
        return "it was killed, signal 9: the system does that when memory runs out"
    return f"signal {-code}" if code < 0 else f"exit code {code}"
