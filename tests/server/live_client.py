"""A client of the stage for tests and benchmarks: it sends control frames and takes pictures."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from paintover.bridge.client import Client
from paintover.bridge.live_messages import LiveFrame, LiveJoin, LivePicture, LiveSet

from ..bridge.conftest import make_passes
from ..server_process import ServerProcess

PATIENCE = 60.0


class LiveClient:
    """A greeted client that has joined the stage."""

    def __init__(self, server: ServerProcess, *, source: bool = True, pictures: bool = True, side: int = 64) -> None:
        self.client: Client = server.client()
        self.passes = make_passes(side, side)
        self.client.send(LiveJoin(source, pictures))

    def __enter__(self) -> LiveClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def send(self, number: int, **changes: Any) -> None:
        self.client.send(LiveFrame(number, changes.get("passes", self.passes), changes.get("image")))

    def set(self, **values: Any) -> None:
        self.client.send(LiveSet(values))

    def until(self, wanted: type | tuple[type, ...], true: Callable[[Any], object] = lambda message: True) -> Any:
        """The next message of that type, or of one of them, for which it is true. Others that come before are lost."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                message = self.client.receive(max(0.0, until - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {wanted} in {PATIENCE:.0f} seconds") from None
            if isinstance(message, wanted) and true(message):
                return message

    def picture(self, true: Callable[[LivePicture], object] = lambda message: True) -> LivePicture:
        picture: LivePicture = self.until(LivePicture, true)
        return picture


def color(picture: LivePicture) -> tuple[int, ...]:
    """The null stream's colour of the whole picture."""
    (found,) = np.unique(picture.image[1:].reshape(-1, 3), axis=0)
    return tuple(int(value) for value in found)
