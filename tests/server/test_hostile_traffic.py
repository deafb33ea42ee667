"""More than 100,000 frames that mean harm, from many connections at once, while an honest client gets its work done."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import select
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from paintover.bridge import lane
from paintover.bridge.client import Client
from paintover.bridge.messages import (
    DONE,
    Generate,
    ImageResult,
    JobState,
    LaneOffer,
    LaneProof,
    Ping,
    Pong,
    Probe,
    Submit,
    Welcome,
)
from paintover.bridge.parameters import Settings
from paintover.bridge.wire import Decoder, encode

from .. import hostile
from ..bridge.conftest import make_passes
from ..server_process import TOKEN, ServerProcess, running
from ..waiting import wait_until

BENT, FATAL, LIARS, DEAF, HALF, TRICKLES = 104_000, 2_400, 300, 6, 200, 8
BATCH = 250
GROWTH = 80 << 20
"""Bytes that the server's own memory may have grown by: room for what an allocator keeps."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("data"), "fake", "--no-standby") as process:
        yield process


class Honest(threading.Thread):
    """Paints, pings and probes for as long as it is let, and keeps what went wrong."""

    def __init__(self, server: ServerProcess) -> None:
        super().__init__(daemon=True)
        self.jobs = 0
        self.slowest = 0.0
        self.error: BaseException | None = None
        self._server = server
        self._stop_now = threading.Event()

    def run(self) -> None:
        try:
            with Client.connect("127.0.0.1", self._server.port, TOKEN, name="honest", patience=60) as client:
                while not self._stop_now.is_set():
                    started = time.monotonic()
                    self._paint(client, 512 if self.jobs % 10 == 0 else 64)
                    self.slowest = max(self.slowest, time.monotonic() - started)
        except BaseException as error:  # noqa: BLE001 - the test tells it
            self.error = error

    def _paint(self, client: Client, size: int) -> None:
        request = Generate(Settings(steps=2, seed=self.jobs), size, size, make_passes(size, size))
        messages = list(client.follow(client.submit(request), timeout=60))
        (result,) = (message for message in messages if isinstance(message, ImageResult))
        assert result.image.shape == (size, size, 3)
        assert isinstance(messages[-1], JobState)
        assert messages[-1].state == DONE
        self.jobs += 1

    def stop(self) -> None:
        self._stop_now.set()
        self.join(120)
        if self.error:
            raise self.error


def heard(raw: socket.socket) -> Iterator[Any]:
    """What the server says. Raises ConnectionError when it has closed."""
    decoder = Decoder()
    while data := raw.recv(1 << 16):
        yield from decoder.feed(data)
    raise ConnectionError("the server has closed")


@contextlib.contextmanager
def greeted(server: ServerProcess) -> Iterator[socket.socket]:
    """A raw socket whose greeting has been answered."""
    with socket.create_connection(("127.0.0.1", server.port), 30) as raw:
        raw.sendall(hostile.hello())
        next(message for message in heard(raw) if isinstance(message, Welcome))
        yield raw


def drain(raw: socket.socket, data: bytes) -> bool:
    """Send all of `data`, throwing away what comes meanwhile. False if the server has closed."""
    view = memoryview(data)
    raw.setblocking(False)
    while len(view):
        readable, writable, _ = select.select([raw], [raw], [], 60)
        assert readable or writable, "the server neither reads nor answers"
        try:
            if readable and not raw.recv(1 << 20):
                return False
            if writable:
                view = view[raw.send(view) :]
        except BlockingIOError:
            continue
        except OSError:
            return False
    return True


def hear_out(raw: socket.socket) -> None:
    """Say that no more will come, and read to the end. Fails if the server neither answers nor closes."""
    try:
        raw.shutdown(socket.SHUT_WR)
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise
        raise ConnectionResetError("the server was quicker, and has reset the connection") from error
    raw.settimeout(60)
    while raw.recv(1 << 20):
        pass


# ---------------------------------------------------------------- what they do


