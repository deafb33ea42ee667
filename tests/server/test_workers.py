"""The painting process dies, hangs, or runs out of memory in mid-job, and the work goes on where it was."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import queue
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from paintover.bridge.client import Client
from paintover.bridge.errors import Cancelled, OutOfMemory, WorkerDied
from paintover.bridge.messages import (
    FAILED,
    QUEUED,
    RUNNING,
    Follow,
    Generate,
    ImageResult,
    JobState,
    Ping,
    Pong,
    Progress,
    Resume,
    TextureResult,
    ViewPainted,
)
from paintover.bridge.parameters import Settings
from paintover.server import worker_process
from paintover.server.supervisor import SLOW, Supervisor, may_start, may_warm, short_of_memory
from paintover.server.worker import apart, slowed
from paintover.server.worker_messages import Beat, Run, Yield

from ..server_process import ServerProcess, running
from .recovery import eventually, finish, listed, of_type, state_after, submit, until


def test_a_killed_worker_costs_no_finished_view_and_changes_no_pixel(tmp_path: Path) -> None:
    """With the real model on the CPU."""
    with running(tmp_path, "diffusers") as server, server.client() as client:
        undisturbed = finish(client, submit(client, 3, prompt="brick"))
        job = submit(client, 3, prompt="brick")
        before = [until(client, ViewPainted, job), until(client, ViewPainted, job)]
        until(client, Progress, job)
        worker = server.worker()
        worker.kill()
        after = finish(client, job)
        assert server.worker().pid != worker.pid
        client.send(Follow(job))
        told_again = finish(client, job)
    views = [*before, *of_type(after, ViewPainted)]
    for one, other in zip(views, of_type(undisturbed, ViewPainted), strict=True):
        assert one.view == other.view, "none is painted twice"
        assert np.array_equal(one.image, other.image)
    (texture,), (expected,) = of_type(after, TextureResult), of_type(undisturbed, TextureResult)
    assert texture.image.std() > 10, "a painting, not one colour"
    assert np.array_equal(texture.image, expected.image)
    assert len(of_type(told_again, ViewPainted)) == len(views)
    assert np.array_equal(of_type(told_again, TextureResult)[0].image, expected.image)


def test_views_that_are_painted_together_go_on_between_two_steps(tmp_path: Path) -> None:
    """With the real model on the CPU."""
    with running(tmp_path, "diffusers") as server, server.client() as client:
        (undisturbed,) = of_type(finish(client, submit(client, 8, method="synchronised")), TextureResult)
        job = submit(client, 8, method="synchronised")
        while "Step 7 of 8" not in until(client, Progress, job).stage:
            pass
        server.worker().kill()
        after = finish(client, job)
        (texture,) = of_type(after, TextureResult)
        assert np.array_equal(texture.image, undisturbed.image)
        steps = [one.stage for one in of_type(after, Progress) if "Step" in one.stage]
        assert any("Step 6 of 8" in stage for stage in steps)
        assert not any("Step 1 of 8" in stage or "Step 5 of 8" in stage for stage in steps), "not from the beginning"
        assert not list(tmp_path.rglob("halfway-*.frames")), "a job that is done needs none"



def test_the_standby_steps_in_and_is_replaced(tmp_path: Path) -> None:
    with running(tmp_path) as server, server.client() as client:
        for count in (1, 2):
            server.said("is ready to step in", count)
            server.said("holds mini ready", count - 1)  # what the first job has left in the first worker
            active = server.worker()
            (standby,) = [process for process in server.processes() if process.pid != active.pid]
            job = submit(client)
            until(client, ViewPainted, job)
            active.kill()
            assert of_type(finish(client, job), TextureResult)
            assert server.worker().pid == standby.pid
        server.said("is ready to step in", 3)
        active = server.worker()
        (standby,) = [process for process in server.processes() if process.pid != active.pid]
        standby.kill()
        server.said("is ready to step in", 4)
        active.kill()
        server.said("takes the jobs", 4)
        assert finish(client, submit(client, 1)), "one that dies idle is replaced, too"


def test_without_a_standby_there_is_one_process(tmp_path: Path) -> None:
    with running(tmp_path, "fake", "--no-standby") as server, server.client() as client:
        job = submit(client)
        until(client, ViewPainted, job)
        server.worker().kill()
        assert of_type(finish(client, job), TextureResult)
        assert len(server.processes()) == 1


def test_memory_decides_about_the_standby() -> None:
    giga = 1 << 30
    roomy = Beat("sdxl", (), 6 * giga, 8 * giga, 15 * giga, 2 * giga, 9 * giga)
    assert may_start(roomy)
    assert may_warm(roomy)
    assert not may_warm(Beat("sdxl", (), 6 * giga, 8 * giga, 13 * giga, 2 * giga, 9 * giga)), "a full GPU"
    assert not may_start(Beat("mini", (), 1, giga, giga, giga, giga)), "little RAM"
    assert not may_start(Beat()), "nothing is known yet"
    assert not short_of_memory(roomy)
    assert short_of_memory(Beat("sdxl", (), 6 * giga, 12 * giga, 2 * giga, 2 * giga, 9 * giga))


def test_a_worker_that_hangs_is_replaced(server: ServerProcess, client: Client) -> None:
    job = submit(client, 60)
    until(client, ViewPainted, job)
    worker = server.worker()
    worker.suspend()
    client.send(Ping(1))
    assert until(client, Pong, "").number == 1, "the front never waits for it"
    messages = finish(client, job)
    assert len(of_type(messages, ViewPainted)) == 3
    assert of_type(messages, TextureResult)
    assert server.worker().pid != worker.pid
    assert "it did not answer for 30 seconds" in " ".join(server.log.read_text().split())


async def test_the_standby_holds_what_the_active_worker_does_and_lets_go_for_another_model() -> None:
    supervisor = Supervisor("fake")
    try:
        await supervisor.run(Run("a" * 32, Generate(Settings(steps=1), 64, 64)), lambda message: None)
        await eventually(lambda: (standby := supervisor._warm_standby()) and standby.beat.model == "mini")
        standby = supervisor._warm_standby()
        assert standby is not None
        other = Generate(Settings(steps=150, model="other"), 64, 64)
        running = asyncio.create_task(supervisor.run(Run("b" * 32, other), lambda message: None))
        await eventually(lambda: standby.beat.model == "")
        assert not running.done(), "while the job runs, its model has the memory for itself"
        await running
        await eventually(lambda: standby.beat.model == "other")
        assert await supervisor.make_room()
        assert standby.dead
        assert not await supervisor.make_room(), "once is all there is"
    finally:
        await supervisor.close()


async def test_a_standby_that_still_loads_at_low_priority_is_not_promoted(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    settings = Settings(steps=150, model=f"when {gate}")
    supervisor = Supervisor("fake")
    heard: list[Any] = []
    try:
        gate.touch()
        await supervisor.run(Run("a" * 32, Generate(settings, 64, 64)), heard.append)
        gate.unlink()  # the standby's turn to load has not come yet
        await eventually(lambda: (standby := supervisor._warm_standby()) and standby.asked)
        standby, active = supervisor._warm_standby(), supervisor._active
        assert standby is not None
        assert active is not None
        heard.clear()
        running = asyncio.create_task(supervisor.run(Run("b" * 32, Generate(settings, 64, 64)), heard.append))
        await eventually(lambda: heard)  # by now the standby was told to yield
        psutil.Process(active.pid).kill()
        with pytest.raises(WorkerDied):
            await running
        await supervisor.ready()
        active = supervisor._active
        assert active is not None
        assert active.pid != standby.pid, "a fresh one is quicker"
        gate.touch()
        await eventually(lambda: standby.beat.model == settings.model)
        psutil.Process(active.pid).kill()
        await eventually(lambda: active.dead)
        await supervisor.ready()
        assert supervisor._active is standby, "now it is ready"
        nices = {os.getpriority(os.PRIO_PROCESS, thread.id) for thread in psutil.Process(standby.pid).threads()}
        assert nices == {os.getpriority(os.PRIO_PROCESS, 0)}, "and nothing of it is at low priority any more"
    finally:
        await supervisor.close()


async def test_a_standby_that_was_left_at_low_priority_is_started_anew() -> None:
    supervisor = Supervisor("fake")
    try:
        await supervisor.ready()
        await eventually(supervisor._warm_standby)
        standby = supervisor._warm_standby()
        assert standby is not None
        standby.beat = dataclasses.replace(standby.beat, slowed=True)
        assert await supervisor._promoted() is None
        for _ in range(SLOW):  # without a pause: its next heartbeat says the truth
            await supervisor._tend_standby()
        assert standby.dead
        await eventually(supervisor._warm_standby)
    finally:
        await supervisor.close()


@pytest.mark.skipif(sys.platform != "linux", reason="priorities of single threads")
def test_threads_that_a_lowered_one_has_started_are_raised_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in a thread of its own by `apart`, as libraries do that keep a pool."""
    held, pool = threading.Event(), list[threading.Thread]()
    yielding: queue.Queue[Any] = queue.Queue()
    yielding.put(Yield())

    def load() -> None:
        while not slowed():
            assert threading.current_thread().is_alive()
        pool.append(threading.Thread(target=held.wait, daemon=True))
        pool[0].start()

    class Front:
        def receive(self, timeout: float) -> Any:
            return yielding.get(timeout=timeout)

    try:
        with monkeypatch.context() as patch:
            put = os.setpriority

            def lower(kind: int, who: int, value: int) -> None:
                if value < 19:
                    raise PermissionError
                put(kind, who, value)

            patch.setattr(os, "setpriority", lower)
            apart(Front(), [], load)  # type: ignore[arg-type]
            assert slowed() == [pool[0].native_id], "as most users' systems have it: it is known, at least"
        yielding.put(Yield())
        apart(Front(), [], lambda: None)  # type: ignore[arg-type]
        if os.geteuid() == 0:
            assert slowed() == []
    finally:
        held.set()


