"""A shot of the render engine whose connection ends at the wrong moment, over a scripted one. With a real server it is
in tests/end_to_end."""

from __future__ import annotations

import queue
from types import SimpleNamespace
from typing import Any

import pytest

from paintover.animate.engine_shot import EngineShot
from paintover.bridge.errors import Cancelled, ConnectionLost
from paintover.bridge.messages import (
    CANCELLED,
    DONE,
    RUNNING,
    Cancel,
    Follow,
    FrameWanted,
    JobState,
    Progress,
    Resume,
)
from paintover.bridge.origin import Origin
from paintover.bridge.parameters import Settings

JOB = "7" * 32


class ScriptedClient:
    """A connection that hands out what the test put in, until it is lost."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.sent: list[Any] = []
        self.lost = False

    def submit(self, request: Any, origin: Any) -> str:
        return JOB

    def send(self, message: Any) -> None:
        if self.lost:
            raise ConnectionLost
        self.sent.append(message)

    def receive(self, timeout: float) -> Any:
        if self.events:
            return self.events.pop(0)
        raise ConnectionLost if self.lost else queue.Empty

    def close(self) -> None:
        self.lost = True


@pytest.fixture
def clients() -> list[ScriptedClient]:
    """Those that were made, the newest last."""
    return []


@pytest.fixture
def shot(clients: list[ScriptedClient]) -> EngineShot:
    def connect() -> Any:
        clients.append(ScriptedClient())
        return clients[-1]

    made = EngineShot(connect, SimpleNamespace(width=64, height=64), Settings(), range(1, 9), Origin())  # type: ignore[arg-type]
    made._engine = SimpleNamespace(test_break=lambda: False, update_stats=lambda *words: None)
    return made


def test_a_rest_that_the_server_never_heard_of(shot: EngineShot, clients: list[ScriptedClient]) -> None:
    clients[0].lost = True
    shot.rest()
    shot._listen()
    assert clients[1].sent == [Follow(JOB)]
    clients[1].events = [JobState(JOB, RUNNING), FrameWanted(JOB, 0), JobState(JOB, CANCELLED)]
    for _ in range(3):
        shot._listen()
    assert clients[1].sent == [Follow(JOB), Cancel(JOB), Resume(JOB)], "as if nothing had been lost"


def test_a_resumption_that_is_lost(shot: EngineShot, clients: list[ScriptedClient]) -> None:
    shot.rest()
    clients[0].events = [JobState(JOB, CANCELLED)]
    clients[0].lost = True
    shot._listen()
    shot._listen()
    clients[1].events = [JobState(JOB, CANCELLED)]
    shot._listen()
    assert clients[1].sent == [Follow(JOB), Resume(JOB)]
    clients[1].events = [JobState(JOB, RUNNING), JobState(JOB, CANCELLED)]
    shot._listen()
    with pytest.raises(Cancelled):  # now it is somebody else's doing
        shot._listen()


def test_a_resumption_that_left_and_did_not_arrive(shot: EngineShot, clients: list[ScriptedClient]) -> None:
    shot.rest()
    clients[0].events = [JobState(JOB, CANCELLED)]
    shot._listen()
    assert clients[0].sent == [Cancel(JOB), Resume(JOB)]
    clients[0].lost = True
    shot._listen()
    clients[1].events = [JobState(JOB, CANCELLED)]
    shot._listen()
    assert clients[1].sent == [Follow(JOB), Resume(JOB)]


def test_a_shot_that_was_finished_although_it_was_to_rest(shot: EngineShot, clients: list[ScriptedClient]) -> None:
    shot.rest()
    clients[0].events = [JobState(JOB, DONE)]
    shot._listen()
    shot.rest()
    assert clients[0].sent == [Cancel(JOB)], "it is over"


def test_blender_shows_how_far_the_animation_is(shot: EngineShot, clients: list[ScriptedClient]) -> None:
    shown: list[float] = []
    shot._engine.update_progress = shown.append
    clients[0].events = [Progress(JOB, "Painting frame 2", 0.3), Progress(JOB, "Painting frame 3", 0.4)]
    shot._listen()
    shot._listen()
    assert shown == [0.3, 0.4]