def send_bent(server: ServerProcess, rng: random.Random, count: int) -> int:
    """Frames whose content is wrong; all of them are read and answered, which a last Pong proves."""
    sent = 0
    while sent < count:
        with greeted(server) as raw:
            for _ in range(min(20, -(-(count - sent) // BATCH))):
                assert drain(raw, b"".join(hostile.bent(rng) for _ in range(BATCH))), "a bent frame ended the stream"
                sent += BATCH
            assert drain(raw, b"".join(encode(Ping(77))))
            raw.setblocking(True)
            raw.settimeout(60)
            tail = b""
            while b'"Pong","number":77' not in tail:
                data = raw.recv(1 << 20)
                assert data, "a bent frame ended the stream"
                tail = tail[-100:] + data
    return sent


def send_fatal(server: ServerProcess, rng: random.Random, count: int) -> int:
    """One stream-ending frame a connection, with a greeting and without, closed in all the ways that there are."""
    for number in range(count):
        with contextlib.suppress(ConnectionError), contextlib.ExitStack() as stack:
            if number % 3:
                raw = stack.enter_context(greeted(server))
            else:
                raw = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 30))
            raw.sendall(hostile.fatal(rng))
            if number % 2:
                hear_out(raw)
    return count


def lie_about_memory(server: ServerProcess, rng: random.Random, count: int) -> int:
    """Map what is offered, then announce what is not there, and write into all that the server reads."""
    for number in range(count):
        with contextlib.suppress(ConnectionError), greeted_with_offer(server) as (raw, offer):
            joined = lane.join(offer) if offer else None
            if joined is None:
                continue
            ours, nonce = joined
            raw.sendall(b"".join(encode(LaneProof(nonce if number % 5 else "0" * 32))))
            array = np.frombuffer(rng.randbytes(70_000), np.uint8)
            good = b"".join(encode(Probe((array,), 8, 8), ours.outgoing))
            place = b",0,1]"
            assert place in good
            lie = rng.choice((b",0,2]", b",64,1]", b",1,1]", b",33554432,1]", b",99999999999,1]", b",0,0]", place))
            shift = len(lie) - len(place)
            bad = bytearray(good.replace(place, lie))
            bad[8:12] = (int.from_bytes(bad[8:12], "little") + shift).to_bytes(4, "little")
            ours.outgoing._memory[: 8 * rng.randint(0, 2)].view(np.uint64)[:] = rng.getrandbits(64)
            ours.incoming._freed[0] = rng.getrandbits(64)
            raw.sendall(bad + good * 2)
            raw.sendall(b"".join(encode(Probe((), 256, 256))))
            raw.sendall(b"".join(encode(LaneProof(nonce))))
            hear_out(raw)
    return count


@contextlib.contextmanager
def greeted_with_offer(server: ServerProcess) -> Iterator[tuple[socket.socket, LaneOffer | None]]:
    with socket.create_connection(("127.0.0.1", server.port), 30) as raw:
        raw.sendall(hostile.hello() + b"".join(encode(Ping(5))))
        offer = None
        for message in heard(raw):
            if isinstance(message, LaneOffer):
                offer = message
            elif message == Pong(5):
                break
        yield raw, offer


def never_read(server: ServerProcess, rng: random.Random, count: int) -> int:
    """Ask for pictures and read none, until the server has had enough."""
    question = b"".join(encode(Probe((), 1024, 1024))) * 50
    for _ in range(count):
        with greeted(server) as raw, contextlib.suppress(ConnectionError):
            raw.settimeout(60)
            until = time.monotonic() + 60
            while time.monotonic() < until:
                raw.sendall(question)
            raise AssertionError("a client that never reads may ask for ever")
    return count


def half_close(server: ServerProcess, rng: random.Random, count: int) -> int:
    """Submit a job, the same one again, and say that no more will come: half of a connection is none."""
    for number in range(count):
        with contextlib.suppress(ConnectionError), greeted(server) as raw:
            job = hostile.job_name(rng)
            submit = b"".join(encode(Submit(job, Generate(Settings(steps=1, seed=number), 64, 64))))
            raw.sendall((submit if number % 10 == 0 else b"") + hostile.frame({"message": {"type": "Follow"}})[:-1])
            if number % 10 == 0:
                raw.sendall(b"}" + submit * 20)
            hear_out(raw)
    return count


class Trickle(threading.Thread):
    """Sends a frame a byte a second, and notes how long the server bears it."""

    def __init__(self, server: ServerProcess, greet: bool) -> None:
        super().__init__(daemon=True)
        self._server, self._greet = server, greet
        self.ended = False

    def run(self) -> None:
        data = iter(b"".join(encode(Probe((np.zeros(1 << 20, np.uint8),), 8, 8))))
        with contextlib.suppress(ConnectionError), contextlib.ExitStack() as stack:
            if self._greet:
                raw = stack.enter_context(greeted(self._server))
                raw.sendall(bytes(next(data) for _ in range(200)))
            else:
                raw = stack.enter_context(socket.create_connection(("127.0.0.1", self._server.port), 30))
            raw.settimeout(1)
            for byte in data:
                raw.sendall(bytes([byte]))
                with contextlib.suppress(TimeoutError):
                    while raw.recv(1 << 16):
                        pass
                    break
        self.ended = True


# ---------------------------------------------------------------- the test


POOL = min(32, (os.cpu_count() or 1) + 4)
"""Threads that asyncio's own executor may have, each begun when it is first needed."""


class Footprint:
    """What the server holds. Memory that it shares with a client counts on neither side."""

    def __init__(self, server: ServerProcess) -> None:
        process = psutil.Process(server.process.pid)
        self.memory = process.memory_full_info().uss
        self.descriptors = process.num_fds() if hasattr(process, "num_fds") else 0
        self.threads = process.num_threads()
        maps = Path(f"/proc/{server.process.pid}/maps")
        self.segments = maps.read_text().count("memfd:") if maps.exists() else 0
        shared = Path("/dev/shm")
        self.files = sorted(path.name for path in shared.glob("*paintover*")) if shared.is_dir() else []

    def __repr__(self) -> str:
        return f"{self.__dict__}"


def settled(server: ServerProcess, wanted: Footprint) -> Footprint:
    """The footprint once the last connections are gone."""

    def found() -> Footprint | None:
        now = Footprint(server)
        return now if now.descriptors <= wanted.descriptors and now.segments <= wanted.segments else None

    footprint: Footprint = wait_until(found, 30, lambda: f"{Footprint(server)}, but before it was {wanted}")
    return footprint


Attack = Callable[[ServerProcess, random.Random, int], int]
ATTACKS: tuple[tuple[Attack, int], ...] = (
    (send_bent, BENT // 2), (send_bent, BENT // 2), (send_fatal, FATAL // 2), (send_fatal, FATAL // 2),
    (lie_about_memory, LIARS), (never_read, DEAF), (half_close, HALF),
)  # fmt: skip


def attack(server: ServerProcess, share: float) -> Counter[str]:
    """All attacks at once, with a share of their frames. Raises what any of them found wrong."""
    done: Counter[str] = Counter()
    wrong: list[BaseException] = []

    def work(number: int, act: Attack, count: int) -> None:
        try:
            sent = act(server, random.Random(f"{number} {share}"), max(1, int(count * share)))
            done[act.__name__] += sent
        except BaseException as error:  # noqa: BLE001 - told below
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(n, *pair), daemon=True) for n, pair in enumerate(ATTACKS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()  # one that hangs is ended by the test's own time limit
    if wrong:
        raise wrong[0]
    return done


@pytest.mark.skipif(sys.platform == "win32", reason="counts descriptors and segments the POSIX way")
@pytest.mark.timeout(900)
def test_a_hundred_thousand_hostile_frames(server: ServerProcess) -> None:
    honest = Honest(server)
    honest.start()
    attack(server, 0.03)  # what the server needs at all, it has now
    before = Footprint(server)
    trickles = [Trickle(server, greet=number % 2 == 0) for number in range(TRICKLES)]
    for trickle in trickles:
        trickle.start()
    jobs = honest.jobs
    done = attack(server, 1.0)
    for trickle in trickles:
        trickle.join(120)
        assert trickle.ended, "a byte a second was let to go on"
    assert honest.jobs > jobs, "the honest client was served meanwhile"
    after = settled(server, before)
    honest.stop()
    print(f"{sum(done.values()):,} frames {dict(done)}; {honest.jobs} jobs, slowest {honest.slowest:.2f} s")
    print(f"before {before}\nafter  {after}; log {server.log.stat().st_size:,} bytes")
    assert sum(done.values()) >= 100_000
    assert server.process.poll() is None
    assert after.memory - before.memory < GROWTH
    assert after.descriptors <= before.descriptors
    assert after.segments <= before.segments
    assert after.threads <= before.threads + POOL
    assert after.files == before.files
    assert server.log.stat().st_size < 200_000, "strangers cannot fill the log"
    assert "Traceback" not in server.log.read_text()