def test_a_job_that_lacks_memory_gets_the_standbys(tmp_path: Path) -> None:
    with running(tmp_path) as server, server.client() as client:
        finish(client, client.submit(Generate(Settings(steps=1), 64, 64)))
        server.said("holds mini ready")
        job = client.submit(Generate(Settings(prompt="no memory"), 64, 64))
        states: list[str] = []
        while FAILED not in states:
            states.append(until(client, JobState, job).state)
        assert states == [QUEUED, RUNNING, QUEUED, RUNNING, FAILED], "tried again, alone"
        assert len(server.processes()) == 1


async def test_a_job_that_is_cancelled_before_there_is_a_worker_does_not_run() -> None:
    supervisor = Supervisor("fake", standby=False)
    heard: list[Any] = []
    try:
        run = Run("a" * 32, Generate(Settings(steps=150), 64, 64))
        supervisor.stop_job(run.job)
        failure = await asyncio.wait_for(supervisor.run(run, heard.append, lambda: True), 60)
        assert failure is not None
        assert isinstance(failure.error(), Cancelled)
        assert not of_type(heard, ImageResult)
    finally:
        await supervisor.close()


async def test_a_job_that_stands_still_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "STUCK", 2.0)
    supervisor = Supervisor("fake", standby=False)
    heard: list[Any] = []
    try:
        run = Run("a" * 32, Generate(Settings(prompt="deadlock"), 64, 64))
        with pytest.raises(WorkerDied, match="stood still"):
            await asyncio.wait_for(supervisor.run(run, heard.append), 60)
        long = Run("b" * 32, Generate(Settings(steps=150), 64, 64))
        assert await asyncio.wait_for(supervisor.run(long, heard.append), 60) is None
    finally:
        await supervisor.close()
    assert of_type(heard, ImageResult), "one that takes its time is no hang"


