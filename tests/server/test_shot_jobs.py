"""A shot as a job: frames are asked for as they are needed, and nothing is lost, whoever dies."""

from __future__ import annotations

import dataclasses
import itertools
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paintover.bridge.client import Client
from paintover.bridge.errors import (
    BadMessage,
    BadPasses,
    BadSize,
    Cancelled,
    MissingModel,
    NoCamera,
    NothingToContinue,
    UnknownJob,
)
from paintover.bridge.messages import (
    CANCELLED,
    DONE,
    FAILED,
    QUEUED,
    RUNNING,
    Failure,
    FrameGiven,
    FrameKept,
    FrameMissing,
    FramePainted,
    FrameWanted,
    Generate,
    Handover,
    ImageResult,
    JobState,
    Ping,
    Pong,
    Progress,
    Resume,
    TakeOver,
)
from paintover.bridge.parameters import Settings
from paintover.bridge.shot import Link, ShotFrame
from paintover.bridge.shot_messages import AHEAD
from paintover.server.shots import UNKEPT

from ..server_process import ServerProcess, running
from . import wall_and_post
from .recovery import end_of, listed, of_type, until
from .shot_client import LOOK, Artist, same, shot


def files(server: ServerProcess, job: str, kind: str) -> list[str]:
    return sorted(path.stem for path in (server.data / "jobs" / job).glob(f"{kind}-*.frames"))


def wait(true: Callable[[], bool]) -> None:
    """For what the journal's thread does meanwhile."""
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


def settle(client: Client) -> None:
    """Wait until the front has taken all that was sent before."""
    client.send(Ping(77))
    while client.receive(60) != Pong(77):
        pass


def is_key(artist: Artist, message: Any) -> bool:
    return isinstance(message, FramePainted) and artist.places[message.place].key


# ---------------------------------------------------------------- undisturbed


def test_frames_are_asked_for_and_painted_in_order(client: Client, server: ServerProcess) -> None:
    artist = Artist(client, shot(13))
    pictures = artist.finish()
    assert list(pictures) == list(range(13))
    assert [message.number for message in artist.of(FramePainted)] == [place.number for place in artist.places]
    assert next(painted.fresh for painted in artist.of(FramePainted)) == 1
    assert all(0 <= painted.fresh < 0.5 for painted in artist.of(FramePainted)[1:])
    wanted = painted = 0
    for message in artist.heard:
        if isinstance(message, FrameWanted):
            assert message.place == wanted
            wanted += message.count
            assert wanted - painted <= AHEAD, "one is painted while the next is rendered"
        painted += isinstance(message, FramePainted)
    progress = artist.of(Progress)
    assert any(said.stage.startswith("Painting frame 5, 2 of 13") for said in progress)
    assert all(a.fraction <= b.fraction + 1e-9 for a, b in itertools.pairwise(progress))
    settle(client)
    wait(lambda: not files(server, artist.job, "frame"))  # what the client has on disk is dropped
    summary = listed(client, artist.job)
    assert summary
    assert (summary.kind, summary.state, summary.views, summary.painted) == ("shot", DONE, 13, 13)


def test_a_seed_is_chosen_once_for_the_shot(client: Client) -> None:
    artist = Artist(client, shot(5, settings=dataclasses.replace(LOOK, seed=-1)))
    artist.finish()
    seeds = {message.settings.seed for message in artist.of(FramePainted)}
    assert len(seeds) == 1
    assert min(seeds) >= 0


def test_backwards_with_a_step_and_cuts(client: Client) -> None:
    artist = Artist(client, shot(numbers=(29, 26, 23, 20, 17, 14, 11, 8, 5, 2), cuts=(17,)))
    artist.finish()
    fresh = {message.number: message.fresh for message in artist.of(FramePainted)}
    assert fresh[29] == fresh[17] == 1
    assert list(fresh) == [29, 20, 26, 23, 17, 5, 14, 11, 8, 2]


def test_no_more_is_asked_for_than_is_taken(client: Client, server: ServerProcess) -> None:
    artist = Artist(client, shot(40))
    artist.keeps = False
    # One frame was wanted before the limit was reached.
    artist.until(lambda message: isinstance(message, FramePainted) and message.place == UNKEPT + AHEAD - 2)
    settle(client)
    assert max(message.place + message.count for message in artist.of(FrameWanted)) == UNKEPT + AHEAD - 1
    wait(lambda: len(files(server, artist.job, "frame")) == UNKEPT + AHEAD - 1)
    for place in list(artist.pictures):
        client.send(FrameKept(artist.job, place))
    artist.keeps = True
    assert len(artist.finish()) == 40


