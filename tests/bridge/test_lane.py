"""Shared memory: what is placed arrives, whatever lies a peer tells is refused, and nothing outlives its processes."""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paintover.bridge import lane
from paintover.bridge.errors import BadFrame
from paintover.bridge.lane import Offer
from paintover.bridge.messages import LaneOffer

from .memory import SMALL, descriptors, noise, rings

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


# ---------------------------------------------------------------- memory that is used again


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
