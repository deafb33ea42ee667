"""How many files a server may have open."""

from __future__ import annotations

import contextlib
import socket
import sys
from pathlib import Path
from typing import ClassVar

import psutil
import pytest

from paintover.bridge.live_messages import LiveTrouble

from ..server_process import ServerProcess
from .live_client import LiveClient

FEW = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, ({}))
from paintover.server import cli
cli.main()
"""


class FewFiles(ServerProcess):
    PROGRAM: ClassVar[tuple[str, ...]] = ("-c", FEW.format("200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]"))


@pytest.mark.skipif(sys.platform != "linux", reason="only there can another process's limit be read")
def test_a_server_has_more_files_than_a_system_that_gives_few(tmp_path: Path) -> None:
    server = FewFiles(tmp_path, "fake", "--no-standby")
    try:
        soft, most = psutil.Process(server.process.pid).rlimit(psutil.RLIMIT_NOFILE)
        assert soft == min(4096, most) > 200
    finally:
        server.stop()


class HardlyAny(ServerProcess):
    PROGRAM: ClassVar[tuple[str, ...]] = ("-c", FEW.format("64, 64"))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit")
def test_a_server_without_files_left_paints_on_and_does_not_fill_its_log(tmp_path: Path) -> None:
    server = HardlyAny(tmp_path, "fake", "--no-standby")
    try:
        with LiveClient(server) as live, contextlib.ExitStack() as open_ones:
            live.send(1)
            live.picture(lambda picture: picture.number == 1)
            for _ in range(60):
                open_ones.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            server.said("Too many open files")
            server.worker().kill()
            live.until(LiveTrouble)  # there are no files for another one, either
            open_ones.close()
            live.send(2)
            live.picture(lambda picture: picture.number == 2)
        log = server.log.read_text()
        assert len(log) < 50_000, log[:5000]
        assert log.count("out of system resource") <= 2
    finally:
        server.stop()
