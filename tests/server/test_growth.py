"""What clients and workers leave behind in a server that runs for days: nothing."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from paintover.bridge.aio import Channel
from paintover.bridge.live_messages import LiveFrame, LiveJoin, LiveSet
from paintover.server.live.measure import WAITING
from paintover.server.live.stage import Stage
from paintover.server.live.state import LiveState
from paintover.server.supervisor import Supervisor

from .. import counting_server
from ..bridge.conftest import make_passes
from ..server_process import ServerProcess
from ..waiting import wait_until
from .live_client import LiveClient

VISITORS, DEATHS = 6, 2


class CountingServer(ServerProcess):
    PROGRAM = ("-m", counting_server.__name__)

    def held(self) -> dict[str, int]:
        """How many objects of each type the front holds."""
        path = self.data / counting_server.HELD
        path.unlink(missing_ok=True)
        self.process.send_signal(signal.SIGUSR1)
        wait_until(path.exists, 30, lambda: "it does not count")
        found: dict[str, int] = json.loads(path.read_text())
        return found


@pytest.fixture
def server(tmp_path: Path) -> Iterator[CountingServer]:
    process = CountingServer(tmp_path)
    try:
        yield process
    finally:
        process.stop()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGUSR1")
def test_clients_and_workers_leave_nothing_behind(server: CountingServer) -> None:
    with LiveClient(server) as client:
        for death in range(DEATHS):
            client.send(death)
            client.picture(lambda picture, wanted=death: picture.number == wanted)
            server.said("holds mini-turbo ready", death + 1)  # so that it will
            with contextlib.ExitStack() as stack:
                for number in range(VISITORS):
                    visitor = stack.enter_context(LiveClient(server, source=False))
                    visitor.picture()
                    if number % 2:
                        stack.callback(visitor.client._socket.close)  # leaves without a word
                assert server.held()["Channel"] >= 1 + 2 + VISITORS
            server.worker().kill()
            server.said("takes the jobs", death + 2)
        server.said("holds mini-turbo ready", DEATHS + 1)
        wanted = {"Channel": 3, "Decoder": 3, "Mailbox": 3, "WorkerProcess": 2, "Popen": 2}
        wait_until(lambda: server.held() == wanted, 30, lambda: f"it holds {server.held()}")


async def test_what_is_never_painted_is_forgotten() -> None:
    stage, channel, passes = Stage(LiveState(), Supervisor("fake"), lambda model: {}), Channel(), make_passes(8, 8)
    stage.join(channel, LiveJoin(source=True))
    for number in range(WAITING + 10):
        stage.frame(channel, LiveFrame(number, passes))
        stage.set(channel, LiveSet({"seed": number}))
        stage._update(now=float(number))
    assert (len(stage._measure._origins), len(stage._measure._sent)) == (WAITING, WAITING)
    stage.leave(channel)
    assert not stage._measure._origins, "nor is a client that has left held by its frames"
