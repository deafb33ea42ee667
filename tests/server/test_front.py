"""The server as clients see it: a real process with the fake engine, real sockets."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from paintover.bridge import PROTOCOL
from paintover.bridge.client import Client
from paintover.bridge.errors import (
    BadModelFile,
    BadParameter,
    BadPasses,
    BadSize,
    Cancelled,
    ConnectionLost,
    MissingMesh,
    MissingModel,
    PaintoverError,
    ProtocolError,
    ServerNotRunning,
    TokenUnreadable,
    TooLarge,
    UnknownJob,
    WorkerDied,
    WrongProtocol,
    WrongToken,
)
from paintover.bridge.messages import (
    CANCELLED,
    DONE,
    QUEUED,
    RUNNING,
    Cancel,
    Follow,
    Generate,
    ImageResult,
    Jobs,
    JobState,
    ListJobs,
    Notice,
    Ping,
    Pong,
    Preview,
    Progress,
    Submit,
    Texture,
)
from paintover.bridge.parameters import Settings
from paintover.bridge.wire import PREFIX

from ..bridge.conftest import make_mesh, make_passes
from ..server_process import TOKEN, ServerProcess, running
from .recovery import of_type, until


def request(steps: int = 3, **values: Any) -> Generate:
    return Generate(Settings(steps=steps, seed=5, **values), 64, 64)


def test_a_job_from_submit_to_result(client: Client) -> None:
    messages = list(client.follow(client.submit(request(5, prompt="moss")), timeout=60))
    states = [message.state for message in of_type(messages, JobState)]
    assert states == [QUEUED, RUNNING, DONE]
    fractions = [message.fraction for message in of_type(messages, Progress)]
    assert fractions == sorted(fractions)
    assert of_type(messages, Preview)
    (result,) = of_type(messages, ImageResult)
    assert result.image.shape == (64, 64, 3)
    assert result.image.std(axis=(0, 1)).max() == 0
    assert result.settings.prompt == "moss"


def test_the_same_seed_gives_the_same_image_and_minus_one_chooses(client: Client) -> None:
    def paint(seed: int) -> ImageResult:
        job = client.submit(Generate(Settings(steps=1, seed=seed), 64, 64))
        return of_type(list(client.follow(job, timeout=60)), ImageResult)[0]

    first, again, chosen = paint(7), paint(7), paint(-1)
    assert np.array_equal(first.image, again.image)
    assert chosen.settings.seed >= 0
    assert np.array_equal(paint(chosen.settings.seed).image, chosen.image)


def test_jobs_run_in_turn_and_positions_count_down(client: Client) -> None:
    jobs = [client.submit(request(10)) for _ in range(3)]
    states: list[JobState] = []
    while sum(state.state == DONE for state in states) < 3:
        message = client.receive(60)
        if isinstance(message, JobState):
            states.append(message)
    positions = [state.position for state in states if state.job == jobs[2] and state.state == QUEUED]
    assert positions[-1] == 0
    assert positions == sorted(positions, reverse=True)
    assert [state.job for state in states if state.state == DONE] == jobs


def test_cancel_a_running_job_within_a_step(client: Client) -> None:
    job = client.submit(request(150))
    until(client, Progress, job)
    client.cancel(job)
    seen: list[Any] = []
    with pytest.raises(Cancelled):
        seen.extend(client.follow(job, timeout=30))
    assert not of_type(seen, ImageResult)
    assert list(client.follow(client.submit(request(1)), timeout=30))[-1].state == DONE


def test_cancel_a_waiting_job(client: Client) -> None:
    first, second = client.submit(request(100)), client.submit(request(100))
    client.cancel(second)
    state = until(client, JobState, second)
    while state.state == QUEUED:
        state = until(client, JobState, second)
    assert state.state == CANCELLED
    client.cancel(first)
    with pytest.raises(Cancelled):
        list(client.follow(first, timeout=30))


def test_cancel_of_an_ended_or_unknown_job(client: Client) -> None:
    job = client.submit(request(1))
    list(client.follow(job, timeout=30))
    client.send(Cancel(job))
    client.send(Cancel("f" * 32))
    answer = until(client, JobState, "f" * 32)
    assert isinstance(answer.failure.error(), UnknownJob)


def test_a_second_client_takes_a_job_over(server: ServerProcess, client: Client) -> None:
    job = client.submit(request(30))
    until(client, Progress, job)
    client.close()
    with server.client() as other:
        other.send(Follow(job))
        assert of_type(list(other.follow(job, timeout=30)), ImageResult)
        other.send(Follow(job))
        assert of_type(list(other.follow(job, timeout=30)), ImageResult), "an ended job can be asked for again"
        other.send(ListJobs())
        summaries = until(other, Jobs, job)
        assert (job, DONE) in {(summary.job, summary.state) for summary in summaries.jobs}


def test_results_outlive_the_server(tmp_path: Path) -> None:
    with running(tmp_path) as first, first.client() as client:
        job = client.submit(request(2))
        painted = of_type(list(client.follow(job, timeout=60)), ImageResult)[0]
    with running(tmp_path) as second, second.client() as client:
        client.send(Follow(job))
        (again,) = of_type(list(client.follow(job, timeout=60)), ImageResult)
        assert np.array_equal(again.image, painted.image)


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (Generate(Settings(model="nonesuch"), 64, 64), MissingModel),
        (Generate(Settings(), 8, 8), BadSize),
        (Generate(Settings(), 8192, 64), BadSize),
        (Generate(Settings(), 100, 64), BadSize),
        (Generate(Settings(strength=0.5), 64, 64), BadParameter),
        (Texture(Settings(), (), ("a",)), BadParameter),
        (Texture(Settings(), (make_passes(64, 64),) * 33, ("a",)), BadParameter),
        (Texture(Settings(), (make_passes(64, 64),), ()), MissingMesh),
        (Texture(Settings(), (make_passes(64, 64),), ("nothing",)), MissingMesh),
        (Texture(Settings(), (make_passes(16, 8),), ("nothing",)), BadSize),
    ],
)
def test_bad_requests_fail_with_their_own_error(client: Client, bad: Any, error: type) -> None:
    with pytest.raises(error):
        list(client.follow(client.submit(bad), timeout=30))
    client.send(Ping(3))
    assert until(client, Pong, "").number == 3, "the connection goes on"


def test_nan_in_passes(client: Client) -> None:
    passes = make_passes(64, 64)
    depth = passes.depth.copy()
    depth[3, 4] = np.nan
    broken = dataclasses.replace(passes, depth=depth)
    with pytest.raises(BadPasses, match="NaN"):
        list(client.follow(client.submit(Generate(Settings(), 64, 64, broken)), timeout=30))


def test_meshes_are_sent_once(client: Client) -> None:
    mesh = make_mesh()
    (name,) = client.upload([mesh])
    assert name == mesh.content_hash()
    sent: list[Any] = []
    send, client.send = client.send, lambda message: (sent.append(message), send(message))  # type: ignore[method-assign]
    client.upload([mesh])
    assert [type(message).__name__ for message in sent] == ["MeshQuery"]


def test_wrong_token(server: ServerProcess) -> None:
    with pytest.raises(WrongToken, match="doctor"):
        server.client("wrong")


@pytest.mark.parametrize("host", ["192.168..1", "no such host", "x" * 300])
def test_hosts_that_are_none(host: str) -> None:
    with pytest.raises(ServerNotRunning):
        Client.connect(host, 1, TOKEN)


def test_nobody_there() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(ServerNotRunning, match="paintover serve"):
        Client.connect("127.0.0.1", port, TOKEN)


def test_another_protocol_is_refused_by_both_sides(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 10) as raw:
        raw.sendall(PREFIX.pack(b"PTOV", PROTOCOL + 1, 0, 2, 0) + b"{}")
        answer = raw.makefile("rb").read()
    assert b"wrong_protocol" in answer
    assert str(PROTOCOL + 1).encode() in answer
    monkeypatch.setattr("paintover.bridge.wire.PROTOCOL", PROTOCOL + 2)
    with pytest.raises((WrongProtocol, ConnectionLost)):
        server.client()


@pytest.mark.parametrize("noise", [b"GET / HTTP/1.1\r\n\r\n", b"PTOV" + b"\xff" * 60, b"\x00" * 4096])
def test_noise_is_answered_with_a_refusal_and_others_are_served(
    server: ServerProcess, client: Client, noise: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 10) as raw:
        raw.sendall(noise)
        assert raw.recv(10_000)
    client.send(Ping(1))
    assert until(client, Pong, "").number == 1


def test_a_message_that_is_not_for_the_server(client: Client) -> None:
    client.send(Pong(1))
    with pytest.raises(ProtocolError, match="Pong"):
        list(client.follow("x", timeout=10))


def test_a_killed_worker_comes_back_and_the_job_finishes(server: ServerProcess, client: Client) -> None:
    job = client.submit(request(100))
    until(client, Progress, job)
    worker = server.worker()
    worker.send_signal(signal.SIGKILL)
    messages = list(client.follow(job, timeout=60))
    assert QUEUED in [state.state for state in of_type(messages, JobState)]
    assert len(of_type(messages, ImageResult)) == 1
    assert server.worker().pid != worker.pid


def test_cancel_holds_even_if_the_worker_dies_first(server: ServerProcess, client: Client) -> None:
    job = client.submit(request(150))
    until(client, Progress, job)
    worker = server.worker()
    worker.suspend()
    client.cancel(job)
    client.send(Ping(8))
    assert until(client, Pong, "").number == 8
    worker.kill()
    with pytest.raises(Cancelled):
        list(client.follow(job, timeout=60))


def test_a_history_that_cannot_be_written_costs_no_job(tmp_path: Path) -> None:
    with running(tmp_path) as server, server.client() as client:
        shutil.rmtree(tmp_path / "jobs")
        (tmp_path / "jobs").write_text("a file where the folder was")
        notices: list[Any] = []
        for _ in range(2):
            job = client.submit(request(1))
            messages = list(client.follow(job, timeout=30))
            assert of_type(messages, ImageResult)
            notices += of_type(messages, Notice)
        assert [notice.failure.code for notice in notices] == ["not_stored"], "said once, not for every file"
        assert str(tmp_path / "jobs") in notices[0].failure.hint
        client.send(Follow(job))
        assert until(client, ImageResult, job).image.shape == (64, 64, 3), "what could not be stored stays in memory"


def test_more_meshes_than_a_frame_may_hold_arrays(client: Client) -> None:
    meshes = [dataclasses.replace(make_mesh(), name=f"Part {number}", object_id=number + 1) for number in range(230)]
    hashes = client.upload(meshes)
    job = client.submit(Texture(Settings(steps=1, texture_size=64), (make_passes(64, 64),), hashes))
    with pytest.raises(PaintoverError) as caught:
        list(client.follow(job, timeout=120))
    assert caught.value.code == "outside_cameras", "it reached the worker, which found nothing to paint"


def test_a_damaged_model_list_is_said_to_who_connects(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        (tmp_path / "models.json").write_text('{"models": ')
        with pytest.raises(BadModelFile, match=r"models\.json"):
            server.client()


@pytest.mark.parametrize("token", ["\ud800", "", "é"])
def test_odd_tokens_are_refused_and_closed(server: ServerProcess, token: str) -> None:
    with pytest.raises(WrongToken):
        server.client(token)


def test_too_large_a_request_is_said_before_it_is_sent(client: Client) -> None:
    names = {str(number): "x" * 100 for number in range(10_000)}
    passes = dataclasses.replace(make_passes(64, 64), names=names)
    with pytest.raises(TooLarge, match="description"):
        client.submit(Generate(Settings(), 64, 64, passes))


def test_a_job_that_kills_every_worker_fails(server: ServerProcess, client: Client) -> None:
    job = client.submit(request(150))
    killed: set[int] = set()
    try:
        for message in client.follow(job, timeout=60):
            workers = server.workers() if isinstance(message, Progress) else []
            for worker in workers:
                worker.kill()
                killed.add(worker.pid)
    except WorkerDied:
        assert len(killed) == 2
    else:
        raise AssertionError("the job should have failed")
    assert list(client.follow(client.submit(request(1)), timeout=60))[-1].state == DONE


def test_the_worker_ends_with_the_front(tmp_path: Path) -> None:
    with running(tmp_path) as server, server.client() as client:
        job = client.submit(request(150))
        until(client, Progress, job)
        worker = server.worker()
        server.process.send_signal(signal.SIGKILL)
        psutil.wait_procs([worker], timeout=20)
        assert not worker.is_running()
        with pytest.raises(ConnectionLost):
            list(client.follow(job, timeout=20))


def test_the_port_is_taken(server: ServerProcess, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "paintover.server.cli", "serve", "--engine", "fake"]
    environment = {**os.environ, "PAINTOVER_DATA": str(tmp_path), "NO_COLOR": "1", "COLUMNS": "200"}
    second = subprocess.run(
        [*command, "--port", str(server.port)], env=environment, capture_output=True, text=True, timeout=60
    )
    assert second.returncode == 1
    assert "in use by another program" in second.stderr
    assert "--port" in second.stderr
    assert "Traceback" not in second.stderr


def test_the_token_is_readable_by_its_owner_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from paintover.bridge import paths

    monkeypatch.setenv("PAINTOVER_DATA", str(tmp_path / "new"))
    assert paths.read_token() == ""
    token = paths.make_token()
    assert len(token) >= 24
    assert paths.make_token() == token
    assert paths.token_file().stat().st_mode & 0o077 == 0
    paths.token_file().write_text("")
    assert len(paths.make_token()) >= 24, "half-made ones are made anew"
    paths.token_file().write_bytes(b"\xff\xfe")
    with pytest.raises(TokenUnreadable, match="delete it"):
        paths.read_token()


def test_job_names_are_not_paths(client: Client) -> None:
    with pytest.raises(PaintoverError, match="32 hexadecimal"):
        client.send(Submit("../../etc/passwd", request()))
    client.send(Follow("../../etc/passwd"))
    answer = until(client, JobState, "../../etc/passwd")
    assert isinstance(answer.failure.error(), UnknownJob)
    unheard = uuid.uuid4().hex
    client.send(Follow(unheard))
    assert isinstance(until(client, JobState, unheard).failure.error(), UnknownJob)
