"""Nothing lost: processes are killed, stopped and starved in mid-job, and the work goes on where it was."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paintover.bridge.client import Client
from paintover.bridge.errors import Cancelled, JobNotOver, OutOfMemory, UnknownJob, WorkerDied
from paintover.bridge.messages import (
    CANCELLED,
    DONE,
    FAILED,
    QUEUED,
    RUNNING,
    Cancel,
    Follow,
    Forget,
    Forgotten,
    Generate,
    Handover,
    ImageResult,
    Jobs,
    JobState,
    JobSummary,
    ListJobs,
    Notice,
    PaintedUVs,
    Ping,
    Pong,
    Progress,
    Resume,
    Submit,
    TakeOver,
    TextureResult,
    Trouble,
    ViewPainted,
)
from paintover.bridge.parameters import Settings
from paintover.server import worker_process
from paintover.server.jobs import Job
from paintover.server.journal import Journal
from paintover.server.supervisor import Supervisor, may_start, may_warm, short_of_memory
from paintover.server.worker_messages import Beat, Run

from ..server_process import ServerProcess, running
from . import sphere
from .recovery import ORIGIN, end_of, state_after, submit, until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("data")) as process:
        yield process


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    with server.client() as connected:
        yield connected


def of_type(messages: list[Any], wanted: type) -> list[Any]:
    return [message for message in messages if isinstance(message, wanted)]


def finish(client: Client, job: str) -> list[Any]:
    return list(client.follow(job, timeout=120))


def listed(client: Client, job: str) -> JobSummary | None:
    client.send(ListJobs())
    summaries = until(client, Jobs, job).jobs
    return next((summary for summary in summaries if summary.job == job), None)


# ---------------------------------------------------------------- the worker dies


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


def test_the_standby_steps_in_and_is_replaced(tmp_path: Path) -> None:
    with running(tmp_path) as server, server.client() as client:
        for count in (1, 2):
            server.said("is ready to step in", count)
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


async def eventually(true: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.02)


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


# ---------------------------------------------------------------- cancel and resume


def test_a_cancelled_job_goes_on_from_its_finished_views(client: Client, server: ServerProcess) -> None:
    undisturbed = finish(client, submit(client, prompt="moss"))
    job = submit(client, prompt="moss")
    first = [until(client, ViewPainted, job), until(client, ViewPainted, job)]
    client.cancel(job)
    with pytest.raises(Cancelled):
        finish(client, job)
    summary = listed(client, job)
    assert summary
    assert (summary.state, summary.resumable, summary.painted, summary.views) == (CANCELLED, True, 2, 4)
    assert abs(summary.ended - time.time()) < 60
    assert (summary.file, summary.scene, summary.objects) == ("ball.blend", "Scene", ("Sphere",))
    with server.client() as other:
        other.send(Resume(job))
        messages = finish_resumed(other, job)
    assert {one.view for one in of_type(messages, ViewPainted)[:2]} == {one.view for one in first}, "told again"
    assert len(of_type(messages, ViewPainted)) == 4, "and not painted again"
    (texture,), (expected,) = of_type(messages, TextureResult), of_type(undisturbed, TextureResult)
    assert np.array_equal(texture.image, expected.image)
    assert listed(client, job) is not None
    client.send(Resume(job))
    assert of_type(finish(client, job), TextureResult), "a job that is done is only told again"


def finish_resumed(client: Client, job: str) -> list[Any]:
    """All messages from a Resume to the end: the first state may be any."""
    messages: list[Any] = []
    while not (messages and getattr(messages[-1], "state", "") == DONE):
        messages.append(client.receive(60))
    return [message for message in messages if getattr(message, "job", "") == job]


def test_taking_over_tells_what_the_job_is_for(client: Client, server: ServerProcess) -> None:
    job = submit(client, 60, prompt="moss")
    until(client, ViewPainted, job)
    summary = listed(client, job)
    assert summary
    assert (summary.state, summary.followed) == (RUNNING, True)
    client.close()
    with server.client() as other:
        other.send(Ping(1))
        until(other, Pong, "")
        summary = listed(other, job)
        assert summary
        assert not summary.followed
        other.send(TakeOver(job))
        messages = finish(other, job)
    assert isinstance(messages[0], Handover)
    assert messages[0].origin == ORIGIN
    assert messages[0].settings.prompt == "moss"
    assert isinstance(messages[1], PaintedUVs)
    assert np.array_equal(messages[1].uvs, sphere.mesh().uvs)
    assert len(of_type(messages, ViewPainted)) == 4
    assert of_type(messages, Progress), "live from here on"


def test_a_job_is_forgotten_when_it_is_over(client: Client, server: ServerProcess) -> None:
    job = client.submit(Generate(Settings(steps=100), 64, 64))
    until(client, Progress, job)
    client.send(Forget(job))
    trouble = until(client, Trouble, job)
    assert trouble.job == job
    assert isinstance(trouble.failure.error(), JobNotOver)
    client.send(Cancel(job))
    assert end_of(client, job).state == CANCELLED
    assert (server.data / "jobs" / job).exists()
    client.send(Forget(job))
    until(client, Forgotten, job)
    assert not (server.data / "jobs" / job).exists()
    assert listed(client, job) is None
    for ask in (Follow, TakeOver, Resume, Forget):
        client.send(ask(job))
        assert isinstance(end_of(client, job).failure.error(), UnknownJob)


def test_a_message_under_a_taken_name_does_no_harm(client: Client, server: ServerProcess) -> None:
    job = client.submit(Generate(Settings(steps=60), 64, 64))
    until(client, Progress, job)
    with server.client() as other:
        other.send(Submit(job, Generate(Settings(), 64, 64)))
        trouble = until(other, Trouble, job)
        assert "already" in trouble.failure.message
    assert of_type(finish(client, job), ImageResult)
    client.send(Submit(job, Generate(Settings(), 64, 64)))
    assert until(client, Trouble, job).job == job, "nor when it is over"


# ---------------------------------------------------------------- the server dies


def test_a_killed_servers_jobs_go_on_after_its_restart(tmp_path: Path) -> None:
    with running(tmp_path / "undisturbed") as server, server.client() as client:
        expected = of_type(finish(client, submit(client)), TextureResult)[0]
    with running(tmp_path / "data") as server, server.client() as client:
        done = client.submit(Generate(Settings(steps=1, seed=4), 64, 64))
        painted = of_type(finish(client, done), ImageResult)[0]
        cancelled = submit(client)
        until(client, ViewPainted, cancelled)
        client.cancel(cancelled)
        end_of(client, cancelled)
        job, waiting = submit(client), client.submit(Generate(Settings(steps=2, seed=4), 64, 64))
        until(client, ViewPainted, job, count=2)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(20)
    with running(tmp_path / "data") as server, server.client() as client:
        client.send(ListJobs())
        states = {summary.job: summary.state for summary in until(client, Jobs, job).jobs}
        assert list(states) == [done, cancelled, job, waiting], "in the order in which they came"
        assert states[done] == DONE
        assert states[cancelled] == CANCELLED
        client.send(Follow(job))
        messages = finish(client, job)
        assert len(of_type(messages, ViewPainted)) == 4
        assert np.array_equal(of_type(messages, TextureResult)[0].image, expected.image)
        client.send(Follow(waiting))
        assert of_type(finish(client, waiting), ImageResult)
        client.send(Follow(done))
        assert np.array_equal(of_type(finish(client, done), ImageResult)[0].image, painted.image)
        client.send(Resume(cancelled))
        assert of_type(finish_resumed(client, cancelled), TextureResult)


def test_a_job_that_took_the_server_down_twice_is_not_run_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "jobs")
    job = Job.of(uuid.uuid4().hex, Generate(Settings(), 64, 64))
    job.state, job.attempts = RUNNING, 2
    journal.store(job.record(journal.owner), Submit(job.name, job.request), (), {})
    with running(tmp_path) as server, server.client() as client:
        client.send(Follow(job.name))
        state = end_of(client, job.name)
        assert isinstance(state.failure.error(), WorkerDied)
        client.send(Resume(job.name))
        assert of_type(finish_resumed(client, job.name), ImageResult), "unless somebody asks for it"


def test_a_server_that_is_stopped_twice_does_not_give_a_job_up(tmp_path: Path) -> None:
    with running(tmp_path) as server, server.client() as client:
        job = client.submit(Generate(Settings(steps=150), 64, 64))
        until(client, Progress, job)
    for _ in range(2):
        with running(tmp_path) as server, server.client() as client:
            client.send(Follow(job))
            until(client, Progress, job)
    with running(tmp_path) as server, server.client() as client:
        client.send(Follow(job))
        assert of_type(finish(client, job), ImageResult)


def test_two_servers_of_one_folder_leave_each_others_jobs_alone(tmp_path: Path) -> None:
    with running(tmp_path) as first, first.client() as client:
        job = submit(client, 60)
        until(client, Progress, job)
        with running(tmp_path, "fake", "--port", str(free_port())) as second, second.client() as other:
            assert listed(other, job) is None
            assert (listed(client, job) or summary_missing()).state == RUNNING
        assert of_type(finish(client, job), TextureResult)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def summary_missing() -> JobSummary:
    raise AssertionError("the job is not listed")


# ---------------------------------------------------------------- the disk is full, or gone


@contextlib.contextmanager
def tiny_disk(folder: Path, size: str) -> Iterator[None]:
    folder.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a file system of its own needs the right to mount one")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_costs_no_job(tmp_path: Path) -> None:
    # Room for the request, not for all that comes of it.
    disk = tiny_disk(tmp_path / "jobs", "1800k")
    with disk, running(tmp_path) as server, server.client() as client, server.client() as watcher:
        job = submit(client, 5, texture_size=512)
        messages = finish(client, job)
        assert len(of_type(messages, ViewPainted)) == 4
        assert of_type(messages, TextureResult)[0].image.shape == (512, 512, 3)
        notices = of_type(messages, Notice)
        assert [notice.failure.code for notice in notices] == ["disk_full"], "once, whatever failed"
        assert str(tmp_path / "jobs") in notices[0].failure.hint
        watcher.send(Ping(1))
        heard = [watcher.receive(10), watcher.receive(10)]
        assert [type(message) for message in heard] == [Notice, Pong], "everybody is told"
        with server.client() as newcomer:
            assert isinstance(newcomer.receive(10), Notice)
        client.send(Follow(job))
        again = finish(client, job)
        assert len(of_type(again, ViewPainted)) == 4, "what could not be stored is still there"
        assert of_type(again, TextureResult)


def test_a_data_folder_that_vanishes_costs_no_job(tmp_path: Path) -> None:
    with running(tmp_path) as server, server.client() as client:
        job = submit(client)
        until(client, ViewPainted, job)
        (tmp_path / "jobs").rename(tmp_path / "elsewhere")
        assert of_type(finish(client, job), TextureResult)
        client.send(Follow(job))
        assert of_type(finish(client, job), TextureResult)


def test_a_disk_that_has_room_again_gets_the_whole_job(tmp_path: Path) -> None:
    with tiny_disk(tmp_path / "jobs", "4m"), running(tmp_path) as server, server.client() as client:
        ballast = tmp_path / "jobs" / "ballast"
        ballast.write_bytes(b"x" * 3_500_000)
        job = submit(client, 60, texture_size=128)
        until(client, Notice, job)
        until(client, ViewPainted, job)
        ballast.unlink()
        assert of_type(finish(client, job), TextureResult)
        names = {path.stem for path in (tmp_path / "jobs" / job).iterdir()}
        assert {"record", "meshes", "view-000", "texture-00001"} <= names
