"""Messages whose large arrays go through shared memory: with the codec alone, and over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from paintover.bridge import aio, lane
from paintover.bridge.aio import Channel
from paintover.bridge.connection import Connection
from paintover.bridge.errors import BadFrame
from paintover.bridge.messages import Ping, Preview
from paintover.bridge.wire import SHARED_FROM, Decoder, encode

from ..waiting import eventually
from .memory import descriptors, noise, rings


def test_the_codec_puts_large_arrays_there_and_small_ones_in_the_body() -> None:
    placer, taker = rings(1 << 20)
    decoder = Decoder()
    decoder.shared = taker
    large = noise(SHARED_FROM * 3).reshape(3, -1, 1)
    for image, bypasses in ((large, True), (noise(300).reshape(10, 10, 3), False), (large[:, ::-1], True)):
        data = b"".join(encode(Preview("j", image), placer))
        assert (len(data) < 400) == bypasses
        (message,) = decoder.feed(data)
        assert np.array_equal(message.image, image)
        assert not message.image.flags.writeable


def test_a_message_larger_than_the_ring_goes_both_ways_at_once() -> None:
    placer, taker = rings(1 << 18)
    decoder = Decoder()
    decoder.shared = taker
    for _ in range(5):
        data = b"".join(encode(Preview("j", noise(1 << 20).reshape(1024, 1024, 1)), placer))
        assert np.array_equal(decoder.feed(data)[0].image.ravel(), noise(1 << 20))


def test_shared_memory_that_was_never_agreed_on_is_refused() -> None:
    placer, _ = rings(1 << 20)
    data = b"".join(encode(Preview("j", noise(SHARED_FROM).reshape(-1, 4, 1)), placer))
    with pytest.raises(BadFrame, match="shared memory"):
        Decoder().feed(data)


def test_one_frame_cannot_ask_for_more_than_the_ring_holds() -> None:
    placer, taker = rings(1 << 20)
    data = b"".join(encode(Preview("j", noise(SHARED_FROM).reshape(-1, 4, 1)), placer))
    array = b'["uint8",[16384,4,1],0,1]'
    assert array in data
    many = data.replace(array, b",".join([array] * 17))
    header = len(many) - 20
    decoder = Decoder()
    decoder.shared = taker
    with pytest.raises(BadFrame, match="more in shared memory"):
        decoder.feed(many[:8] + header.to_bytes(4, "little") + many[12:])


Pair = tuple[Channel, Connection]


@contextlib.asynccontextmanager
async def connected(**options: Any) -> AsyncIterator[Pair]:
    """A server's channel and a client's connection over loopback."""
    loop = asyncio.get_running_loop()
    accepted: asyncio.Future[Channel] = loop.create_future()

    def accept() -> Channel:
        channel = Channel()
        loop.call_soon(accepted.set_result, channel)
        return channel

    async with await loop.create_server(accept, "127.0.0.1", 0) as server:
        sock = socket.create_connection(server.sockets[0].getsockname())
        channel = await accepted
        connection = Connection(sock, **options)
        try:
            yield channel, connection
        finally:
            await asyncio.to_thread(connection.close)
            channel.close()


async def there_and_back(channel: Channel, connection: Connection) -> None:
    image = noise(600 * 500 * 3).reshape(600, 500, 3)
    for _ in range(3):
        channel.send(Preview("down", image))
        assert np.array_equal((await asyncio.to_thread(connection.receive, 10)).image, image)
        connection.send(Preview("up", image))
        assert np.array_equal((await asyncio.wait_for(channel.receive(), 10)).image, image)


async def test_over_real_sockets(system: str) -> None:
    before = descriptors()
    async with connected() as (channel, connection):
        channel.offer_lane()
        await there_and_back(channel, connection)
        assert channel.shares_memory
        assert connection.shares_memory
        await asyncio.to_thread(connection.close)
        await asyncio.wait_for(channel._lost.wait(), 10)
    del channel, connection
    assert descriptors() <= before


async def test_a_client_that_does_not_want_it_or_cannot_see_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(share=False) as (channel, connection):
        channel.offer_lane()
        await there_and_back(channel, connection)
        assert not channel.shares_memory, "it said that it does not"
    monkeypatch.setattr(lane, "map_memory", lambda name, size: None)
    async with connected() as (channel, connection):
        channel.offer_lane()
        await there_and_back(channel, connection)
        assert not channel.shares_memory
        assert not connection.shares_memory


async def test_messages_that_wait_when_the_offer_comes_are_sent_the_old_way() -> None:
    """The server may only be shown shared memory after it has the proof, however much is queued before that."""
    image = noise(600 * 500 * 3).reshape(600, 500, 3)
    async with connected() as (channel, connection):
        for number in range(20):
            connection.send(Ping(number))
            connection.send(Preview(f"j{number}", image))
            if number == 3:
                channel.offer_lane()
        for number in range(20):
            assert await asyncio.wait_for(channel.receive(), 10) == Ping(number)
            assert np.array_equal((await asyncio.wait_for(channel.receive(), 10)).image, image)


async def test_a_lie_over_a_real_socket_ends_only_that_connection() -> None:
    async with connected() as (channel, connection):
        channel.offer_lane()
        await there_and_back(channel, connection)
        outgoing = connection._lane.outgoing  # type: ignore[union-attr]
        outgoing.rewind((outgoing.mark()[0], 77))
        connection.send(Preview("up", noise(SHARED_FROM).reshape(-1, 4, 1)))
        with pytest.raises(BadFrame, match="another array"):
            await asyncio.wait_for(channel.receive(), 10)


@pytest.mark.parametrize(
    ("peer", "offered"),
    [(("192.0.2.7", 4), False), (("fe80::1%eth0", 4, 0, 0), False), ("", False), (("127.3.2.1", 4), True),
     (("::1", 4, 0, 0), True), (("::ffff:127.0.0.1", 4, 0, 0), True)],
)  # fmt: skip
async def test_only_peers_on_this_machine_get_an_offer(
    peer: object, offered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected() as (channel, connection):
        monkeypatch.setattr(channel._transport, "get_extra_info", lambda name, default=None: peer)
        channel.offer_lane()
        await there_and_back(channel, connection)
        assert connection.shares_memory == offered


async def test_what_waits_unread_is_bounded_in_bytes_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    image = noise(600 * 500 * 3).reshape(600, 500, 3)
    monkeypatch.setattr(aio, "HIGH_BYTES", 3 * image.nbytes)
    async with connected() as (channel, connection):
        transport = channel._transport
        assert transport
        for number in range(12):
            connection.send(Preview(f"j{number}", image))
        for number in range(12):
            if number < 8:  # three that wait, one on top, and the one that was taken last
                await eventually(lambda: not transport.is_reading(), 30)
            assert channel.inbox_bytes <= 5 * (image.nbytes + 4096)
            message = await asyncio.wait_for(channel.receive(), 30)
            assert message.job == f"j{number}"
            assert np.array_equal(message.image, image)
            assert channel.inbox_bytes >= image.nbytes, "it counts until the next is asked for"
        connection.send(Ping(1))
        assert await asyncio.wait_for(channel.receive(), 30) == Ping(1)
        assert channel.inbox_bytes < 4096
