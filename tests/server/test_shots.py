"""The front's part in a shot by itself: its desk, its keyframes on disk, and clients that go away."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from paintover.bridge.errors import BadMessage, DiskFull, SenderGone, ServerFailure
from paintover.bridge.messages import (
    DONE,
    FAILED,
    QUEUED,
    FrameGiven,
    FrameKept,
    FramePainted,
    FrameWanted,
    JobState,
)
from paintover.bridge.origin import Origin
from paintover.server import disk, shots
from paintover.server import journal as journal_module
from paintover.server.jobs import Job
from paintover.server.journal import Journal
from paintover.server.runner import Runner
from paintover.server.shots import Desk, store_frame, store_key
from paintover.server.worker_messages import Kept, KeyDone

from ..waiting import eventually
from . import wall_and_post
from .shot_client import LOOK, shot

NAME = "ab" * 16
KEYS = [0, 1, 5, 9]


def key(place: int, anchor: int = 0) -> KeyDone:
    image = np.full((64, 64, 3), place, np.uint8)
    kept = Kept(place + 100, LOOK, wall_and_post.passes(1), image, np.ones((64, 64), np.float16), None)
    return KeyDone(NAME, place, anchor, kept)


def painted(place: int) -> FramePainted:
    return FramePainted(NAME, place, place + 100, np.full((64, 64, 3), place, np.uint8), LOOK, 1.0)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path)


# ---------------------------------------------------------------- the desk


def test_a_desk_asks_for_what_the_worker_wants() -> None:
    desk = Desk(shot(13))
    assert not desk.waits
    desk.want([0, 1])
    assert desk.ask(0) == (0, 2)
    assert desk.ask(0) is None
    assert desk.take(1)
    assert desk.asked == (0, 1)
    assert not desk.take(1), "too late"
    for place in (2, -1, 13, 10**30):
        with pytest.raises(BadMessage, match=f"place {place}"):
            desk.take(place)
    assert desk.take(0)
    assert not desk.waits
    desk.want([2])
    assert desk.ask(shots.UNKEPT) is None
    assert desk.waits
    assert desk.ask(shots.UNKEPT - 1) == (2, 1)


def test_a_turn_is_as_long_as_loading_makes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(shots, "time", SimpleNamespace(monotonic=lambda: now))
    for load, turn in ((0.0, shots.TURN), (20.0, 80.0), (500.0, shots.LONGEST_TURN)):
        desk = Desk(shot(13))
        now += 10_000
        assert not desk.had_its_turn, "it has not painted yet"
        desk.painted(replace(painted(0), seconds={"load": load, "total": load + 1}))
        desk.painted(replace(painted(1), seconds={"load": 0.0, "total": 1.0}))
        assert not desk.had_its_turn
        now += turn - 0.5
        assert not desk.had_its_turn
        now += 1
        assert desk.had_its_turn


# ---------------------------------------------------------------- the journal


def test_a_shot_goes_on_behind_its_newest_keyframe(journal: Journal) -> None:
    assert journal.load_state(NAME, KEYS, 13) == (0, None)
    for one in (key(0), key(1), key(5, anchor=5)):
        journal.part(NAME, one)
    place, state = journal.load_state(NAME, KEYS, 13)
    assert place == 6
    assert state
    assert [kept.number for kept in (state.anchor, state.before, state.after) if kept] == [105, 101, 105]
    assert state.after
    assert (state.after.image == 5).all()
    place, state = journal.load_state(NAME, KEYS, 5)
    assert place == 2
    assert state
    assert [kept.number for kept in (state.anchor, state.before, state.after) if kept] == [100, 100, 101]
    place, state = journal.load_state(NAME, KEYS, 1)
    assert (place, state and state.before) == (1, None)


@pytest.mark.parametrize(("lost", "place"), [("key-000005-000000", 2), ("key-000001-000000", 1)])
def test_a_damaged_keyframe_is_passed_over(journal: Journal, tmp_path: Path, lost: str, place: int) -> None:
    for one in (key(0), key(1), key(5)):
        journal.part(NAME, one)
    (tmp_path / NAME / f"{lost}.frames").write_bytes(b"PTOV rubbish")
    assert journal.load_state(NAME, KEYS, 13)[0] == place


def test_old_keyframes_go_but_none_that_is_needed(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    for one in (key(0), key(1), key(5), key(9, anchor=9)):
        journal.part(NAME, one)
    monkeypatch.setattr(journal_module, "MAX_KEYS", 1)
    assert journal.trim_keys(NAME) == ["key-000001-000000"]
    assert journal.load_state(NAME, KEYS, 13)[0] == 10
    journal.part(NAME, key(13, anchor=9))
    assert journal.trim_keys(NAME) == ["key-000005-000000"]
    assert journal.trim_keys(NAME) == ["key-000000-000000"], "the anchor of those that went"
    assert journal.load_state(NAME, [*KEYS, 13], 20)[0] == 14


def test_keyframes_are_adopted(journal: Journal) -> None:
    other = "cd" * 16
    for one in (key(0), key(1), key(5)):
        journal.part(NAME, one)
    (journal.folder / other).mkdir()
    journal.adopt_keys(other, NAME, 5)
    journal.remove(NAME)
    assert journal.load_state(other, KEYS, 13)[0] == 2


def test_keyframes_are_copied_whole_or_not_at_all_where_there_are_no_links(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    other = "cd" * 16
    for one in (key(0), key(1)):
        journal.part(NAME, one)
    (journal.folder / other).mkdir()
    monkeypatch.setattr(os, "link", no_links)
    with monkeypatch.context() as change:
        change.setattr(os, "fsync", full)
        with pytest.raises(DiskFull):
            journal.adopt_keys(other, NAME, 5)
    assert not list((journal.folder / other).iterdir())
    journal.adopt_keys(other, NAME, 5)
    assert journal.load_state(other, KEYS, 13)[0] == 2


def test_no_keyframe_is_stored_before_the_frames_that_it_stands_for(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job = Job.of(NAME, shot(13))
    write, full = disk.write, True

    def failing(path: Path, pieces: Any) -> None:
        if full:
            raise OSError(errno.ENOSPC, "full")
        write(path, pieces)

    monkeypatch.setattr(disk, "write", failing)
    job.keep(painted(0))
    with pytest.raises(DiskFull):
        store_frame(journal, job, painted(0))
    with pytest.raises(DiskFull):
        store_key(journal, job, key(0))
    full = False
    store_key(journal, job, key(0))
    assert sorted(path.stem for path in (tmp_path / NAME).iterdir()) == ["frame-000000", "key-000000-000000"]


def test_a_shot_from_the_journal_knows_how_far_it_was(journal: Journal) -> None:
    job = Job.of(NAME, shot(13))
    for part in (key(0), key(1), painted(3)):
        journal.part(NAME, part)
    again = Job.from_record(job.record("owner"), journal.part_names(NAME), True, 0)
    assert (again.done, again.summary().painted, again.summary().views) == (4, 4, 13)
    assert Job.from_record(job.record("owner", "done"), [], True, 0).summary().painted == 13


# ---------------------------------------------------------------- clients that go away


async def given_up(tmp_path: Path, followed: bool) -> tuple[list[Any], Runner]:
    """What is heard of a shot for which nobody sends frames."""
    runner = Runner("fake", tmp_path, lambda message: None, standby=False)
    runner.open()
    work = asyncio.create_task(runner.work())
    heard: list[Any] = []
    try:
        await runner.submit(NAME, shot(13), (), Origin(), heard.append)
        await eventually(lambda: any(isinstance(message, FrameWanted) for message in heard))
        if not followed:
            runner.unfollow(heard.append)
        await eventually(lambda: runner.summaries()[0].state == FAILED)
        assert runner.summaries()[0].resumable
        late: list[Any] = []

        async def room() -> None:
            pass

        await runner.follow(NAME, late.append, room)
        assert isinstance(late[-1], JobState)
        assert isinstance(late[-1].failure.error(), SenderGone)
        await runner.frame(FrameKept(NAME, 0))
        await runner.resume(NAME, late.append, room)
        assert runner.summaries()[0].state == QUEUED
        await eventually(lambda: any(isinstance(message, FrameWanted) for message in late))
    finally:
        work.cancel()
        await runner.close()
    return heard, runner


async def test_a_shot_whose_client_has_gone_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shots, "PATIENCE", 0.3)
    await given_up(tmp_path, followed=False)


async def test_a_client_that_is_there_and_sends_nothing_is_given_more_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shots, "PATIENCE", 0.01)
    monkeypatch.setattr(shots, "SILENCE", 0.5)
    await given_up(tmp_path, followed=True)


async def test_a_bug_at_the_beginning_costs_the_shot_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("broken")

    runner = Runner("fake", tmp_path, lambda message: None, standby=False)
    runner.open()
    monkeypatch.setattr(runner._journal, "load_state", broken)
    work = asyncio.create_task(runner.work())
    heard: list[Any] = []
    try:
        await runner.submit(NAME, shot(13), (), Origin(), heard.append)
        await eventually(lambda: runner.summaries()[0].state == FAILED)
        assert isinstance(heard[-1].failure.error(), ServerFailure)
    finally:
        work.cancel()
        await runner.close()


# ---------------------------------------------------------------- two shots


async def turns(tmp_path: Path, *models: str) -> list[str]:
    """The model of each turn, of shots that are painted at the same time."""
    runner = Runner("fake", tmp_path, lambda message: None, standby=False)
    runner.open()
    work, order, ends = asyncio.create_task(runner.work()), [], 0
    arrived: asyncio.Queue[Any] = asyncio.Queue()
    asked = {f"{number:032x}": shot(21, settings=replace(LOOK, model=model)) for number, model in enumerate(models)}
    try:
        for name, one in asked.items():
            await runner.submit(name, one, (), Origin(), arrived.put_nowait)
        while ends < len(models):
            message = await asyncio.wait_for(arrived.get(), 60)
            if isinstance(message, FrameWanted):
                for place in range(message.place, message.place + message.count):
                    given = wall_and_post.frame(asked[message.job].plan()[place], asked[message.job].settings)
                    await runner.frame(FrameGiven(message.job, place, given))
            elif isinstance(message, FramePainted):
                order.append(message.settings.model)
                await runner.frame(FrameKept(message.job, message.place))
            elif isinstance(message, JobState):
                assert not message.failure
                ends += message.state == DONE
    finally:
        work.cancel()
        await runner.close()
    assert len(order) == 21 * len(models)
    return [model for model, _ in itertools.groupby(order)]


async def test_shots_with_different_models_do_not_load_them_at_every_keyframe(tmp_path: Path) -> None:
    assert await turns(tmp_path, "mini", "other") == ["mini", "other"], "each model is loaded once"


async def test_a_shot_with_another_model_does_not_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shots, "LONGEST_TURN", 0.0)
    found = await turns(tmp_path, "mini", "other")
    assert len(found) >= 6, f"they alternate: {found}"