def test_a_job_that_kills_its_worker_each_time_fails_and_can_be_tried_again(
    server: ServerProcess, client: Client
) -> None:
    started = server.log.read_text().count("takes the jobs")
    job = submit(client, prompt="end")
    with pytest.raises(WorkerDied, match="exit code 3"):
        finish(client, job)
    summary = listed(client, job)
    assert summary
    assert (summary.state, summary.resumable, summary.painted) == (FAILED, True, 0)
    server.said("takes the jobs", started + 2)
    assert finish(client, client.submit(Generate(Settings(steps=1), 64, 64)))
    client.send(Resume(job))
    assert state_after(client, job, QUEUED)
    with pytest.raises(WorkerDied):
        finish(client, job)


@pytest.mark.parametrize("prompt", ["no memory", "no GPU memory"])
def test_out_of_memory_is_said_and_the_next_job_works(client: Client, prompt: str) -> None:
    with pytest.raises(OutOfMemory, match="smaller"):
        finish(client, client.submit(Generate(Settings(prompt=prompt), 64, 64)))
    assert of_type(finish(client, client.submit(Generate(Settings(steps=1), 64, 64))), ImageResult)


def test_a_worker_that_the_system_killed_is_said(server: ServerProcess, client: Client) -> None:
    job = client.submit(Generate(Settings(steps=150), 64, 64))
    failure = None
    while failure is None:
        message = client.receive(60)
        if isinstance(message, Progress):
            for worker in server.workers():
                worker.kill()
        failure = getattr(message, "failure", None)
    assert failure.code == "worker_died"
    assert "when memory runs out" in failure.message
    assert listed(client, job)
