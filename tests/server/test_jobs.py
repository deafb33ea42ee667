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


def test_history_comes_back_and_survives_a_cut(tmp_path: Path) -> None:
    history, name = History(tmp_path), "ab" * 16
    history.append(name, ViewPainted(name, "one", IMAGE))
    history.append(name, ViewPainted(name, "two", IMAGE))
    assert [message.view for message in history.load(name)] == ["one", "two"]
    path = tmp_path / f"{name}.frames"
    path.write_bytes(path.read_bytes()[:-10])
    assert [message.view for message in history.load(name)] == ["one"], "whole frames are still read"
    with pytest.raises(UnknownJob):
        history.load("cd" * 16)
    with pytest.raises(UnknownJob):
        history.load("../passwd")
    path.write_bytes(b"noise" * 10)
    with pytest.raises(ServerFailure, match="damaged"):
        history.load(name)


def test_a_full_disk_is_said_and_leaves_a_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history, name = History(tmp_path), "ab" * 16
    history.append(name, ViewPainted(name, "one", IMAGE))
    real = os.truncate
    cut: list[int] = []

    def full(_: object) -> list[bytes]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("paintover.server.history.encode", full)
    monkeypatch.setattr(os, "truncate", lambda path, size: (cut.append(size), real(path, size)))
    with pytest.raises(DiskFull, match="disk is full"):
        history.append(name, ViewPainted(name, "two", IMAGE))
    monkeypatch.undo()
    assert cut
    assert [message.view for message in history.load(name)] == ["one"]


def test_old_results_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = History(tmp_path)
    names = [f"{number:032x}" for number in range(4)]
    for age, name in enumerate(names):
        history.append(name, ViewPainted(name, "v", IMAGE))
        os.utime(tmp_path / f"{name}.frames", (age, age))
    size = (tmp_path / f"{names[0]}.frames").stat().st_size
    monkeypatch.setattr("paintover.server.history.MAX_BYTES", 2 * size)
    history.prune()
    assert {path.stem for path in tmp_path.glob("*.frames")} == set(names[2:])
