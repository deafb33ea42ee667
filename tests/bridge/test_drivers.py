"""The blocking connection and the asyncio channel, over real sockets, against each other."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time
import weakref
from typing import Any

import numpy as np
import pytest

from paintover.bridge.aio import Channel
from paintover.bridge.connection import Connection
from paintover.bridge.errors import BadFrame, BadMessage, ConnectionLost
from paintover.bridge.messages import Ping, Preview, Progress


def test_blocking_to_blocking() -> None:
    left, right = map(Connection, socket.socketpair())
    image = np.random.default_rng(0).integers(0, 255, (512, 512, 3), dtype=np.uint8)
    left.send(Preview("j", image))
    right.send(Ping(7))
    assert np.array_equal(right.receive(10).image, image)
    assert left.receive(10) == Ping(7)
    left.close()
    for _ in range(2):
        with pytest.raises(ConnectionLost):
            right.receive(10)
    with pytest.raises(ConnectionLost):
        right.send(Ping(1))
    right.close()


@pytest.mark.skipif(not hasattr(time, "pthread_getcpuclockid"), reason="this system does not tell")
def test_what_receiving_takes_of_the_processor_is_told_apart() -> None:
    left, right = map(Connection, socket.socketpair())
    left.send(Ping(1))
    right.receive(10)
    before = right.reading_seconds
    assert 0 < before < time.process_time()
    for number in range(50):
        left.send(Preview("j", np.full((1, 60_000, 3), number, np.uint8)))
        right.receive(10)
    assert right.reading_seconds > before
    left.close()
    right.close()


def test_who_was_told_of_the_end_is_not_kept_by_it() -> None:
    """A render's own frames, which hold on to what Blender then frees."""
    left, right = map(Connection, socket.socketpair())
    left.close()

    class Asker:
        def ask(self) -> None:
            with pytest.raises(ConnectionLost):
                right.receive(10)

    asker = Asker()
    asker.ask()
    kept = weakref.ref(asker)
    gc.disable()
    try:
        del asker
        assert kept() is None
    finally:
        gc.enable()
    right.close()


def test_every_sender_keeps_its_order_however_little_the_system_takes() -> None:
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    sender, receiver = Connection(ours), Connection(theirs)
    rng = np.random.default_rng(0)
    # A few fit the system's buffer, most are cut by it, and one is too large for the sender's own thread.
    sizes = [*rng.integers(1, 60_000, 60), 5 << 20]

    def send(job: str) -> None:
        for number, size in enumerate(sizes):
            sender.send(Ping(number))
            sender.send(Preview(f"{job} {number}", np.full((1, size, 3), number, np.uint8)))

    threads = [threading.Thread(target=send, args=(job,)) for job in "abc"]
    for thread in threads:
        thread.start()
    got: dict[str, list[int]] = {job: [] for job in "abc"}
    pings = 0
    while min(map(len, got.values())) < len(sizes):
        message = receiver.receive(30)
        if isinstance(message, Ping):
            pings += 1
            continue
        job, number = message.job.split()
        assert np.array_equal(message.image, np.full((1, sizes[int(number)], 3), int(number), np.uint8))
        got[job].append(int(number))
    assert all(numbers == list(range(len(sizes))) for numbers in got.values())
    assert pings == 3 * len(sizes)
    for thread in threads:
        thread.join()
    sender.close()
    receiver.close()


def test_nothing_comes_between_the_parts_of_a_message() -> None:
    class Crowded(Connection):
        def _push(self, views: list[memoryview]) -> list[memoryview]:
            rest = super()._push(views)
            self._outbox.put(Ping(1))  # another thread's, which found the connection busy
            return rest

    ours, theirs = socket.socketpair()
    sender, receiver = Crowded(ours), Connection(theirs)
    sender.send(Preview("j", np.ones((1000, 1000, 3), np.uint8)))
    assert receiver.receive(10).image.all()
    assert receiver.receive(10) == Ping(1)
    sender.close()
    receiver.close()


def test_a_peer_that_does_not_read_keeps_no_sender_waiting() -> None:
    ours, theirs = socket.socketpair()
    connection = Connection(ours)
    for number in range(100):  # far more than the system holds: a sender that waited would hang here
        connection.send(Preview(f"j{number}", np.zeros((100, 1000, 3), np.uint8)))
    assert not connection.flush(0)
    connection.close()
    theirs.close()


def test_what_cannot_be_encoded_ends_the_connection_and_not_the_sender() -> None:
    left, right = map(Connection, socket.socketpair())
    left.send(Preview("j", np.zeros((1, 1, 3), np.complex64)))
    with pytest.raises(BadMessage, match="complex64"):
        left.receive(10)
    left.close()
    right.close()


def test_noise_ends_a_blocking_connection_with_its_reason() -> None:
    ours, theirs = socket.socketpair()
    connection = Connection(ours)
    theirs.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    with pytest.raises(BadFrame, match="GET"):
        connection.receive(10)
    assert connection.ended.wait(10)
    connection.close()
    theirs.close()


async def channel_over(sock: socket.socket) -> Channel:
    _, channel = await asyncio.get_running_loop().create_connection(Channel, sock=sock)
    return channel


async def test_asyncio_to_blocking_and_back() -> None:
    ours, theirs = socket.socketpair()
    channel, connection = await channel_over(ours), Connection(theirs)
    image = np.arange(300 * 200 * 3, dtype=np.uint8).reshape(300, 200, 3)
    channel.send(Preview("j", image))
    connection.send(Preview("k", image))
    there = await asyncio.to_thread(connection.receive, 10)
    here = await asyncio.wait_for(channel.receive(), 10)
    assert np.array_equal(there.image, image)
    assert here.job == "k"
    connection.close()
    with pytest.raises(ConnectionLost):
        await asyncio.wait_for(channel.receive(), 10)


async def test_a_receiver_that_does_not_read_costs_one_waiting_message() -> None:
    ours, theirs = socket.socketpair()
    channel = await channel_over(ours)
    blocker = Preview("big", np.zeros((1024, 1024, 3), np.uint8))
    channel.send(blocker)
    channel.send(blocker)
    for number in range(1000):
        channel.send(Progress("j", "x", number / 1000))
    assert len(channel._outbox) <= 2
    connection = Connection(theirs)
    last: Any = None
    while not (isinstance(last, Progress) and last.fraction == 0.999):
        last = await asyncio.to_thread(connection.receive, 10)
    connection.close()


async def test_a_flood_pauses_reading_and_nothing_is_lost() -> None:
    ours, theirs = socket.socketpair()
    channel, connection = await channel_over(ours), Connection(theirs)
    for number in range(5000):
        connection.send(Ping(number))
    async with asyncio.timeout(10):
        while channel._reading:
            await asyncio.sleep(0)
    assert not connection.flush(0), "the rest waits at the sender"
    found = [await asyncio.wait_for(channel.receive(), 10) for _ in range(5000)]
    assert found == [Ping(number) for number in range(5000)]
    connection.close()