# ---------------------------------------------------------------- stopped, and gone on with


def test_a_cancelled_shot_goes_on_behind_its_last_keyframe(client: Client, server: ServerProcess) -> None:
    undisturbed = Artist(client, shot(13)).finish()
    artist = Artist(client, shot(13))
    artist.painted(6)  # 1 5 2 3 4 9 6
    client.cancel(artist.job)
    with pytest.raises(Cancelled):
        artist.finish()
    reached = len(artist.pictures)
    summary = listed(client, artist.job)
    assert summary
    assert (summary.state, summary.resumable, summary.painted) == (CANCELLED, True, reached)
    before = len(artist.heard)
    client.send(Resume(artist.job))
    artist.until(lambda message: isinstance(message, JobState) and message.state == RUNNING)
    pictures = artist.finish()
    assert artist.of(Handover)[0].shot == artist.shot
    wanted = [message for message in artist.heard[before:] if isinstance(message, FrameWanted)]
    assert wanted[0].place == 6, "behind the keyframe at place 5"
    again = [message.place for message in artist.heard[before:] if isinstance(message, FramePainted)]
    assert again == list(range(reached, 13)), "what the client has is not sent again"
    assert same(pictures, undisturbed)


def test_who_takes_a_shot_over_is_asked_for_its_frames(client: Client, server: ServerProcess) -> None:
    artist = Artist(client, shot(9))
    artist.keeps = False
    artist.painted(2)
    client.close()
    with server.client() as other:
        other.send(TakeOver(artist.job))
        handover = until(other, Handover, artist.job)
        assert handover.shot
        second = Artist(other, handover.shot, artist.job)
        pictures = second.finish()
    assert list(pictures) == list(range(9)), "and gets what the first one did not keep"
    assert same({place: pictures[place] for place in artist.pictures}, artist.pictures)


def test_two_who_send_frames_do_no_harm(client: Client, server: ServerProcess) -> None:
    undisturbed = Artist(client, shot(9)).finish()
    artist = Artist(client, shot(9))
    artist.painted(0)
    with server.client() as other:
        other.send(TakeOver(artist.job))
        second = Artist(other, until(other, Handover, artist.job).shot, artist.job)
        second.until(lambda message: isinstance(message, FrameWanted))
        for place in range(5):
            second.give(place)
        pictures = artist.finish()
    assert same(pictures, undisturbed)


def test_a_frame_that_blender_cannot_render_ends_the_shot(client: Client) -> None:
    artist = Artist(client, shot(9))
    give = artist.give
    artist.give = lambda place: (  # type: ignore[method-assign]
        client.send(FrameMissing(artist.job, place, Failure.of(NoCamera()))) if place == 3 else give(place)
    )
    with pytest.raises(NoCamera):
        artist.finish()
    summary = listed(client, artist.job)
    assert summary
    assert (summary.state, summary.resumable) == (FAILED, True)
    artist.give = give  # type: ignore[method-assign]
    client.send(Resume(artist.job))
    artist.until(lambda message: isinstance(message, JobState) and message.state == RUNNING)
    assert len(artist.finish()) == 9


# ---------------------------------------------------------------- others wait


def test_a_still_is_let_through_at_a_keyframe(client: Client, server: ServerProcess) -> None:
    undisturbed = Artist(client, shot(13)).finish()
    artist = Artist(client, shot(13))
    artist.painted(1)
    with server.client() as other:
        still = other.submit(Generate(Settings(steps=1), 64, 64))
        pictures = artist.finish()
        assert of_type(list(other.follow(still, 60)), ImageResult)
    states = [state for state, _ in itertools.groupby(message.state for message in artist.of(JobState))]
    assert states == [QUEUED, RUNNING, QUEUED, RUNNING, DONE]
    assert same(pictures, undisturbed)


def test_two_shots_take_turns(client: Client, server: ServerProcess) -> None:
    undisturbed = Artist(client, shot(13)).finish()
    order: list[str] = []
    with server.client() as other:
        artists = {"a": Artist(client, shot(13)), "b": Artist(other, shot(13))}

        def play(name: str) -> None:
            def painted(message: Any) -> bool:
                if isinstance(message, FramePainted):
                    order.append(name)
                return isinstance(message, JobState) and message.state == DONE

            artists[name].until(painted)

        threads = [threading.Thread(target=play, args=(name,)) for name in artists]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
    assert len(order) == 26
    turns = [name for name, _ in itertools.groupby(order)]
    assert len(turns) >= 6, f"they alternate: {order}"
    for artist in artists.values():
        assert same(artist.pictures, undisturbed)


