"""A shot as a job: frames are asked for as they are needed, and nothing is lost, whoever dies."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from pathlib import Path
from typing import Any

import pytest

from paintover.bridge.client import Client
from paintover.bridge.errors import Cancelled, NoCamera, NothingToContinue, UnknownJob
from paintover.bridge.messages import (
    CANCELLED,
    DONE,
    FAILED,
    QUEUED,
    RUNNING,
    Failure,
    FrameKept,
    FrameMissing,
    FramePainted,
    FrameWanted,
    Generate,
    Handover,
    ImageResult,
    JobState,
    Progress,
    Resume,
    TakeOver,
)
from paintover.bridge.parameters import Settings
from paintover.bridge.shot_messages import AHEAD
from paintover.server.shots import UNKEPT

from ..server_process import ServerProcess, running
from ..waiting import wait_until
from .recovery import listed, of_type, until
from .shot_client import LOOK, Artist, same, settle, shot


def files(server: ServerProcess, job: str, kind: str) -> list[str]:
    return sorted(path.stem for path in (server.data / "jobs" / job).glob(f"{kind}-*.frames"))


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
    wait_until(lambda: not files(server, artist.job, "frame"))  # what the client has on disk is dropped
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
    wait_until(lambda: len(files(server, artist.job, "frame")) == UNKEPT + AHEAD - 1)
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
        # A client hears of a frame while it is being written.
        stored = tmp_path / "data" / "jobs" / artist.job
        wait_until(lambda: list(stored.glob("key-000005-*.frames")), 60)
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
