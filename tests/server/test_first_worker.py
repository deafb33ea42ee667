"""A first worker that does not start: whoever waits for the picture is told, and it is tried again."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from paintover.bridge.live_messages import LOADING, RECOVERING, RUNNING, LiveStatus, LiveTrouble

from ..server_process import ServerProcess
from .live_client import LiveClient

FIRST_FAILS = """
import sys
from paintover.bridge.errors import ServerStartFailed
from paintover.server import cli
from paintover.server.worker_process import WorkerProcess

start, tries = WorkerProcess.start.__func__, []

async def late(cls, *arguments, **options):
    tries.append(1)
    if len(tries) < 3:
        raise ServerStartFailed(reason="the disk was slow")
    return await start(cls, *arguments, **options)

WorkerProcess.start = classmethod(late)
cli.main()
"""


class SlowStart(ServerProcess):
    PROGRAM: ClassVar[tuple[str, ...]] = ("-c", FIRST_FAILS)


FIRST_WAITS = """
import asyncio, os
from paintover.server import cli
from paintover.server.worker_process import WorkerProcess

start = WorkerProcess.start.__func__

async def late(cls, *arguments, **options):
    while not os.path.exists(os.environ["PAINTOVER_DATA"] + "/go"):
        await asyncio.sleep(0.01)
    return await start(cls, *arguments, **options)

WorkerProcess.start = classmethod(late)
cli.main()
"""


class LateStart(ServerProcess):
    PROGRAM: ClassVar[tuple[str, ...]] = ("-c", FIRST_WAITS)


def test_a_first_start_loads_and_does_not_recover(tmp_path: Path) -> None:
    server = LateStart(tmp_path, "fake", "--no-standby")
    try:
        with LiveClient(server) as live:
            live.send(1)
            live.until(LiveStatus, lambda status: status.state == LOADING)
            (tmp_path / "go").touch()
            states: list[str] = []
            while RUNNING not in states:
                states.append(live.until(LiveStatus).state)
            assert RECOVERING not in states
    finally:
        server.stop()


def test_the_stage_gets_a_worker_when_the_first_did_not_start(tmp_path: Path) -> None:
    server = SlowStart(tmp_path, "fake", "--no-standby")
    try:
        server.said("the disk was slow")
        with LiveClient(server) as live:
            live.send(1)
            assert "the disk was slow" in live.until(LiveTrouble).failure.message
            assert live.picture()
    finally:
        server.stop()
