"""Boards: the newest frame is always whole, what was overtaken is dropped, and nothing is copied on the way."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paintover.bridge import board
from paintover.bridge.board import Board, BoardReader, BoardWriter, Lent
from paintover.bridge.errors import BadFrame
from paintover.bridge.live_messages import LiveFrame
from paintover.bridge.messages import Ping
from paintover.bridge.wire import SHARED_FROM, Decoder, Overtaken, encode
from paintover.server.worker_messages import StreamControl

from .conftest import make_passes
from .memory import SMALL, descriptors, noise, rings
from .test_lane_traffic import connected, there_and_back

SIDE = 256
"""Of frames whose arrays are large enough for shared memory."""


def sides(size: int = SMALL) -> tuple[Board, BoardWriter, BoardReader]:
    """Creator, writer and reader of one board, each with a mapping of its own."""
    ours = Board(size)
    written, read = board.join(ours.offer(write=True)), board.join(ours.offer(write=False))
    assert written
    assert read
    assert ours.proves(written[1])
    assert ours.proves(read[1])
    return ours, BoardWriter(written[0]), BoardReader(read[0])


def frame(number: int) -> LiveFrame:
    passes = make_passes(SIDE, SIDE)
    return LiveFrame(number, dataclasses.replace(passes, depth=np.full((SIDE, SIDE), number, np.float32)))


# ---------------------------------------------------------------- the memory


@settings(max_examples=40)
@given(st.lists(st.lists(st.integers(1, SMALL // board.FRAMES), min_size=1, max_size=3), max_size=30))
def test_the_newest_frame_is_always_there(frames: list[list[int]]) -> None:
    ours, writer, reader = sides()
    for seed, sizes in enumerate(frames):
        writer.mark()
        arrays = [noise(size, seed) for size in sizes]
        places = [writer.place(array) for array in arrays]
        for array, place in zip(arrays, places, strict=True):
            assert place
            assert place[1] == 0
            assert np.array_equal(reader.take(place[0], array.nbytes), array)
            assert np.array_equal(ours.take(place[0], array.nbytes), array)


def test_what_was_overtaken_is_known() -> None:
    _, writer, reader = sides()
    places = []
    for seed in range(12):
        writer.mark()
        places.append(writer.place(noise(SMALL // 8, seed)))
    assert all(places)
    whole = []
    for seed, place in enumerate(places):
        assert place
        try:
            assert np.array_equal(reader.take(place[0], SMALL // 8), noise(SMALL // 8, seed)), "torn"
        except Overtaken:
            continue
        whole.append(seed)
    assert whole == list(range(whole[0], 12))
    assert len(whole) >= 3, "a reader has the time of some frames"


def test_a_frame_that_is_overtaken_while_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    _, writer, reader = sides()
    place = writer.place(noise(1000))
    assert place
    copy = np.copyto

    def slow(target: np.ndarray, source: np.ndarray) -> None:
        copy(target, source)
        monkeypatch.setattr(np, "copyto", copy)
        for _ in range(2 * board.FRAMES):
            writer.mark()
            writer.place(noise(1000, 1))

    monkeypatch.setattr(np, "copyto", slow)
    with pytest.raises(Overtaken):
        reader.take(place[0], 1000)


def test_what_is_too_large_goes_another_way() -> None:
    _, writer, _ = sides()
    assert writer.place(noise(SMALL // board.FRAMES + 1)) is None
    assert writer.place(noise(SMALL // board.FRAMES))


@pytest.mark.parametrize(("position", "size"), [(1, 10), (SMALL - 64, 65), (0, SMALL + 64), (1 << 60, SMALL + 1)])
def test_places_that_cannot_be(position: int, size: int) -> None:
    ours, _, reader = sides()
    for side in (ours, reader):
        with pytest.raises(BadFrame):
            side.take(position, size)


def test_what_was_lent_is_found_again_and_kept() -> None:
    ours, writer, reader = sides()
    place = writer.place(noise(1000))
    assert place
    lent = ours.take(place[0], 1000)
    assert ours.place_of(lent) == place
    assert ours.place_of(noise(1000)) is None
    kept = ours.copy_of(lent)
    assert kept is not None
    assert not kept.flags.writeable
    for _ in range(2 * board.FRAMES):
        writer.mark()
        writer.place(noise(2000, 1))
    assert np.array_equal(kept, noise(1000)), "it is a copy"
    assert ours.copy_of(lent) is None, "it was overtaken"
    own = noise(1000)
    assert ours.copy_of(own) is own
    del reader


def test_what_was_lent_last_is_found_again_longest() -> None:
    """Arrays whose places on the board stay the same, as those of small frames, among many that come once."""
    ours, writer, _ = sides()
    place = writer.place(noise(64))
    assert place
    for index in range(100):
        lent = ours.take(place[0], 64)
        ours.take(64 * (index + 1), 64)
        assert ours.place_of(lent) == place, f"it was lent a moment ago, and is lost after {index} others"


def test_names_and_memory_go(system: str, tmp_path: Path) -> None:
    before = descriptors()
    ours, writer, reader = sides()
    ours.withdraw()
    assert list(tmp_path.iterdir()) == []
    assert board.join(ours.offer(write=False)) is None, "nobody else can map it any more"
    place = writer.place(noise(100))
    assert place
    assert np.array_equal(reader.take(place[0], 100), noise(100)), "who has it, has it"
    assert not ours.proves("0" * 32)
    assert not ours.proves("\ud800")
    del ours, writer, reader
    assert descriptors() == before


@pytest.mark.parametrize("size", [0, -64, 63, 100, SMALL * 2, 1 << 60])
def test_sizes_that_are_not_true(size: int) -> None:
    ours = Board(SMALL)
    assert board.join(dataclasses.replace(ours.offer(write=False), size=size)) is None
    ours.withdraw()


# ---------------------------------------------------------------- with the codec


def test_a_frame_passes_without_a_copy() -> None:
    ours, writer, reader = sides(8 << 20)
    placer, _ = rings(8 << 20)
    front, worker = Decoder(), Decoder(known={"StreamControl": StreamControl})
    front.board, worker.board = ours, reader
    for number in range(9):
        (message,) = front.feed(b"".join(encode(frame(number), writer)))
        assert not message.passes.depth.flags.owndata
        passed_on = b"".join(encode(StreamControl(number, message.passes), Lent(ours, placer)))
        assert len(passed_on) < 2000
        assert placer.mark() == (0, 0), "nothing was put into the ring"
        (control,) = worker.feed(passed_on)
        assert (control.passes.depth == number).all()
        assert np.array_equal(control.passes.normal, frame(number).passes.normal)


def test_what_is_not_on_the_board_goes_into_the_ring() -> None:
    ours, _, _ = sides(1 << 20)
    placer, taker = rings(8 << 20)
    decoder = Decoder(known={"StreamControl": StreamControl})
    decoder.shared = taker
    (control,) = decoder.feed(b"".join(encode(StreamControl(1, frame(3).passes), Lent(ours, placer))))
    assert (control.passes.depth == 3).all()
    assert placer.mark()[1] == 4, "each of the four large arrays"


def test_an_overtaken_frame_is_dropped_and_the_next_one_comes() -> None:
    ours, writer, reader = sides(4 << 20)
    decoder = Decoder()
    decoder.board = reader
    old = b"".join(encode(frame(0), writer))
    for number in range(1, 2 * board.FRAMES):
        new = b"".join(encode(frame(number), writer))
    assert decoder.feed(old + b"".join(encode(Ping(1)))) == [Ping(1)]
    (message,) = decoder.feed(new)
    assert message.number == 2 * board.FRAMES - 1
    del ours


def test_a_board_that_was_never_agreed_on_is_refused() -> None:
    _, writer, _ = sides(4 << 20)
    with pytest.raises(BadFrame, match="shared memory"):
        Decoder().feed(b"".join(encode(frame(0), writer)))


def test_one_frame_cannot_ask_for_more_than_the_board_holds() -> None:
    ours, writer, _ = sides(SHARED_FROM * 8)
    data = b"".join(encode(frame(0), writer))
    decoder = Decoder()
    decoder.board = ours
    header = json.loads(data[20 : 20 + int.from_bytes(data[8:12], "little")])
    spec = next(spec for spec in header["arrays"] if len(spec) == 4)
    header["arrays"] += [spec] * 16
    text = json.dumps(header).encode()
    with pytest.raises(BadFrame, match="more in shared memory"):
        decoder.feed(data[:8] + len(text).to_bytes(4, "little") + data[12:20] + text)


# ---------------------------------------------------------------- over real sockets


async def test_frames_go_over_a_board_once_it_is_proved(system: str) -> None:
    async with connected() as (channel, connection):
        channel.offer_board()
        assert channel.board is None, "a peer that shares no memory gets none"
        channel.offer_lane()
        await there_and_back(channel, connection)
        for number in range(20):
            connection.send(frame(number))
            channel.offer_board()
            message = await asyncio.wait_for(channel.receive(), 10)
            assert (message.passes.depth == number).all()
            if channel.board and (place := channel.board.place_of(message.passes.depth)):
                assert place[1] == 0
                break
        else:
            raise AssertionError("it never came over the board")


async def test_who_cannot_see_the_board_gets_along_without(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected() as (channel, connection):
        channel.offer_lane()
        await there_and_back(channel, connection)
        monkeypatch.setattr(board, "map_memory", lambda name, size: None)
        channel.offer_board()
        lent = Board(SMALL)
        channel.lend(lent)
        await there_and_back(channel, connection)
        assert channel.board is None
        assert not channel._offered, "both were answered"
        assert channel._reads is None
        for number in range(3):
            connection.send(frame(number))
            assert (await asyncio.wait_for(channel.receive(), 10)).number == number
        lent.withdraw()


async def test_a_peer_reads_from_the_board_that_was_lent_last() -> None:
    async with connected() as (channel, connection):
        channel.offer_lane()
        await there_and_back(channel, connection)
        for _ in range(2):
            lent, writer, _ = sides(4 << 20)
            front = Decoder()
            front.board = lent
            channel.lend(lent)
            for number in range(20):
                (message,) = front.feed(b"".join(encode(frame(number), writer)))
                channel.send(message)
                got = await asyncio.to_thread(connection.receive, 10)
                assert (got.passes.depth == number).all()
            connection.send(Ping(1))  # behind its proof
            assert await asyncio.wait_for(channel.receive(), 10) == Ping(1)
            assert channel._reads is lent
