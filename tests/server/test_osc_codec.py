"""OSC packets taken apart and put together, against python-osc's own reading, and whatever else may arrive."""

from __future__ import annotations

import contextlib
import struct
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pythonosc.osc_bundle import OscBundle
from pythonosc.osc_message import OscMessage
from pythonosc.osc_message_builder import OscMessageBuilder

from paintover.bridge.errors import BadPacket, WrongType
from paintover.server.live.osc_codec import (
    BUNDLE,
    MAX_DEPTH,
    MAX_PACKET,
    address_of,
    asks,
    bundles,
    due,
    encode,
    matching,
    parse,
    split,
)

NOW = struct.pack(">Q", 1)


def bundle(*elements: bytes, time: bytes = NOW) -> bytes:
    return BUNDLE + time + b"".join(struct.pack(">i", len(element)) + element for element in elements)


def built(address: str, *arguments: tuple[str, object]) -> bytes:
    builder = OscMessageBuilder(address)
    for tag, value in arguments:
        builder.add_arg(value, tag)  # type: ignore[arg-type]
    return builder.build().dgram


ONE, TWO = built("/a", ("f", 0.5)), built("/b", ("i", 3))

numbers = st.integers(-(2**31), 2**31 - 1) | st.floats(width=32, allow_nan=False)


@given(st.lists(numbers | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=16))
def test_what_is_encoded_is_read_by_python_osc_and_here(arguments: list[int | float | str]) -> None:
    message = encode("/paintover/x", *arguments)
    assert OscMessage(message).params == arguments
    assert parse(message) == ("/paintover/x", arguments)
    assert split(message) == ([message], "")


def test_numbers_of_every_kind_are_read(caplog: pytest.LogCaptureFixture) -> None:
    message = built(
        "/x", ("i", -1), ("h", 2**40), ("f", 0.5), ("d", 0.1), ("T", True), ("F", False), ("N", None), ("s", "né")
    )
    assert parse(message) == ("/x", [-1, 2**40, 0.5, 0.1, True, False, "né"])
    assert parse(b"/x\0\0") == ("/x", []), "no type tags: an old sender"
    assert parse(b"/x\0\0,I\0\0") == ("/x", []), "an impulse"
    assert parse(b"/x\0\0,IN\0") == ("/x", [])
    assert not caplog.records, "python-osc would write a line for each"


@pytest.mark.parametrize(
    "message",
    [
        built("/x", ("b", b"blob")),
        built("/x", ("m", (1, 2, 3, 4))),
        built("/x", ("r", 77)),
        b"/x\0\0,t\0\0" + bytes(8),
    ],
)
def test_other_types_are_named_and_refused(message: bytes) -> None:
    with pytest.raises(WrongType):
        parse(message)


@pytest.mark.parametrize(
    "message",
    [
        b"/x",
        b"/x\0\0,i\0\0\0\0",
        b"/x\0\0,s\0\0abcd",
        b"/x\0\0,q\0\0",
        b"/x\0\0,[[i\0\0\0\0\0",
        b"/x\0\0abcd",
        b"/\xff\xfe\0,i\0\0" + bytes(4),
        b"/x\0\0,s\0\0\xff\xfe\0\0",
        b"/x\0\0," + b"i" * 17 + b"\0\0" + bytes(68),
        b"/x\0\0," + b"T" * 60_000 + b"\0\0\0",
        b"/x\0\0" + b"," * 60_000,
        b"/" * MAX_PACKET,
    ],
)
def test_damaged_messages_are_refused(message: bytes) -> None:
    with pytest.raises(BadPacket):
        parse(message)


def test_bundles_are_taken_apart_also_nested_ones() -> None:
    assert split(bundle(ONE, bundle(TWO, ONE), TWO)) == ([ONE, TWO, ONE, TWO], "")
    assert split(bundle()) == ([], "")


def nested(depth: int) -> bytes:
    packet = ONE
    for _ in range(depth):
        packet = bundle(packet)
    return packet


