"""The blocking connection and the asyncio channel, over real sockets, against each other."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import numpy as np
import pytest

from paintover.bridge.aio import Channel
from paintover.bridge.connection import Connection
from paintover.bridge.errors import BadFrame, ConnectionLost
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
    assert channel.waiting <= 2
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
