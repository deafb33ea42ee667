"""A real server process for tests: its own data folder, a port of its own, and an end that is always waited for."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import psutil

from paintover.bridge.client import Client

from .waiting import wait_until

TOKEN = "a-token-for-tests"


class ServerProcess:
    PROGRAM: ClassVar[tuple[str, ...]] = ("-m", "paintover.server.cli")

    def __init__(self, data: Path, engine: str = "fake", *arguments: str) -> None:
        self.data = data
        data.mkdir(parents=True, exist_ok=True)
        (data / "token").write_text(TOKEN)
        self.log = data / "server.log"
        # No ports beside the bridge's, unless a test names one: servers of several tests run at once.
        for flag in ("--osc-port", "--http-port"):
            if flag not in arguments:
                arguments = (*arguments, flag, "0")
        command = [
            sys.executable,
            *self.PROGRAM,
            "serve",
            "--port",
            "0",
            "--engine",
            engine,
            *arguments,
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, env={**os.environ, "PAINTOVER_DATA": str(data)}
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode()
        match = re.search(r"listens on .*:(\d+)$", line.strip())
        assert match, f"the server did not start: {line!r}\n{self.log.read_text()}"
        self.port = int(match[1])

    def client(self, token: str = TOKEN) -> Client:
        return Client.connect("127.0.0.1", self.port, token, name="tests")

    def workers(self) -> list[psutil.Process]:
        """The worker that does the jobs, or none between the death of one and the next."""
        pids = re.findall(r"Worker (\d+) takes the jobs", self.log.read_text())
        return [process for process in self.processes() if pids and process.pid == int(pids[-1])]

    def processes(self) -> list[psutil.Process]:
        """All worker processes: the one that does the jobs, and the standby."""
        found = []
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                if any("server.worker" in part for part in child.cmdline()):
                    found.append(child)
        return found

    def worker(self) -> psutil.Process:
        (worker,) = self.workers()
        return worker

    def said(self, words: str, count: int = 1, timeout: float = 120) -> None:
        """Wait until the server's log has these words so many times."""
        wait_until(
            lambda: len(re.findall(words, self.log.read_text())) >= count,
            timeout,
            lambda: f"never said {words!r}:\n{self.log.read_text()}",
        )

    def stop(self) -> int:
        """Stop as a user would; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()
            assert self.process.stdout is not None
            self.process.stdout.close()


@contextlib.contextmanager
def running(data: Path, engine: str = "fake", *arguments: str) -> Iterator[ServerProcess]:
    server = ServerProcess(data, engine, *arguments)
    try:
        yield server
    finally:
        server.stop()
