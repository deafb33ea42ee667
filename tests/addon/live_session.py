"""A live view over a scripted link, for tests inside Blender."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import bpy
import numpy as np

from paintover.bridge.errors import ConnectionLost
from paintover.bridge.live import LIVE
from paintover.bridge.live_messages import (
    LiveFrame,
    LivePicture,
    LiveValues,
)
from paintover.link import LinkState
from paintover.live import painter
from paintover.live.painter import LiveView
from paintover.session import Session

from ..waiting import wait_until
from .scenes import add_camera, add_sphere
from .scripted import tick_while

DEFAULTS = {row.name: row.default for row in LIVE} | {"seed": 7, "output_width": 64, "output_height": 64}


class ScriptedLink:
    """Stands in for the network: hands out what the test put in, and notes what was sent."""

    def __init__(self) -> None:
        self.state = LinkState.ONLINE
        self.events: list[Any] = []
        self.sent: list[Any] = []
        self.connects = 0

    def poll(self, timeout: float = 0.0) -> Any | None:
        return self.events.pop(0) if self.events else None

    def send(self, message: Any) -> None:
        if self.state is not LinkState.ONLINE:
            raise ConnectionLost()
        self.sent.append(message)

    def connect(self, *address: Any) -> None:
        self.connects += 1
        self.state = LinkState.CONNECTING

    def close(self) -> None:
        self.state = LinkState.OFFLINE

    def of(self, kind: type) -> list[Any]:
        return [message for message in self.sent if isinstance(message, kind)]


@contextlib.contextmanager
def scripted() -> Iterator[Session]:
    """A session that may go live."""
    painter._parameters.clear()
    made = Session()
    made.link = ScriptedLink()  # type: ignore[assignment]
    yield made
    made.end_live()


def go(session: Session, frame: tuple[int, int] = (64, 64), **values: Any) -> LiveView:
    """Live on the scene's camera, of a render of that size, with a ball before it, and a stage that has told its
    values."""
    scene = bpy.context.scene
    add_camera(scene)
    scene.render.resolution_x, scene.render.resolution_y = frame
    add_sphere(scene)
    scene.paintover.live_camera = "SCENE"
    live = LiveView(scene, None)
    session.start_live(live)
    arrive(session, LiveValues(DEFAULTS | values))
    return live


def arrive(session: Session, *messages: Any) -> None:
    session.link.events += messages  # type: ignore[attr-defined]
    tick_while(session, lambda: session.link.events)  # type: ignore[attr-defined]


def settle(session: Session, ticks: int = 5) -> list[LiveFrame]:
    """Tick, and let the sender's thread finish every time; returns the frames that were sent up to now."""
    for _ in range(ticks):
        session.tick()
        wait_until(lambda: not (session.live and session.live._sender.busy), 30)
    return session.link.of(LiveFrame)  # type: ignore[attr-defined]


def picture(number: int, color: int = 90) -> LivePicture:
    return LivePicture(number, np.full((64, 64, 3), color, np.uint8))


def turn(angle: float = 0.02) -> None:
    bpy.context.scene.camera.rotation_euler.z += angle
