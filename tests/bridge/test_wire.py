"""The codec: every message comes back as it was, however the bytes are cut; nothing wrong gets through."""

from __future__ import annotations

import dataclasses
import json
import typing
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paintover.bridge import PROTOCOL, messages
from paintover.bridge.errors import (
    BadFrame,
    BadMessage,
    BadParameter,
    TooLarge,
    UnknownMessage,
    WrongProtocol,
)
from paintover.bridge.messages import MESSAGES, Hello, JobState, Ping, Preview, Submit
from paintover.bridge.parameters import Settings
from paintover.bridge.shot import Link, ShotFrame
from paintover.bridge.wire import GREETING, PREFIX, READ_AHEAD, Decoder, Limits, Malformed, encode

from .conftest import make_camera, make_mesh, make_passes


def as_bytes(message: Any) -> bytes:
    return b"".join(encode(message))


def decoded(data: bytes) -> Any:
    (message,) = Decoder().feed(data)
    return message


def example(annotation: Any) -> Any:
    """Some value of the annotated type, so that every declared message can be tried without naming it here."""
    if annotation is messages.MeshData:
        return make_mesh()
    if annotation is messages.Passes:
        return make_passes()
    if annotation is np.ndarray:
        return np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    if dataclasses.is_dataclass(annotation):
        hints = typing.get_type_hints(annotation)
        values = {f.name: example(hints[f.name]) for f in dataclasses.fields(annotation)}
        special = {"state": "done", "job": "a" * 32}
        if annotation is messages.LiveStatus:
            special = {"state": "running"}
        if annotation is messages.LiveFrame:
            special = {"image": None}
        if annotation is messages.Generate:
            special = {"image": None, "mask": None, "width": 16, "height": 8}
        if annotation is messages.Shot:
            special = {"numbers": (3, 4), "cuts": (4,), "width": 16, "height": 8, "first": 1}
        if annotation is ShotFrame:
            link = Link(3, np.zeros((8, 16, 3), np.float32))
            return ShotFrame(4, Settings(), make_passes(), False, link, link)
        if annotation is Settings:
            return Settings(prompt="x", steps=7)
        return annotation(**{**values, **{k: v for k, v in special.items() if k in values}})
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is tuple:
        return (example(arguments[0]), example(arguments[0]))
    if origin is dict:
        return {"key": example(arguments[1])}
    if arguments:
        return example(arguments[0])
    return {str: "text", int: 3, float: 0.5, bool: True}[annotation]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    if dataclasses.is_dataclass(a):
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_every_message_comes_back_as_it_was(name: str) -> None:
    message = example(MESSAGES[name])
    assert same(decoded(as_bytes(message)), message)


def test_one_byte_at_a_time(submit: Submit, submit_texture: Submit) -> None:
    data = as_bytes(submit) + as_bytes(Ping(1)) + as_bytes(submit_texture)
    decoder, found = Decoder(), []
    for byte in data:
        found += decoder.feed(bytes([byte]))
    assert same(found[0], submit)
    assert found[1] == Ping(1)
    assert same(found[2], submit_texture)
    assert decoder.idle


@given(st.lists(st.integers(1, 700), max_size=60))
def test_any_cut(cuts: list[int]) -> None:
    message = Preview("j", np.arange(3000, dtype=np.uint8).reshape(10, 100, 3))
    data, found, decoder = as_bytes(message) * 2, [], Decoder()
    for cut in cuts:
        found += decoder.feed(data[:cut])
        data = data[cut:]
    found += decoder.feed(data)
    assert [same(one, message) for one in found] == [True, True]


@given(st.binary(max_size=400))
def test_noise_is_refused_or_waits(noise: bytes) -> None:
    decoder = Decoder()
    try:
        assert decoder.feed(noise) == []
    except (BadFrame, TooLarge, UnknownMessage, WrongProtocol):
        pass
    else:
        assert len(noise) < PREFIX.size or noise.startswith(b"PTOV")


@given(st.data())
def test_a_mutated_frame_never_raises_anything_else(data: st.DataObject) -> None:
    frame = bytearray(as_bytes(Submit("0" * 32, messages.Generate(Settings(), 16, 8, make_passes()))))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = Decoder().feed(bytes(frame))
    except (BadFrame, TooLarge, UnknownMessage, WrongProtocol):
        return
    assert all(isinstance(one, (Submit, Malformed)) for one in found), "any other error fails the test by itself"


def header_frame(header: bytes, body: int = 0) -> bytes:
    return PREFIX.pack(b"PTOV", PROTOCOL, 0, len(header), body) + header


