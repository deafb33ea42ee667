"""What a client can make the front hold is bounded; who overdoes it is told so and loses only its own connection."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paintover.bridge.aio import AHEAD
from paintover.bridge.client import Client
from paintover.bridge.errors import PaintoverError, QueueFull
from paintover.bridge.messages import (
    DONE,
    Cancel,
    Follow,
    Generate,
    JobState,
    MeshesMissing,
    MeshQuery,
    MeshUpload,
    Ping,
    Pong,
    Probe,
    ProbeAnswer,
    Submit,
    Texture,
    Trouble,
    ViewPainted,
)
from paintover.bridge.parameters import Settings
from paintover.bridge.scene import MeshData, Passes
from paintover.bridge.wire import Decoder, encode
from paintover.server import front, jobs, traffic
from paintover.server.jobs import Job
from paintover.server.journal import Journal
from paintover.server.worker_messages import ViewDone

from .. import hostile
from ..bridge.conftest import make_mesh, make_passes
from ..server_process import TOKEN
from .test_hostile_traffic import greeted


class InProcess:
    """A front on an event loop in a thread of this process, so that its limits can be made small."""

    def __init__(self, data: Path) -> None:
        self.front = front.Front(token=TOKEN, data=data, engine="fake", standby=False)
        self.port = 0
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._started.wait(60)

    def _run(self) -> None:
        async def serve() -> None:
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
            with contextlib.suppress(asyncio.CancelledError):
                await self.front.serve("127.0.0.1", 0, self._listens)

        asyncio.run(serve())

    def _listens(self, port: int) -> None:
        self.port = port
        self._started.set()

    def client(self, **options: Any) -> Client:
        return Client.connect("127.0.0.1", self.port, TOKEN, name="tests", **options)

    def stop(self) -> None:
        assert self._loop is not None
        assert self._task is not None
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(60)

    @property
    def process(self) -> InProcess:
        return self


@pytest.fixture
def server(tmp_path: Path) -> Iterator[InProcess]:
    running = InProcess(tmp_path)
    yield running
    running.stop()


def last_words(raw: socket.socket) -> str:
    """What the server says before it closes; empty if it just closes."""
    raw.settimeout(30)
    words = b""
    with contextlib.suppress(ConnectionError):
        while data := raw.recv(1 << 16):
            words = words[-4096:] + data  # what had left before may be large
    start = words.rfind(b"PTOV")
    found = Decoder().feed(words[start:]) if start >= 0 else []
    return found[-1].failure.message if found and isinstance(found[-1], Trouble) else ""


def still_served(server: InProcess) -> None:
    with server.client() as client:
        client.send(Ping(9))
        assert client.receive(30) == Pong(9)


def begin(raw: socket.socket, size: int) -> None:
    """Announce a message of `size` bytes and send a little of it."""
    prefix = b"".join(encode(Probe((np.zeros(16, np.uint8),), 1, 1)))
    header = prefix[20:].replace(b"[16]", f"[{size}]".encode()).rstrip(b"\0")
    raw.sendall(prefix[:8] + len(header).to_bytes(4, "little") + size.to_bytes(8, "little") + header + b"x" * 1000)


def test_messages_that_never_come_to_an_end_make_room_for_others(server: InProcess) -> None:
    with greeted(server) as first, greeted(server) as second, greeted(server) as third:
        for raw in (first, second, third):
            begin(raw, 900 << 20)
        assert "receiving too much" in last_words(first)
        still_served(server)
        second.sendall(b"x")  # the others still have a connection
        third.sendall(b"x")


def test_a_message_that_comes_too_slowly(server: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "GRACE", 0.0)
    monkeypatch.setattr(traffic, "WATCH", 0.05)
    with greeted(server) as raw:
        begin(raw, 1 << 20)
        assert "too slowly" in last_words(raw)
    still_served(server)


def test_strangers_in_any_number_keep_nobody_out(server: InProcess) -> None:
    with contextlib.ExitStack() as stack:
        strangers = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 30))
            for _ in range(traffic.MAX_STRANGERS + 10)
        ]
        still_served(server)
        for raw in strangers[:10]:
            assert last_words(raw) == ""
        strangers[-1].sendall(hostile.hello())
        assert strangers[-1].recv(100).startswith(b"PTOV"), "the youngest are still heard"


def test_clients_beyond_the_limit_are_told(server: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "MAX_CLIENTS", 2)
    with server.client(), server.client(), pytest.raises(PaintoverError, match="already has 2 clients"):
        server.client()
    still_served(server)


@pytest.mark.parametrize("limit", ["UNREAD", "UNREAD_IN_ALL"])
def test_a_client_that_never_reads(
    limit: str, tmp_path: Path, server: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = (10**9, 40 << 20)
    monkeypatch.setattr(front if limit == "UNREAD" else traffic, limit, small if limit == "UNREAD" else small[1])
    question = b"".join(encode(Probe((), 1024, 1024)))
    with greeted(server) as raw, server.client() as honest:
        with contextlib.suppress(ConnectionError):
            raw.sendall(question * 40)
        honest.send(Ping(1))
        assert honest.receive(30) == Pong(1)
        assert "does not read" in last_words(raw)
        honest.send(Ping(2))
        assert honest.receive(30) == Pong(2)


def test_only_so_many_clients_share_memory(server: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "MAX_LANES", 1)
    with server.client() as first, server.client() as second:
        for client in (first, second):
            client.send(Ping(1))
            assert client.receive(30) == Pong(1)
        assert [first.shares_memory, second.shares_memory] == [True, False]


def test_a_queue_that_holds_too_much_says_so(server: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "MAX_HELD", 10_000_000)
    passes = make_passes(512, 512)
    with server.client() as client:
        names = [client.submit(Generate(Settings(prompt="endless"), 512, 512, passes)) for _ in range(4)]
        with pytest.raises(QueueFull, match=r"holds \d+ MB") as caught:
            list(client.follow(names[2], timeout=60))
        assert "cancel some" in caught.value.hint
        for job in names[:2]:
            client.send(Cancel(job))
            with pytest.raises(PaintoverError, match="Cancelled"):
                list(client.follow(job, timeout=60))
        final = list(client.follow(client.submit(Generate(Settings(steps=1), 512, 512, passes)), timeout=60))[-1]
        assert isinstance(final, JobState)
        assert final.state == DONE


def test_one_job_is_taken_whatever_its_size(server: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "MAX_HELD", 1)
    with server.client() as client:
        job = client.submit(Generate(Settings(steps=1), 64, 64, make_passes(64, 64)))
        assert list(client.follow(job, timeout=60))[-1].state == DONE


def test_a_bug_in_an_answer_costs_one_answer(server: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(request: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(front, "check", broken)
    with server.client() as client:
        job = hostile.job_name(random.Random(1))
        client.send(Submit(job, Generate(Settings(), 64, 64)))
        with pytest.raises(PaintoverError, match="ZeroDivisionError"):
            list(client.follow(job, timeout=60))
        client.send(Ping(2))
        assert client.receive(30) == Pong(2)


def keep_done(data: Path, name: str, image: np.ndarray) -> None:
    """Have a job of 32 such views among those that are done."""
    journal = Journal(data / "jobs")
    job = Job.of(name, Texture(Settings(), (make_passes(64, 64),), ()))
    job.state = DONE
    views = (ViewDone(name, index, ViewPainted(name, str(index), image), image[..., 0]) for index in range(32))
    journal.store(job.record(journal.owner), None, (), {f"view-{view.index:03}": view for view in views})


def test_who_sends_more_and_more_while_an_answer_waits_for_it_is_let_go(
    server: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic, "UNANSWERED_IN_ALL", 4 << 20)
    keep_done(tmp_path, "ab" * 16, np.zeros((640, 512, 3), np.uint8))
    with greeted(server) as raw, server.client() as honest:
        raw.sendall(b"".join(encode(Follow("ab" * 16))))  # 32 MB that it does not read
        with contextlib.suppress(ConnectionError):
            for _ in range(8):
                raw.sendall(b"".join(encode(Probe((np.zeros(1 << 20, np.uint8),), 8, 8))))
        assert "receiving too much" in last_words(raw)
        honest.send(Probe((np.zeros(3 << 20, np.uint8),), 8, 8))
        assert isinstance(honest.receive(30), ProbeAnswer)


@pytest.mark.parametrize("checked", [MeshData, Passes])
def test_nobody_waits_while_something_large_is_checked(
    server: InProcess, monkeypatch: pytest.MonkeyPatch, checked: type
) -> None:
    begun, go_on, check = threading.Event(), threading.Event(), checked.check_values

    def slow(self: Any) -> None:
        begun.set()
        assert go_on.wait(60)
        check(self)

    mesh, settings = make_mesh(), Settings(steps=1)
    with server.client() as sender, server.client() as other:
        sender.send(MeshUpload(mesh))
        sender.send(MeshQuery((mesh.content_hash(),)))
        assert sender.receive(30) == MeshesMissing(())
        monkeypatch.setattr(checked, "check_values", slow)
        try:
            if checked is MeshData:
                sender.send(MeshUpload(mesh))
            else:
                sender.submit(Texture(settings, (make_passes(64, 64),), (mesh.content_hash(),)))
            assert begun.wait(30)
            other.send(Ping(1))
            assert other.receive(30) == Pong(1)
        finally:
            go_on.set()


def test_a_large_job_is_told_as_fast_as_it_is_read(
    server: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It neither counts as not reading, nor lies in memory whole."""
    monkeypatch.setattr(front, "UNREAD", (4096, 8 << 20))
    name, image = "ab" * 16, np.zeros((640, 512, 3), np.uint8)
    keep_done(tmp_path, name, image)
    with greeted(server) as raw:
        raw.sendall(b"".join(encode(Follow(name))))
        (channel,) = server.front._traffic.clients
        still_served(server)
        messages, decoder = list[Any](), Decoder()
        raw.settimeout(60)
        while not messages or not isinstance(messages[-1], (JobState, Trouble)):
            assert channel.waiting_bytes <= AHEAD[1] + image.nbytes + 4096
            received = raw.recv(1 << 16)
            assert received, "let go"
            messages += decoder.feed(received)
    assert [message.view for message in messages if isinstance(message, ViewPainted)] == [str(i) for i in range(32)]
    assert messages[-1].state == DONE
