"""The web part on a stand-in of the stage, with an event loop in a thread of its own: for tests of what it serves."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from paintover.bridge.live_messages import LiveStatus
from paintover.server.live.jpeg import JpegSink
from paintover.server.live.output import Output
from paintover.server.live.state import LiveState
from paintover.server.live.web import Sources, Web

TOKEN = "a-token-for-tests"


@dataclass
class Painted:
    image: np.ndarray
    arrived: float = field(default_factory=time.monotonic)
    depth: np.ndarray | None = None


class Stage:
    def __init__(self) -> None:
        self.picture: Painted | None = None
        self.down = False

    def paint(self, *colour: int, width: int = 128, height: int = 96) -> None:
        self.show(np.full((height, width, 3), colour or (0, 0, 0), np.uint8))

    def show(self, image: np.ndarray) -> None:
        self.picture = Painted(image)


class WebServer:
    """Runs until `stop`. `call` runs something in its loop, and waits for it."""

    def __init__(self, host: str = "127.0.0.1", heard: Callable[[], Any] = lambda: ((), ())) -> None:
        self.stage = Stage()
        self.status = LiveStatus("running", fps=24.0, latency_ms=50.0, text="for a test")
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.state = LiveState()
        self.jpeg = JpegSink()
        self.output = Output(self.stage, self.state.values, [self.jpeg])
        sources = Sources(
            self.state, lambda: self.status, lambda: asdict(self.output.pace()), lambda: self.output.image,
            self.jpeg, lambda: ["mini", "mini-turbo"], heard,
        )  # fmt: skip
        self.output.start()
        self.web: Web = self.call(self._make(sources))
        self.port: int = self.call(self.web.start(host, 0))
        self.url = f"http://127.0.0.1:{self.port}"

    @staticmethod
    async def _make(sources: Sources) -> Web:
        return Web(sources, TOKEN)

    def call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def set(self, name: str, value: Any) -> None:
        async def do() -> None:
            self.state.set(name, value, origin=None, now=time.monotonic())

        self.call(do())

    def trigger(self, address: str, *arguments: float) -> None:
        async def do() -> None:
            self.state.trigger(address, arguments, origin=None, now=time.monotonic())

        self.call(do())

    def stop(self) -> None:
        self.output.close()
        self.call(self.web.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        assert not self._thread.is_alive()
        self.loop.close()


@contextlib.contextmanager
def serving(**how: Any) -> Iterator[WebServer]:
    server = WebServer(**how)
    try:
        yield server
    finally:
        server.stop()
