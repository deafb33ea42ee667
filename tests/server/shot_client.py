"""A Blender as the server sees it: it sends the frames of a shot that are wanted, and keeps what is painted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from paintover.bridge.client import Client
from paintover.bridge.messages import (
    ENDED,
    FrameGiven,
    FrameKept,
    FramePainted,
    FrameWanted,
    JobState,
    Ping,
    Pong,
    Shot,
    Trouble,
)
from paintover.bridge.parameters import Settings
from paintover.bridge.shot import ShotFrame

from . import wall_and_post

LOOK = Settings(prompt="moss", seed=3, steps=2, guidance=1.0, animate_interval=4)


def shot(count: int = 13, **changes: Any) -> Shot:
    """Of the wall and the post."""
    values = {"settings": LOOK, "numbers": tuple(range(1, count + 1)), "width": 64, "height": 64, **changes}
    return Shot(**values)


class Artist:
    """Plays the client's part in one shot."""

    def __init__(self, client: Client, asked: Shot, job: str = "") -> None:
        self.client, self.shot, self.places = client, asked, asked.plan()
        self.job = job or client.submit(asked)
        self.pictures: dict[int, np.ndarray] = {}
        """Of every place."""
        self.heard: list[Any] = []
        self.keeps = True
        self.settings: Callable[[int], Settings] = lambda number: asked.settings

    def frame(self, place: int) -> ShotFrame:
        return wall_and_post.frame(self.places[place], self.settings(self.places[place].number))

    def give(self, place: int) -> None:
        self.client.send(FrameGiven(self.job, place, self.frame(place)))

    def step(self) -> Any:
        """Take a message, and do what it asks for."""
        message = self.client.receive(120)
        if isinstance(message, Trouble) and message.job in ("", self.job):
            raise message.failure.error()
        if getattr(message, "job", "") != self.job:
            return message
        self.heard.append(message)
        if isinstance(message, FrameWanted):
            for place in range(message.place, message.place + message.count):
                self.give(place)
        elif isinstance(message, FramePainted):
            assert message.number == self.places[message.place].number
            self.pictures[message.place] = message.image
            if self.keeps:
                self.client.send(FrameKept(self.job, message.place))
        return message

    def until(self, true: Callable[[Any], object]) -> Any:
        """Play on until a message of the job for which that is true."""
        while True:
            message = self.step()
            if getattr(message, "job", "") == self.job and true(message):
                return message

    def painted(self, place: int) -> Any:
        """Play on until that place is painted."""
        return self.until(lambda message: isinstance(message, FramePainted) and message.place == place)

    def finish(self) -> dict[int, np.ndarray]:
        """Play to the end, and return all pictures. Raises the job's failure."""
        state = self.until(lambda message: isinstance(message, JobState) and message.state in ENDED)
        if state.failure:
            raise state.failure.error()
        return self.pictures

    def of(self, kind: type) -> list[Any]:
        return [message for message in self.heard if isinstance(message, kind)]


def same(a: dict[int, np.ndarray], b: dict[int, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[place], b[place]) for place in a)


def settle(client: Client) -> None:
    """Wait until the front has taken all that was sent before."""
    client.send(Ping(77))
    while client.receive(60) != Pong(77):
        pass