# ---------------------------------------------------------------- only what has changed


def test_only_later_frames_are_painted_again(client: Client, server: ServerProcess) -> None:
    def look(number: int) -> Settings:
        return LOOK if number < 10 else dataclasses.replace(LOOK, prompt="ice")

    whole = Artist(client, shot(13))
    whole.settings = look
    expected = whole.finish()
    first = Artist(client, shot(13))
    first.finish()
    changed = [place.number for place in whole.places].index(13)  # the keyframe at 13 is the first that is otherwise
    second = Artist(client, shot(13, continues=first.job, first=changed))
    second.settings = look
    pictures = second.finish()
    assert second.of(FrameWanted)[0].place == changed - 3, "behind the keyframe before"
    assert list(pictures) == list(range(changed, 13))
    assert same({**{place: first.pictures[place] for place in range(changed)}, **pictures}, expected)
    third = Artist(client, shot(13, continues=second.job, first=1))
    assert list(third.finish()) == list(range(1, 13)), "it has the keyframes from before it, too"


def test_a_shot_cannot_go_on_from_another_one(client: Client) -> None:
    done = Artist(client, shot(9))
    done.finish()
    for other, error in (
        (shot(9, continues="ab" * 16, first=3), UnknownJob),
        (shot(9, continues=done.job, first=3, width=128), NothingToContinue),
        (shot(9, continues=done.job, first=3, cuts=(2,)), NothingToContinue),
        (shot(9, continues=client.submit(Generate(Settings(steps=1), 64, 64)), first=3), NothingToContinue),
    ):
        with pytest.raises(error):
            Artist(client, other).finish()


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (shot(3, settings=dataclasses.replace(LOOK, model="nonesuch")), MissingModel),
        (shot(3, width=32), BadSize),
        (shot(3, height=8192), BadSize),
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


# ---------------------------------------------------------------- somebody dies


@pytest.mark.parametrize("whom", ["worker", "server"])
def test_whoever_is_killed_the_shot_comes_out_the_same(tmp_path: Path, whom: str) -> None:
    with running(tmp_path / "data") as server, server.client() as client:
        undisturbed = Artist(client, shot(17)).finish()
        artist = Artist(client, shot(17))
        artist.painted(6)
        if whom == "worker":
            server.worker().kill()
            pictures = artist.finish()
            assert same(pictures, undisturbed)
            return
        server.process.kill()
        server.process.wait(20)
    with running(tmp_path / "data") as server, server.client() as client:
        client.send(Resume(artist.job))
        again = Artist(client, artist.shot, artist.job)
        again.until(lambda message: isinstance(message, FrameWanted))
        assert again.of(FrameWanted)[0].place == 6
        pictures = {**artist.pictures, **again.finish()}
    assert same(pictures, undisturbed)


def test_with_mini_it_comes_out_bit_for_bit(tmp_path: Path) -> None:
    """Through cancel, the worker's death and the server's."""
    look = Settings(
        prompt="a lava object", seed=3, steps=3, control_depth=False, control_normal=True, animate_interval=4
    )
    asked = shot(13, settings=look)
    with running(tmp_path / "data", "diffusers", "--no-standby") as server, server.client() as client:
        undisturbed = Artist(client, asked).finish()
        artist = Artist(client, asked)
        artist.keeps = False
        artist.painted(2)
        server.worker().kill()
        artist.painted(6)
        client.cancel(artist.job)
        with pytest.raises(Cancelled):
            artist.finish()
        client.send(Resume(artist.job))
        artist.until(lambda message: isinstance(message, JobState) and message.state == RUNNING)
        artist.painted(9)
        server.process.kill()
        server.process.wait(20)
    with running(tmp_path / "data", "diffusers", "--no-standby") as server, server.client() as client:
        client.send(Resume(artist.job))
        again = Artist(client, asked, artist.job)
        pictures = again.finish()
    assert set(pictures) >= {5, 6, 7, 8, 9}, "what was not kept is told again"
    assert same({**artist.pictures, **pictures}, undisturbed)
    assert len({picture.tobytes() for picture in undisturbed.values()}) == 13
