"""The queue by itself: the table of states, positions, followers."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from paintover.bridge.errors import BadMessage, QueueFull, UnknownJob
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
from paintover.server.jobs import NEXT, Job, Jobs
from paintover.server.worker_messages import ViewDone


def view(name: str, index: int, label: str = "v") -> ViewDone:
    return ViewDone(name, index, ViewPainted(name, label, IMAGE), IMAGE[..., 0])


IMAGE = np.zeros((4, 4, 3), np.uint8)


def job(number: int) -> Job:
    return Job.of(f"{number:032x}", Generate(Settings(), 64, 64))


def test_the_table_knows_every_state_and_done_is_final() -> None:
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


@pytest.mark.parametrize("end", [CANCELLED, FAILED])
def test_what_was_cancelled_or_failed_may_be_resumed(end: str) -> None:
    queue, one = Jobs(), job(1)
    queue.add(one)
    queue.change(one, RUNNING)
    queue.change(one, end)
    assert one.summary().resumable
    queue.change(one, QUEUED)
    assert queue.waiting == [one]


def test_a_resumed_job_goes_to_the_end_of_the_queue() -> None:
    queue, first, second = Jobs(), job(1), job(2)
    queue.add(first)
    queue.change(first, CANCELLED)
    queue.add(second)
    before = second.submitted
    queue.change(first, QUEUED)
    assert queue.waiting == [second, first]
    assert first.submitted >= before, "also after a restart"
    queue.change(second, RUNNING)
    queue.change(second, QUEUED)
    assert queue.waiting == [second, first], "one whose worker died keeps its place"


def test_followers_hear_everything_and_finished_parts_are_kept() -> None:
    queue, one, heard = Jobs(), job(1), list[Any]()
    one.followers.append(heard.append)
    queue.add(one)
    queue.change(one, RUNNING)
    reports = [Progress(one.name, "x", 0.5), Preview(one.name, IMAGE), ViewPainted(one.name, "v", IMAGE)]
    for message in reports:
        one.report(message)
    for index in (3, 3, 1):
        one.keep(view(one.name, index))
    assert list(one.parts) == ["view-003", "view-001"], "painted anew, it takes the place of the old one"
    one.stored = False
    queue.change(one, DONE)
    assert [message for message in heard if not isinstance(message, JobState)] == reports
    assert one.parts, "what the disk does not have stays in memory"
    assert one.latest == {}
    assert one.summary().painted == 2


def test_few_jobs_that_the_disk_did_not_take_stay_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "MAX_UNSTORED", 1)
    queue = Jobs()
    for number in range(4):
        one = job(number)
        queue.add(one)
        one.stored = number == 0
        queue.change(one, CANCELLED)
    queue.add(job(9))
    assert [name for name in (f"{number:032x}" for number in range(4)) if name in queue] == [job(0).name, job(3).name]


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
    queue.check_room(0)
    with pytest.raises(QueueFull):
        queue.check_room(0, [1])
    queue.add(job(2))
    with pytest.raises(QueueFull):
        queue.check_room(0)
    for number in (1, 2):
        queue.change(queue.get(job(number).name), FAILED)
    queue.add(job(3))
    assert job(1).name not in queue
    with pytest.raises(UnknownJob):
        queue.get(job(1).name)


def test_an_ended_job_lets_go_of_its_passes() -> None:
    queue, one = Jobs(), job(1)
    queue.add(one)
    queue.change(one, RUNNING)
    queue.change(one, DONE)
    assert one.request is None
    assert not one.summary().resumable
    assert (one.summary().kind, one.summary().prompt) == ("image", "")
