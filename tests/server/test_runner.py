"""The runner by itself, in this process: its queue, its journal, and what it tells whom."""

from __future__ import annotations

import asyncio
import logging
import shutil
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import pytest_asyncio

from paintover.bridge.errors import QueueFull, ServerStartFailed, UnknownJob
from paintover.bridge.messages import CANCELLED, DONE, FAILED, Generate, JobState, Notice, Submit, ViewPainted
from paintover.bridge.origin import Origin
from paintover.bridge.parameters import Settings
from paintover.server import jobs as jobs_module
from paintover.server import worker_process
from paintover.server.jobs import Job
from paintover.server.journal import Journal
from paintover.server.runner import Runner
from paintover.server.worker_messages import ViewDone

from ..bridge.conftest import make_passes
from ..waiting import eventually

NAMES = ["ab" * 16, "cd" * 16]


@pytest.fixture
def told() -> list[Any]:
    """What everybody who is connected was told."""
    return []


@pytest_asyncio.fixture
async def runner(tmp_path: Path, told: list[Any]) -> AsyncIterator[Runner]:
    """One that has not opened its journal yet."""
    made = Runner("fake", tmp_path, told.append, standby=False)
    yield made
    await made.close()


async def at_once() -> None:
    """The room of a follower that takes everything."""


def stored(folder: Path, name: str, views: int = 0) -> Job:
    """A cancelled job, as an earlier server has left it."""
    journal, image = Journal(folder), np.zeros((64, 64, 3), np.uint8)
    job = Job.of(name, Generate(Settings(steps=1), 64, 64, make_passes(64, 64)))
    job.state = CANCELLED
    done = [ViewDone(name, index, ViewPainted(name, str(index), image), image[..., 0]) for index in range(views)]
    parts = {f"view-{view.index:03}": view for view in done}
    journal.store(job.record(journal.owner), Submit(name, job.request), (), parts)
    return job


async def test_the_limit_of_the_queue_sees_jobs_of_an_earlier_server(
    runner: Runner, told: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = max(stored(tmp_path, name).size for name in NAMES)
    runner.open()
    monkeypatch.setattr(jobs_module, "MAX_HELD", size * 1.5)
    heard: list[Any] = []
    await runner.resume(NAMES[0], heard.append, at_once)
    with pytest.raises(QueueFull, match="holds"):
        await runner.resume(NAMES[1], heard.append, at_once)


async def test_what_is_left_of_a_job_is_told(runner: Runner, tmp_path: Path) -> None:
    stored(tmp_path, NAMES[0], views=3)
    runner.open()
    (tmp_path / NAMES[0] / "view-001.frames").unlink()
    heard: list[Any] = []
    await runner.follow(NAMES[0], heard.append, at_once)
    assert [message.view for message in heard[:-1]] == ["0", "2"]
    assert heard[-1].state == CANCELLED
    shutil.rmtree(tmp_path / NAMES[0])
    with pytest.raises(UnknownJob):
        await runner.follow(NAMES[0], heard.append, at_once)


async def ended(runner: Runner, name: str) -> JobState:
    """Submit a small job and wait for its last state."""
    states: list[JobState] = []
    request = Generate(Settings(steps=1, seed=1), 64, 64)
    await runner.submit(name, request, (), Origin(), lambda said: states.append(said) if _is_state(said) else None)
    await eventually(lambda: states[-1].state in (DONE, FAILED))
    return states[-1]


def _is_state(message: Any) -> bool:
    return isinstance(message, JobState)


async def test_a_start_that_failed_once_does_not_fail_the_job_that_comes_later(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runner.open()
    with monkeypatch.context() as patch:
        patch.setattr(worker_process.sys, "executable", "/no/such/python")
        work = asyncio.create_task(runner.work())
        try:
            await eventually(lambda: "did not start" in caplog.text)
        finally:
            patch.undo()
    assert (await ended(runner, NAMES[0])).state == DONE
    work.cancel()


async def test_a_job_hears_why_there_is_no_painting_process(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    runner.open()
    monkeypatch.setattr(worker_process.sys, "executable", "/no/such/python")
    work = asyncio.create_task(runner.work())
    failure = (await ended(runner, NAMES[0])).failure
    assert failure is not None
    assert isinstance(failure.error(), ServerStartFailed)
    assert "No such file" in failure.message
    work.cancel()


async def test_everybody_hears_that_a_worker_died_and_was_replaced(runner: Runner, told: list[Any]) -> None:
    runner.open()
    work = asyncio.create_task(runner.work())
    await eventually(lambda: runner.supervisor._active)
    assert not told
    psutil.Process(runner.supervisor._active.pid).kill()
    state = await ended(runner, NAMES[0])
    assert state.state == DONE
    (notice,) = told
    assert isinstance(notice, Notice)
    assert notice.failure.code == "worker_died"
    assert "Another one has taken its place" in notice.failure.hint
    work.cancel()


@pytest.mark.parametrize("where", ["ready", "end", "both ends"])
async def test_a_bug_costs_the_job_that_it_meets_and_no_other(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    caplog.set_level(logging.CRITICAL)
    runner.open()
    faults = 2 if where == "both ends" else 1
    owner, name = (runner.supervisor, "ready") if where == "ready" else (runner, "_end")
    right = getattr(owner, name)

    async def wrong(*arguments: Any) -> None:
        nonlocal faults
        if faults and runner._jobs.find(NAMES[0]):
            faults -= 1
            raise KeyError("a bug")
        await right(*arguments)

    monkeypatch.setattr(owner, name, wrong)
    states: list[JobState] = []
    request = Generate(Settings(steps=1, seed=1), 64, 64)
    await runner.submit(NAMES[0], request, (), Origin(), lambda said: states.append(said) if _is_state(said) else None)
    work = asyncio.create_task(runner.work())
    await eventually(lambda: states[-1].state in (DONE, FAILED))
    assert states[-1].state == FAILED
    assert "a bug" in states[-1].failure.message
    assert not faults
    assert (await ended(runner, NAMES[1])).state == DONE
    assert not runner.busy
    work.cancel()


async def test_two_who_resume_a_job_at_once_lose_none_of_its_parts(
    runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(tmp_path, NAMES[0], views=1)
    runner.open()
    load, began, late = runner._journal.load_parts, list[str](), threading.Event()

    def load_parts(name: str) -> dict[str, Any]:
        parts = load(name)
        began.append(name)
        if len(began) > 1:
            assert late.wait(60)
        return parts

    monkeypatch.setattr(runner._journal, "load_parts", load_parts)
    one, other = (asyncio.create_task(runner.resume(NAMES[0], list[Any]().append, at_once)) for _ in range(2))
    try:
        await one
        image = np.zeros((64, 64, 3), np.uint8)
        job = runner._jobs.get(NAMES[0])
        runner._report(job, ViewDone(job.name, 1, ViewPainted(job.name, "1", image), image[..., 0]))
    finally:
        late.set()
    await other
    assert set(job.parts) == job.finished == {"view-000", "view-001"}
    assert len(job.followers) == 2
