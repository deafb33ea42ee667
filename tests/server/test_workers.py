"""The painting process dies, hangs, or runs out of memory in mid-job, and the work goes on where it was."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from paintover.bridge.aio import Channel
from paintover.bridge.client import Client
from paintover.bridge.connection import Connection
from paintover.bridge.errors import Cancelled, OutOfMemory, WorkerDied
from paintover.bridge.messages import (
    FAILED,
    QUEUED,
    Follow,
    Generate,
    ImageResult,
    Ping,
    Pong,
    Progress,
    Resume,
    TextureResult,
    ViewPainted,
)
from paintover.bridge.parameters import Settings
from paintover.bridge.wire import UNLIMITED, Decoder
from paintover.server import worker, worker_process
from paintover.server.engine import Held
from paintover.server.fake_engine import FakeEngine
from paintover.server.supervisor import Supervisor
from paintover.server.worker_messages import TO_FRONT, Beat, Run

from ..server_process import ServerProcess, running
from ..waiting import wait_until
from .recovery import finish, listed, of_type, state_after, submit, until


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


@pytest.mark.skipif(sys.platform != "linux", reason="as Linux does it")
def test_where_memory_runs_out_the_painting_processes_are_the_first_to_end(tmp_path: Path) -> None:
    """And not Blender, or the front."""

    def last(process: psutil.Process) -> int:
        return int(Path(f"/proc/{process.pid}/oom_score_adj").read_text())

    with running(tmp_path) as server:
        wait_until(lambda: len(server.processes()) == 2)
        wait_until(lambda: [last(process) for process in server.processes()] == [1000, 1000])
        assert last(psutil.Process(server.process.pid)) == last(psutil.Process()) < 1000


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
    assert list(tmp_path.rglob("view-*.frames"))
    assert not list(tmp_path.rglob("halfway-*.frames")), "a job that is done needs none"


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


def test_a_worker_that_cannot_measure_itself_still_says_that_it_lives(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is killed by the front otherwise."""

    class Unmeasured(FakeEngine):
        asked = 0

        def held(self) -> Held:
            self.asked += 1
            if 2 <= self.asked <= 4:
                raise RuntimeError("dictionary changed size during iteration")
            return Held("mini")

    monkeypatch.setattr(worker, "BEAT_INTERVAL", 0.01)
    ours, theirs = socket.socketpair()
    connection, front = Connection(theirs), Connection(ours, Decoder(UNLIMITED, TO_FRONT))
    try:
        engine = Unmeasured()
        worker.beat(connection, engine)
        while engine.asked < 6:
            beat = front.receive(timeout=30)
            assert isinstance(beat, Beat)
            assert beat.model == "mini", "what it said last"
    finally:
        connection.close()
        front.close()
    assert "changed size" in caplog.text


async def test_a_job_that_is_cancelled_before_there_is_a_worker_does_not_run() -> None:
    supervisor = Supervisor("fake", standby=False)
    heard: list[Any] = []
    try:
        run = Run("a" * 32, Generate(Settings(prompt="endless"), 64, 64))
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


async def test_a_message_that_there_is_no_memory_for_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = Channel()

    def advance(nbytes: int) -> list[Any]:
        raise MemoryError("Unable to allocate 12.0 MiB")

    monkeypatch.setattr(channel._decoder, "advance", advance)
    channel.buffer_updated(1)
    with pytest.raises(OutOfMemory, match="Unable to allocate"):
        await channel.receive()


def test_a_worker_that_the_system_killed_is_said(server: ServerProcess, client: Client) -> None:
    job = client.submit(Generate(Settings(prompt="endless"), 64, 64))
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
