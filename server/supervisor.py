"""Starts the worker process, gives it jobs, notices when it dies and starts another."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from paintover.bridge.aio import Channel
from paintover.bridge.errors import PaintoverError, ServerStartFailed, WorkerDied
from paintover.bridge.messages import Failure
from paintover.bridge.wire import UNLIMITED, Malformed

from .worker_messages import TO_FRONT, Ended, Run, Stop, WorkerHello

log = logging.getLogger("paintover.front")

START_TIMEOUT = 120.0
"""Seconds: importing torch from a cold disk can take a minute."""


class Supervisor:
    """Owns one worker process at a time."""

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self.device = ""

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def ready(self) -> None:
        """Have a worker: start one if there is none. Raises ServerStartFailed."""
        if self._channel is None:
            self._channel = await self._start()

    async def run(self, run: Run, report: Callable[[Any], None]) -> Failure | None:
        """Let the worker do a job; `report` gets its messages. Returns its failure, if it failed.

        Raises WorkerDied if the worker ends before the job does; the next call starts a new one.
        """
        await self.ready()
        assert self._channel is not None
        self._channel.send(run)
        while True:
            try:
                message = await self._channel.receive()
            except PaintoverError as error:
                reason = await self._bury()
                raise WorkerDied(reason=reason) from error
            if isinstance(message, Malformed):
                log.error("The worker sent a malformed %s: %s", message.tag, message.error)
            elif message.job != run.job:
                log.warning("The worker reported on job %s, which is over", message.job)
            elif isinstance(message, Ended):
                return message.failure
            else:
                report(message)

    def stop_job(self, job: str) -> None:
        """Ask the worker to stop a job at its next step."""
        if self._channel:
            self._channel.send(Stop(job))

    async def close(self) -> None:
        """End the worker."""
        if self._process:
            await self._bury()

    async def _start(self) -> Channel:
        loop = asyncio.get_running_loop()
        connected: asyncio.Future[Channel] = loop.create_future()

        def accept() -> Channel:
            channel = Channel(UNLIMITED, TO_FRONT)
            if not connected.done():
                connected.set_result(channel)
            return channel

        # A fresh port and nonce for every worker; nobody else can take its place.
        listener = await loop.create_server(accept, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        nonce = secrets.token_hex(16)
        command = [sys.executable, "-m", "paintover.server.worker", str(port), self._engine]
        # Threads that wait for work spin by default, and take the cores from Blender, which renders on the same ones.
        environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)
        assert self._process.stdin is not None
        try:
            with contextlib.suppress(BrokenPipeError):  # it ended already: said below
                self._process.stdin.write(nonce.encode() + b"\n")
                self._process.stdin.close()
            channel = await self._greeting(connected)
        finally:
            listener.close()
        try:
            hello = await asyncio.wait_for(channel.receive(), START_TIMEOUT)
        except (PaintoverError, TimeoutError) as error:
            reason = await self._bury()
            raise ServerStartFailed(reason=f"the painting process did not start ({reason})") from error
        if not isinstance(hello, WorkerHello) or not secrets.compare_digest(hello.nonce, nonce):
            await self._bury()
            raise ServerStartFailed(reason="something else answered in the worker's place")
        self.device = hello.device
        channel.offer_lane()
        log.info("Worker %d is ready on %s", self._process.pid, hello.device)
        return channel

    async def _greeting(self, connected: asyncio.Future[Channel]) -> Channel:
        """Wait for the worker's connection, or for its early end."""
        assert self._process is not None
        exited = asyncio.get_running_loop().run_in_executor(None, self._process.wait)
        either: set[asyncio.Future[Any]] = {connected, exited}
        await asyncio.wait(either, timeout=START_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        if connected.done():
            return connected.result()
        reason = await self._bury()
        raise ServerStartFailed(reason=f"the painting process did not start ({reason})")

    async def _bury(self) -> str:
        """Kill what is left of the worker; returns in plain words how it ended."""
        process, channel, self._process, self._channel = self._process, self._channel, None, None
        if channel:
            channel.close()
        if process is None:
            return "it was not running"
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(process.wait, 0.2)
        alive = process.poll() is None
        if alive:
            process.kill()
        code = await asyncio.to_thread(process.wait)
        if alive:
            return "it did not answer"
        return f"signal {-code}" if code < 0 else f"exit code {code}"