def test_lengths_are_checked_before_memory_is_taken() -> None:
    decoder = Decoder(Limits(header=100, body=1000))
    with pytest.raises(TooLarge, match="1,001"):
        decoder.feed(PREFIX.pack(b"PTOV", PROTOCOL, 0, 50, 1001))
    with pytest.raises(TooLarge):
        Decoder(Limits(header=100)).feed(PREFIX.pack(b"PTOV", PROTOCOL, 0, 101, 0))
    assert len(decoder.get_buffer()) <= READ_AHEAD


def test_the_body_must_be_what_the_arrays_add_up_to() -> None:
    header = json.dumps({"message": {"type": "Preview"}, "arrays": [["uint8", [1 << 29]]]}).encode()
    decoder = Decoder()
    with pytest.raises(BadFrame, match="not as long"):
        decoder.feed(header_frame(header, body=64))
    assert len(decoder.get_buffer()) <= READ_AHEAD


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 100_000,
        b"{}",
        b'{"message": {"type": "Ping", "number": NaN}, "arrays": []}',
        b'{"message": {"type": "Ping", "number": 1}, "arrays": [["object", [1]]]}',
        b'{"message": {"type": "Ping", "number": 1}, "arrays": [["uint8", [-1]]]}',
        b'{"message": {"type": "Ping", "number": 1}, "arrays": [["uint8", [true]]]}',
        b"\xff\xfe",
    ],
)
def test_damaged_headers(header: bytes) -> None:
    with pytest.raises(BadFrame):
        Decoder().feed(header_frame(header))


def test_unknown_type() -> None:
    with pytest.raises(UnknownMessage, match="Exec"):
        Decoder().feed(header_frame(b'{"message": {"type": "Exec"}, "arrays": []}'))


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"number": "one"}, BadMessage),
        ({"number": True}, BadMessage),
        ({"number": 1, "extra": 2}, BadMessage),
        ({}, BadMessage),
    ],
)
def test_wrong_fields_do_not_end_the_stream(fields: dict[str, Any], error: type) -> None:
    header = json.dumps({"message": {"type": "Ping", **fields}, "arrays": []}).encode()
    wrong, right = Decoder().feed(header_frame(header) + as_bytes(Ping(5)))
    assert isinstance(wrong, Malformed)
    assert isinstance(wrong.error, error)
    assert right == Ping(5)


def test_a_parameter_out_of_range_names_itself_and_its_job(submit: Submit) -> None:
    data = as_bytes(submit).replace(b'"steps":20', b'"steps":99').replace(b'"guidance":5.0', b'"guidance":9e9')
    (wrong,) = Decoder().feed(data)
    assert isinstance(wrong, Malformed)
    assert isinstance(wrong.error, BadParameter)
    assert "guidance" in wrong.error.message
    assert wrong.job == submit.job


def test_another_protocol_is_named_with_ours() -> None:
    data = PREFIX.pack(b"PTOV", PROTOCOL + 1, 0, 10, 0)
    with pytest.raises(WrongProtocol, match=rf"protocol {PROTOCOL + 1}.*protocol {PROTOCOL}"):
        Decoder().feed(data)


def test_before_the_greeting_only_small_frames(submit: Submit) -> None:
    assert Decoder(GREETING).feed(as_bytes(Hello(PROTOCOL, "t", "c", "v")))
    with pytest.raises(TooLarge):
        Decoder(GREETING).feed(as_bytes(submit))


def test_decoded_arrays_cannot_be_written() -> None:
    message = decoded(as_bytes(Preview("j", np.zeros((2, 2, 3), np.uint8))))
    with pytest.raises(ValueError, match="read-only"):
        message.image[0] = 1


def test_what_does_not_travel_is_refused_on_the_way_out() -> None:
    with pytest.raises(BadMessage, match="complex"):
        encode(Preview("j", np.zeros((2, 2), np.complex64)))
    with pytest.raises(BadMessage, match="unknown state"):
        JobState("j", "asleep")


def test_non_contiguous_arrays_arrive_whole() -> None:
    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)[::2, ::-1]
    assert np.array_equal(decoded(as_bytes(Preview("j", image))).image, image)


def test_passes_of_the_wrong_shape_are_refused() -> None:
    right = make_passes()
    with pytest.raises(BadMessage, match="depth"):
        dataclasses.replace(right, depth=right.depth[:4])
    with pytest.raises(BadMessage, match="normal"):
        dataclasses.replace(right, normal=right.normal.astype(np.float32))
    with pytest.raises(BadMessage, match="size or matrices"):
        dataclasses.replace(make_camera(), view=np.full((4, 4), np.nan))
