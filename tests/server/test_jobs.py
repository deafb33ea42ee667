"""The queue by itself: the table of states, positions, followers, and results on disk."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paintover.bridge.errors import BadMessage, DiskFull, QueueFull, ServerFailure, UnknownJob
from paintover.bridge.messages import (
    CANCELLED,
    DONE,
    FAILED,
    QUEUED,
    RUNNING,
    STATES,
    Generate,
    JobState,
    Preview,
    Progress,
    ViewPainted,
)
from paintover.bridge.parameters import Settings
from paintover.server import jobs as jobs_module
from paintover.server.history import History
from paintover.server.jobs import NEXT, Job, Jobs

IMAGE = np.zeros((4, 4, 3), np.uint8)


def job(number: int) -> Job:
    return Job(f"{number:032x}", Generate(Settings(), 64, 64))


def test_the_table_knows_every_state_and_ends_are_final() -> None:
    assert set(NEXT) == set(STATES)
    queue, one = Jobs(), job(1)
    queue.add(one)
    for wrong in (DONE, QUEUED):
        with pytest.raises(ValueError, match="cannot go"):
            queue.change(one, wrong)
    queue.change(one, RUNNING)
    queue.change(one, DONE)
    for state in STATES:
        with pytest.raises(ValueError, match="cannot go"):
            queue.change(one, state)


def test_followers_hear_everything_and_history_keeps_results_only() -> None:
    queue, one, heard = Jobs(), job(1), list[Any]()
    one.followers.append(heard.append)
    queue.add(one)
    queue.change(one, RUNNING)
    reports = [Progress(one.name, "x", 0.5), Preview(one.name, IMAGE), ViewPainted(one.name, "v", IMAGE)]
    for message in reports:
        one.report(message)
    queue.change(one, DONE)
    assert [message for message in heard if not isinstance(message, JobState)] == reports
    assert one.results == reports[2:]
    assert one.latest == {}


async def test_next_waits_for_a_job_and_keeps_the_order() -> None:
    queue = Jobs()
    waiting = asyncio.ensure_future(queue.next())
    await asyncio.sleep(0)
    assert not waiting.done()
    first, second = job(1), job(2)
    queue.add(first)
    queue.add(second)
    assert await asyncio.wait_for(waiting, 5) is first
    queue.change(first, CANCELLED)
    assert await queue.next() is second
    queue.change(second, RUNNING)
    queue.change(second, QUEUED)
    assert await queue.next() is second, "back in the queue after its worker died"


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "MAX_WAITING", 2)
    monkeypatch.setattr(jobs_module, "MAX_REMEMBERED", 1)
    queue = Jobs()
    queue.add(job(1))
    with pytest.raises(BadMessage, match="already"):
        queue.add(job(1))
    queue.add(job(2))
    with pytest.raises(QueueFull):
        queue.add(job(3))
    for number in (1, 2):
        queue.change(queue.get(job(number).name), FAILED)
    queue.add(job(3))
    assert job(1).name not in queue
    with pytest.raises(UnknownJob):
        queue.get(job(1).name)


def test_history_comes_back_whole_or_says_that_it_cannot(tmp_path: Path) -> None:
    history, name = History(tmp_path), "ab" * 16
    history.store(name, [ViewPainted(name, "one", IMAGE), ViewPainted(name, "two", IMAGE)])
    assert name in history
    assert [message.view for message in history.load(name)] == ["one", "two"]
    path = tmp_path / f"{name}.frames"
    whole = path.read_bytes()
    for damaged in (whole[:-10], b"noise" * 10):
        path.write_bytes(damaged)
        with pytest.raises(ServerFailure, match=r"damaged|cannot be read"):
            history.load(name)
    for unknown in ("cd" * 16, "../passwd"):
        with pytest.raises(UnknownJob):
            history.load(unknown)


def test_a_full_disk_is_said_and_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history, name = History(tmp_path), "ab" * 16
    history.store(name, [ViewPainted(name, "one", IMAGE)])

    def full(_: object) -> list[bytes]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("paintover.server.history.encode", full)
    with pytest.raises(DiskFull, match="disk is full"):
        history.store(name, [ViewPainted(name, "two", IMAGE)])
    assert [message.view for message in history.load(name)] == ["one"]
    assert [path.suffix for path in tmp_path.iterdir()] == [".frames"]


def test_old_results_make_room_and_what_vanished_meanwhile_is_no_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = History(tmp_path)
    names = [f"{number:032x}" for number in range(4)]
    for age, name in enumerate(names):
        history.store(name, [ViewPainted(name, "v", IMAGE)])
        os.utime(tmp_path / f"{name}.frames", (age, age))
    size = (tmp_path / f"{names[0]}.frames").stat().st_size
    (tmp_path / f"{'e' * 32}.frames").symlink_to(tmp_path / "gone")
    monkeypatch.setattr("paintover.server.history.MAX_BYTES", 2 * size)
    history.prune()
    assert {path.stem for path in tmp_path.glob("*.frames") if path.exists()} == set(names[2:])


def test_an_ended_job_lets_go_of_its_passes() -> None:
    queue, one = Jobs(), job(1)
    queue.add(one)
    queue.change(one, RUNNING)
    queue.change(one, DONE)
    assert one.request is None
    assert (one.summary().kind, one.summary().prompt) == ("image", "")