@pytest.mark.parametrize(
    ("packet", "sound"),
    [
        (b"", 0),
        (b"\0" * MAX_PACKET, 0),
        (b"#bundle\0\0\0", 0),
        (b"#bundl", 0),
        (bundle(ONE, TWO)[:-1], 1),
        (bundle(ONE) + struct.pack(">i", -4) + TWO, 1),
        (bundle(ONE) + struct.pack(">i", 0) + TWO, 1),
        (bundle(ONE) + struct.pack(">i", 2**31 - 1) + TWO, 1),
        (bundle(ONE) + b"\0\0", 1),
        (bundle(ONE, b"what", TWO), 1),
        (nested(MAX_DEPTH + 1), 0),
        (nested(2000)[:MAX_PACKET], 0),
        (bundle(*[b"/\0\0\0"] * 8000), 4097),
    ],
)
def test_what_is_sound_of_a_damaged_packet_counts_and_the_rest_is_said(packet: bytes, sound: int) -> None:
    found, wrong = split(packet)
    assert len(found) == sound
    assert wrong


def test_the_deepest_nesting_is_read() -> None:
    assert split(nested(MAX_DEPTH)) == ([ONE], "")


@given(st.binary(max_size=400))
@example(BUNDLE + NOW + b"\xff\xff\xff\xfc" * 3)
@example(b"/x\0\0,f\0\0\x7f")
def test_nothing_that_arrives_does_more_than_be_refused(packet: bytes) -> None:
    for start in (b"", b"/", b"/x\0\0,", BUNDLE + NOW):
        found, _ = split(start + packet)
        due(start + packet)
        for message in found:
            asks(message, address_of(message))
            with contextlib.suppress(BadPacket, WrongType):
                parse(message)


def test_questions_are_told_from_values() -> None:
    for question in (
        b"/x\0\0",
        b"/x\0\0,\0\0\0",
        built("/x", ("s", "?")),
        built("/abcdefg", ("s", "?")),
        built("/abc"),
    ):
        assert asks(question, address_of(question))
    for value in (
        ONE,
        built("/x", ("s", "moss")),
        built("/abc", ("T", True)),
        built("/x", ("s", ""))[:-4] + b"x\0\0\0",
    ):
        assert not asks(value, address_of(value)), value


def test_times_of_bundles() -> None:
    assert due(ONE) == due(bundle(ONE)) == 0.0
    at = time.time() + 2
    stamp = struct.pack(">Q", int((at + 2208988800) * 2**32))
    assert due(bundle(ONE, time=stamp)) == pytest.approx(at, abs=0.01)
    assert due(bundle(ONE, time=b"\xff" * 8)) > at


def test_values_are_bundled_to_fit_a_frame() -> None:
    messages = [encode("/paintover/some/address", float(number)) for number in range(100)]
    long = encode("/paintover/prompt", "x" * 60_000)
    made = bundles([*messages, long])
    assert [len(packet) <= 1400 for packet in made] == [True] * (len(made) - 1) + [False]
    assert [m for packet in made for m in split(packet)[0]] == [*messages, long]
    assert sum(OscBundle(packet).num_contents for packet in made) == 101


def test_patterns() -> None:
    names = ["strength", "steps", "status/fps", "control/depth/scale", "control/edge/scale"]
    assert matching("st*", names) == names[:3]
    assert matching("*", names) == names
    assert matching("control/{depth,edge}/scale", names) == names[3:]
    assert matching("ste[o-q]s", names) == ["steps"]
    assert matching("ste[!a-o]s", names) == ["steps"]
    assert matching("step?", names) == ["steps"]
    assert matching("*e*s", names) == ["steps"]
    assert matching("c*l/*e", names) == names[3:]
    assert matching("**?*?", names) == names
    assert matching("c*l/[d-][!x]*e", names) == names[3:4]
    assert matching("*a" * 99, ["a" * 10_000]) == ["a" * 10_000]
    assert matching("*a" * 99 + "b", ["a" * 1000]) == []
    for nothing in ("", "x", "{", "{}}", "[", "*" * 201, "{a,b}" * 30):
        assert matching(nothing, names) == []
