"""Nothing lost: jobs are cancelled, servers killed, disks filled in mid-job, and the work goes on where it was."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from paintover.bridge.client import Client
from paintover.bridge.errors import Cancelled, JobNotOver, UnknownJob, WorkerDied
from paintover.bridge.messages import (
    CANCELLED,
    DONE,
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
from paintover.server.jobs import Job
from paintover.server.journal import Journal

from ..server_process import ServerProcess, running
from . import sphere
from .recovery import ORIGIN, end_of, finish, finish_resumed, listed, of_type, submit, until

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


def test_taking_over_tells_what_the_job_is_for(client: Client, server: ServerProcess) -> None:
    job = submit(client, 60, prompt="moss")
    until(client, ViewPainted, job)
    worker = server.worker()
    worker.suspend()  # so that the job cannot be over before it is taken over
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
        other.send(Ping(2))
        early: list[Any] = []
        while not isinstance(early[-1] if early else None, Pong):
            early.append(other.receive(30))
        worker.resume()
        messages = [*early[:-1], *finish(other, job)]
    assert isinstance(messages[0], Handover)
    assert messages[0].origin == ORIGIN
    assert messages[0].settings.prompt == "moss"
    assert isinstance(messages[1], PaintedUVs)
    assert np.array_equal(messages[1].uvs, sphere.mesh().uvs)
    assert len(of_type(messages, ViewPainted)) == 4
    assert of_type(messages, Progress), "live from here on"


def test_a_job_is_forgotten_when_it_is_over(client: Client, server: ServerProcess) -> None:
    job = client.submit(Generate(Settings(prompt="endless"), 64, 64))
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
    gate = tmp_path / "gate"
    with running(tmp_path) as server, server.client() as client:
        job = client.submit(Generate(Settings(prompt=f"until {gate}"), 64, 64))
        until(client, Progress, job)
    for _ in range(2):
        with running(tmp_path) as server, server.client() as client:
            client.send(Follow(job))
            until(client, Progress, job)
    gate.touch()
    with running(tmp_path) as server, server.client() as client:
        client.send(Follow(job))
        assert of_type(finish(client, job), ImageResult)


def test_two_servers_of_one_folder_leave_each_others_jobs_alone(tmp_path: Path) -> None:
    with running(tmp_path) as first, first.client() as client:
        job = submit(client, 60)
        until(client, Progress, job)
        worker = first.worker()
        worker.suspend()  # so that the job cannot be over before the second server has started
        with running(tmp_path, "fake", "--port", str(free_port())) as second, second.client() as other:
            assert listed(other, job) is None
            assert (listed(client, job) or summary_missing()).state in (RUNNING, QUEUED)
        with contextlib.suppress(psutil.NoSuchProcess):  # a slow machine takes it for one that hangs, and rightly
            worker.resume()
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
