"""The link between a client and a real server: shared memory or not, probes, and a server that hangs."""

from __future__ import annotations

import gc
import os
import queue
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from paintover.bridge.client import Client
from paintover.bridge.errors import BadSize, PaintoverError, ServerSilent, TooLarge
from paintover.bridge.messages import Generate, ImageResult, Ping, Pong, Probe, ProbeAnswer
from paintover.bridge.parameters import Settings
from paintover.server import probe

from ..bridge.conftest import make_passes
from ..server_process import TOKEN, ServerProcess, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("data"), "fake", "--no-standby") as process:
        yield process


def connect(server: ServerProcess, **options: object) -> Client:
    return Client.connect("127.0.0.1", server.port, TOKEN, name="tests", **options)  # type: ignore[arg-type]


def ask(client: Client, question: object, kind: type) -> object:
    client.send(question)
    while not isinstance(answer := client.receive(30), kind):
        if hasattr(answer, "failure"):
            raise answer.failure.error()
    return answer


def descriptors(process: psutil.Process) -> int:
    return process.num_fds() if hasattr(process, "num_fds") else process.num_handles()


@pytest.mark.parametrize("share", [True, False])
def test_a_probe_counts_every_byte_both_ways(server: ServerProcess, share: bool) -> None:
    rng = np.random.default_rng(3)
    arrays = tuple(rng.integers(0, 256, size, dtype=np.uint8) for size in (0, 1, 7, 70_000, 5_000_003))
    with connect(server, share=share) as client:
        for _ in range(3):
            answer = ask(client, Probe(arrays, 640, 480), ProbeAnswer)
            assert isinstance(answer, ProbeAnswer)
            assert answer.checksum == probe.checksum(arrays)
            assert np.array_equal(answer.image, probe.picture(640, 480))
        if sys.platform == "linux":
            assert client.shares_memory == share


def test_the_checksum_misses_no_byte() -> None:
    array = np.zeros(1003, np.uint8)
    for place in range(len(array)):
        array[:] = 0
        array[place] = 1
        assert probe.checksum([array]) != 0


@pytest.mark.parametrize(
    ("question", "error"),
    [
        (Probe((np.zeros(probe.MAX_PROBE + 1, np.uint8),), 1, 1), TooLarge),
        (Probe((), 0, 1), BadSize),
        (Probe((), 1, 10**9), BadSize),
    ],
)
def test_probes_that_would_cost_too_much(server: ServerProcess, question: Probe, error: type[PaintoverError]) -> None:
    with connect(server) as client:
        with pytest.raises(error):
            ask(client, question, ProbeAnswer)
        assert ask(client, Ping(4), Pong) == Pong(4)


@pytest.mark.skipif(sys.platform != "linux", reason="how much shares memory is counted in /proc")
def test_large_passes_reach_the_worker_and_nothing_stays_behind(tmp_path: Path) -> None:
    """Front and worker share memory, too; a client's segment goes when it does."""
    # Without a standby, which shares memory with the front as well.
    with running(tmp_path, "fake", "--no-standby") as server:
        _large_passes(server)
    gc.collect()
    assert segments(os.getpid()) == 0


def segments(pid: int) -> int:
    return Path(f"/proc/{pid}/maps").read_text().count("memfd:paintover ")  # frames that go out are another


def _large_passes(server: ServerProcess) -> None:
    process = psutil.Process(server.process.pid)
    with connect(server) as first:
        ask(first, Ping(1), Pong)
    for _ in range(5):
        with connect(server) as client:
            job = client.submit(Generate(Settings(steps=1, seed=1), 512, 512, make_passes(512, 512)))
            images = [m for m in client.follow(job, timeout=60) if isinstance(m, ImageResult)]
            assert images[0].image.shape == (512, 512, 3)
            assert client.shares_memory
            assert segments(server.process.pid) == 2
            assert segments(server.worker().pid) == 1
            while_open = descriptors(process)
    with connect(server) as client:
        ask(client, Ping(1), Pong)
        assert descriptors(process) <= while_open + 1, "an offer that is not proved yet has one more"


def test_a_server_that_hangs_is_noticed_and_said(tmp_path: Path) -> None:
    with running(tmp_path) as server, connect(server, patience=2.0) as client:
        assert ask(client, Ping(1), Pong) == Pong(1)
        server.process.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(ServerSilent, match="2 seconds") as caught:
                client.receive(60)
            assert "restart the server" in caught.value.hint
            with pytest.raises(ServerSilent):
                Client.connect("127.0.0.1", server.port, TOKEN, timeout=0.5)
        finally:
            server.process.send_signal(signal.SIGCONT)


def test_a_server_that_hangs_in_the_middle_of_an_upload(tmp_path: Path) -> None:
    with running(tmp_path) as server, connect(server, patience=2.0, share=False) as client:
        assert ask(client, Ping(1), Pong) == Pong(1)
        server.process.send_signal(signal.SIGSTOP)
        try:
            client.send(Probe((np.zeros(60 << 20, np.uint8),), 1, 1))
            with pytest.raises(ServerSilent):
                client.receive(60)
        finally:
            server.process.send_signal(signal.SIGCONT)


def test_silence_of_a_server_that_lives_is_no_reason_to_leave(server: ServerProcess) -> None:
    with connect(server, patience=1.0) as client:
        assert ask(client, Ping(1), Pong) == Pong(1)
        with pytest.raises(queue.Empty):
            client.receive(4)
        assert ask(client, Ping(2), Pong) == Pong(2)
