"""Shared memory: what is placed arrives, whatever lies a peer tells is refused, and nothing outlives its processes."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paintover.bridge import lane
from paintover.bridge.aio import Channel
from paintover.bridge.connection import Connection
from paintover.bridge.errors import BadFrame
from paintover.bridge.lane import Offer, Ring
from paintover.bridge.messages import LaneOffer, Ping, Preview
from paintover.bridge.wire import SHARED_FROM, Decoder, encode

SMALL = 1 << 16


def rings(size: int = SMALL) -> tuple[Ring, Ring]:
    """The two ends of one ring, in memory that only this process has."""
    memory, freed = np.zeros(size, np.uint8), np.zeros(1, np.uint64)
    return Ring(memory, freed), Ring(memory, freed)


def noise(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


@pytest.fixture(params=["nameless", "file"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The way in which memory is made on Linux, and the one of other systems."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if request.param == "file":
        monkeypatch.setattr(lane, "_create", lane._create_file)
    elif sys.platform != "linux":
        pytest.skip("memory without a name is Linux's")
    return str(request.param)


# ---------------------------------------------------------------- rings


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(1, SMALL), st.booleans()), max_size=80))
def test_what_is_placed_is_taken_in_order(steps: list[tuple[int, bool]]) -> None:
    placer, taker = rings()
    waiting: list[tuple[int, int, np.ndarray]] = []

    def take() -> None:
        position, sequence, data = waiting.pop(0)
        assert np.array_equal(taker.take(position, sequence, data.nbytes), data)

    for seed, (size, take_first) in enumerate(steps):
        if take_first and waiting:
            take()
        data = noise(size, seed)
        place = placer.place(data)
        if place:
            waiting.append((*place, data))
        else:
            assert waiting or size > SMALL - lane.HEAD, "an empty ring has room for all that fits it"
    while waiting:
        take()
    assert placer.place(noise(SMALL - lane.HEAD)), "all of it is free again"


def test_a_full_ring_refuses_and_loses_nothing() -> None:
    placer, taker = rings()
    first = placer.place(noise(40_000))
    assert first
    assert placer.place(noise(40_000, 1)) is None
    assert np.array_equal(taker.take(*first, 40_000), noise(40_000))
    assert placer.place(noise(40_000, 1))


@pytest.mark.parametrize("first", [100, SMALL // 8, SMALL // 2])
def test_an_empty_ring_has_all_its_room_for_the_next_message(first: int) -> None:
    """Whatever came before: what is passed over when the ring begins anew does not count as used."""
    placer, taker = rings()
    for count in (first, SMALL // 4):
        place = placer.place(noise(count))
        assert place
        taker.take(*place, count)
    mark = placer.mark()
    assert placer.place(noise(SMALL // 4))
    placer.rewind(mark)
    parts = [noise(SMALL // 4, seed) for seed in range(3)]
    places = [placer.place(part) for part in parts]
    assert all(places), "nothing has to go through the socket"
    for part, where in zip(parts, places, strict=True):
        assert where
        assert np.array_equal(taker.take(*where, part.nbytes), part)


def test_what_was_not_announced_can_be_taken_back() -> None:
    placer, taker = rings()
    mark = placer.mark()
    placer.place(noise(1000))
    placer.rewind(mark)
    place = placer.place(noise(2000, 1))
    assert place
    assert np.array_equal(taker.take(*place, 2000), noise(2000, 1))


@pytest.mark.parametrize(
    ("position", "sequence", "size"),
    [(64, 1, 100), (1, 1, 100), (SMALL + 64, 1, 100), (1 << 61, 1, 100), (0, 2, 100), (0, 0, 100), (0, 1, 99),
     (0, 1, 101), (0, 1, SMALL), (0, 1, 1 << 61)],
)  # fmt: skip
def test_lies_about_a_block_are_refused(position: int, sequence: int, size: int) -> None:
    placer, taker = rings()
    assert placer.place(noise(100)) == (0, 1)
    with pytest.raises(BadFrame):
        taker.take(position, sequence, size)
    assert len(taker.take(0, 1, 100)) == 100, "and the ring is as it was"


def test_a_block_cannot_be_read_twice() -> None:
    placer, taker = rings()
    place = placer.place(noise(100))
    assert place
    taker.take(*place, 100)
    with pytest.raises(BadFrame):
        taker.take(*place, 100)


def test_a_block_that_changes_while_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    placer, taker = rings()
    place = placer.place(noise(1000))
    assert place
    copy = np.copyto

    def overtaken(target: np.ndarray, source: np.ndarray) -> None:
        copy(target, source)
        placer._memory[:8] = 255

    monkeypatch.setattr(np, "copyto", overtaken)
    with pytest.raises(BadFrame, match="changed"):
        taker.take(*place, 1000)


@pytest.mark.parametrize("nonsense", [1 << 63, 4096])
def test_a_peer_that_frees_what_it_never_got(nonsense: int) -> None:
    placer, _ = rings()
    placer.place(noise(100))
    placer._freed[0] = nonsense
    assert placer.place(noise(100)) is None


# ---------------------------------------------------------------- segments


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0


def test_both_sides_see_the_same_memory_and_no_name_stays(system: str, tmp_path: Path) -> None:
    before = descriptors()
    offer = Offer(SMALL)
    assert len(list(tmp_path.iterdir())) == (system == "file")
    joined = lane.join(offer.message)
    assert joined
    theirs, nonce = joined
    ours = offer.prove(nonce)
    assert ours
    assert list(tmp_path.iterdir()) == []
    assert descriptors() <= before + 2, "a mapping may keep one of its own on each side, until it goes"
    for one, other in ((ours, theirs), (theirs, ours)):
        place = one.outgoing.place(noise(5000))
        assert place
        assert np.array_equal(other.incoming.take(*place, 5000), noise(5000))
    assert lane.join(offer.message) is None, "nobody else can map it any more"
    del ours, theirs, joined, one, other, offer
    assert descriptors() == before


@pytest.mark.parametrize("nonce", ["", "0" * 32, "\ud800"])
def test_a_wrong_nonce_proves_nothing(system: str, tmp_path: Path, nonce: str) -> None:
    offer = Offer(SMALL)
    assert offer.prove(nonce) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["1-0", "1-99999", "99999999-3", "../etc/passwd", "/etc/passwd", "", "paintover-" + "0" * 32, "1-1\n", "x"]
)
def test_names_that_are_none_of_ours(name: str) -> None:
    assert lane.join(LaneOffer(name, SMALL)) is None


@pytest.mark.parametrize("ring", [0, -64, 63, 100, SMALL * 2, 1 << 60])
def test_sizes_that_are_not_true(system: str, ring: int) -> None:
    offer = Offer(SMALL)
    assert lane.join(dataclasses.replace(offer.message, ring=ring)) is None
    offer.withdraw()


@pytest.mark.skipif(sys.platform != "linux", reason="sealed memory is Linux's")
def test_a_peer_cannot_shrink_the_memory_under_us() -> None:
    offer = Offer(SMALL)
    process, descriptor = offer.message.name.split("-")
    with open(f"/proc/{process}/fd/{descriptor}", "r+b") as file, pytest.raises(PermissionError):
        file.truncate(0)
    offer.withdraw()


def test_no_room_for_memory_means_the_socket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(descriptor: int, offset: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        lane._create_file(SMALL)
    assert list(tmp_path.iterdir()) == []
    offer = Offer(SMALL)
    assert lane.join(offer.message) is None
    offer.withdraw()


def test_what_a_killed_server_left_is_swept_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    orphan, other, young = (
        tmp_path / f"paintover-{'a' * 32}",
        tmp_path / "paintover-notes",
        tmp_path / f"paintover-{'b' * 32}",
    )
    for path in (orphan, other, young):
        path.write_bytes(b"x")
    for path in (orphan, other):
        os.utime(path, (1e9, 1e9))
    _, _, forget = lane._create_file(SMALL)
    forget()
    assert sorted(tmp_path.iterdir()) == sorted([other, young])


# ---------------------------------------------------------------- with the codec


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


# ---------------------------------------------------------------- with real sockets


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
    monkeypatch.setattr(lane, "_map", lambda name, size: None)
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


def test_memory_is_used_again_once_nobody_holds_it() -> None:
    recycler = lane.Recycler()
    first = recycler.get(1000)
    first[:] = 1
    held = first.view(np.uint16)[10:20]
    address = first.ctypes.data
    del first
    second = recycler.get(1000)
    second[:] = 2
    assert (held == 0x0101).all()
    del held
    third = recycler.get(1000)
    assert third.ctypes.data == address
    assert (second == 2).all()
    assert len(recycler.get(2000)) == 2000


def test_no_more_memory_is_kept_than_is_said() -> None:
    recycler = lane.Recycler()
    for number in range(1, 40):
        recycler.get((1 << 20) + number)
    assert len(recycler.get(lane.KEPT + 1)) == lane.KEPT + 1
    assert sum(buffer.nbytes for buffer in recycler._buffers) <= lane.KEPT
