"""Shots and frames that do not fit: each is said to its sender, and the shot can go on."""

from __future__ import annotations

import dataclasses
import uuid
from typing import Any

import numpy as np
import pytest

from paintover.bridge.client import Client
from paintover.bridge.errors import BadMessage, BadPasses, BadSize, MissingModel, NoCamera, UnknownJob
from paintover.bridge.messages import (
    RUNNING,
    Failure,
    FrameGiven,
    FrameKept,
    FrameMissing,
    FrameWanted,
    JobState,
    Resume,
)
from paintover.bridge.shot import Link, ShotFrame

from ..server_process import ServerProcess
from . import wall_and_post
from .recovery import end_of
from .shot_client import LOOK, Artist, settle, shot


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (shot(3, settings=dataclasses.replace(LOOK, model="nonesuch")), MissingModel),
        (shot(3, width=32), BadSize),
        (shot(3, height=8192), BadSize),
        (shot(3, width=65), BadSize),
    ],
)
def test_shots_that_cannot_be_painted_are_refused(client: Client, bad: Any, error: type) -> None:
    with pytest.raises(error):
        Artist(client, bad).finish()


def nan(frame: ShotFrame) -> ShotFrame:
    depth = frame.passes.depth.copy()
    depth[3, 3] = np.nan
    return dataclasses.replace(frame, passes=dataclasses.replace(frame.passes, depth=depth))


def elsewhere(frame: ShotFrame) -> ShotFrame:
    assert frame.before
    return dataclasses.replace(frame, before=Link(4, frame.before.place))


def smaller(frame: ShotFrame) -> ShotFrame:
    small = wall_and_post.passes(frame.number)
    camera = dataclasses.replace(small.camera, width=32, height=32)
    arrays = {name: getattr(small, name)[:32, :32] for name in ("depth", "normal", "edge", "object_id")}
    links = {name: Link(link.frame, link.place[:32, :32]) for name in ("before", "after", "previous")
             if (link := getattr(frame, name))}  # fmt: skip
    return ShotFrame(
        frame.number, frame.settings, dataclasses.replace(small, camera=camera, **arrays), frame.key, **links
    )


@pytest.mark.parametrize(
    ("bend", "error", "words"),
    [
        (nan, BadPasses, "NaN"),
        (elsewhere, BadMessage, "linked otherwise"),
        (smaller, BadMessage, "32 × 32 pixels in a shot of 64 × 64"),
        (lambda frame: dataclasses.replace(frame, number=2**40), BadMessage, "came frame"),
        (lambda frame: dataclasses.replace(frame, key=True, after=None, previous=None), BadMessage, "linked otherwise"),
    ],
    ids=["nan", "elsewhere", "smaller", "number", "key"],
)
def test_a_frame_that_does_not_fit_ends_the_shot(client: Client, bend: Any, error: type, words: str) -> None:
    artist = Artist(client, shot(9))
    frame = artist.frame
    artist.frame = lambda place: bend(frame(place)) if place == 3 else frame(place)  # type: ignore[method-assign]
    with pytest.raises(error, match=words):
        artist.finish()
    artist.frame = frame  # type: ignore[method-assign]
    client.send(Resume(artist.job))
    artist.until(lambda message: isinstance(message, JobState) and message.state == RUNNING)
    assert len(artist.finish()) == 9, "and it can be resumed"


def test_places_that_nobody_asked_for_do_no_harm(client: Client, server: ServerProcess) -> None:
    artist = Artist(client, shot(13))
    artist.painted(1)
    for place in (12, -1, 10**30):
        client.send(FrameGiven(artist.job, place, artist.frame(0)))
        with pytest.raises(BadMessage, match=f"place {place}"):
            artist.until(lambda message: False)
    client.send(FrameGiven(artist.job, 0, artist.frame(5)))  # late
    for place in (-1, 12, 10**30):
        client.send(FrameKept(artist.job, place))
    client.send(FrameMissing(artist.job, 0, Failure.of(NoCamera())))  # late
    assert len(artist.finish()) == 13
    for message in (FrameGiven(artist.job, 3, artist.frame(3)), FrameKept(artist.job, 3)):
        client.send(message)
    settle(client)
    for message in (FrameKept(uuid.uuid4().hex, 0), FrameKept("../x", 0)):
        client.send(message)
        assert isinstance(end_of(client, message.job).failure.error(), UnknownJob)


def test_a_malformed_frame_is_said_to_its_sender(client: Client) -> None:
    artist = Artist(client, shot(5))
    artist.until(lambda message: isinstance(message, FrameWanted))
    broken = object.__new__(ShotFrame)
    for name, value in vars(artist.frame(0)).items():
        object.__setattr__(broken, name, value)
    object.__setattr__(broken, "number", "two")
    client.send(FrameGiven(artist.job, 0, broken))
    with pytest.raises(BadMessage, match="number"):
        artist.until(lambda message: False)
