"""The codec: messages to buffers and bytes to messages. It does no I/O; drivers in client.py and aio.py do.

A frame is a fixed prefix, a JSON header and a body that holds the arrays, each aligned to 64 bytes:

    magic "PTOV" | protocol u16 | reserved u16 | header bytes u32 | body bytes u64 | header | body

The prefix is the same in every version of the protocol, so that two sides always learn each other's number from it.
Every length is checked against a limit before memory is taken; the body's length must be what the header's list of
arrays adds up to. Decoded arrays are read-only views into the body.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import PROTOCOL, VERSION
from .errors import BadFrame, BadMessage, PaintoverError, TooLarge, UnknownMessage, WrongProtocol
from .messages import MESSAGES
from .schema import from_plain, to_plain

MAGIC = b"PTOV"
PREFIX = struct.Struct("<4sHHIQ")
ALIGNMENT = 64
DTYPES = {name: np.dtype(name) for name in ("uint8", "uint16", "int32", "int64", "float16", "float32", "float64")}


@dataclass(frozen=True)
class Limits:
    """The most that a peer may send in one frame."""

    header: int = 1 << 20
    body: int = 1 << 30
    arrays: int = 1024


LIMITS = Limits()
UNLIMITED = Limits(header=1 << 28, body=1 << 40, arrays=1 << 20)
"""Between processes of one server, whose parts have been checked already."""
GREETING = Limits(header=16 << 10, body=0, arrays=0)
"""Before a peer has shown its token it may say only Hello."""


def check_size(message: Any, limits: Limits = LIMITS) -> None:
    """Raise TooLarge for a message that the other side would refuse: better said before it is sent."""
    buffers = encode(message)
    header = len(buffers[0]) - PREFIX.size
    body = sum(map(len, buffers)) - len(buffers[0])
    if header > limits.header:
        raise TooLarge(what="The request's description", size=header, limit=limits.header)
    if body > limits.body:
        raise TooLarge(what="The request", size=body, limit=limits.body)


@dataclass(frozen=True)
class Malformed:
    """Stands in for a whole frame of a known type whose content is wrong: the stream goes on after it."""

    tag: str
    error: PaintoverError
    job: str = ""
    """The job that it named, if it did."""


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def encode(message: Any) -> list[bytes | memoryview]:
    """Buffers to send, in order. Arrays that are already contiguous are not copied."""
    arrays: list[np.ndarray] = []
    plain = to_plain(message, arrays)
    arrays = [np.ascontiguousarray(array) for array in arrays]
    for array in arrays:
        if array.dtype.name not in DTYPES:
            raise BadMessage(name=type(message).__name__, reason=f"arrays of {array.dtype} do not travel")
    header = json.dumps(
        {"message": plain, "arrays": [[array.dtype.name, list(array.shape)] for array in arrays]},
        allow_nan=False,
        separators=(",", ":"),
    ).encode()
    body = sum(_aligned(array.nbytes) for array in arrays)
    buffers: list[bytes | memoryview] = [PREFIX.pack(MAGIC, PROTOCOL, 0, len(header), body) + header]
    for array in arrays:
        if array.nbytes:
            buffers.append(array.reshape(-1).view(np.uint8).data)
        if padding := _aligned(array.nbytes) - array.nbytes:
            buffers.append(bytes(padding))
    return buffers


class Decoder:
    """Bytes in, messages out. After any error raised here the stream has lost its place: close the connection.

    Either `feed(bytes)`, or, to receive without a copy, fill `get_buffer()` and say how much with `advance(count)`.
    """

    def __init__(self, limits: Limits = LIMITS, known: Mapping[str, type] = MESSAGES) -> None:
        self.limits = limits
        self._known = known
        self._stage = "prefix"
        self._buffer = bytearray(PREFIX.size)
        self._filled = 0
        self._body_size = 0
        self._tag: type = object
        self._plain: Any = None
        self._specs: list[tuple[np.dtype, tuple[int, ...]]] = []

    def get_buffer(self) -> memoryview:
        """Where the next bytes belong; never empty."""
        return memoryview(self._buffer)[self._filled :]

    def advance(self, count: int) -> list[Any]:
        """Take note that `count` bytes of `get_buffer()` were filled; returns the messages that are now complete."""
        self._filled += count
        if self._stage == "prefix" and not MAGIC.startswith(start := bytes(self._buffer[: min(4, self._filled)])):
            raise BadFrame(reason=f"it starts with {start!r}")
        done: list[Any] = []
        while self._filled == len(self._buffer):
            if self._stage == "prefix":
                self._begin_header()
            elif self._stage == "header":
                self._begin_body()
            if self._stage == "body" and self._filled == len(self._buffer):
                done.append(self._finish())
        return done

    def feed(self, data: bytes | bytearray | memoryview) -> list[Any]:
        """Messages completed by `data`, which may hold any part of one or several frames."""
        view, done = memoryview(data), []
        while len(view):
            room = self.get_buffer()
            count = min(len(room), len(view))
            room[:count] = view[:count]
            view = view[count:]
            done += self.advance(count)
        return done

    @property
    def idle(self) -> bool:
        """True between frames: an end of the stream here cuts nothing short."""
        return self._stage == "prefix" and self._filled == 0

    def _expect(self, stage: str, size: int) -> None:
        self._stage, self._buffer, self._filled = stage, bytearray(size), 0

    def _begin_header(self) -> None:
        _, protocol, _, header, body = PREFIX.unpack(self._buffer)
        if protocol != PROTOCOL:
            raise WrongProtocol(ours=PROTOCOL, version=VERSION, theirs=protocol)
        if header > self.limits.header or header == 0:
            raise TooLarge(what="A message header", size=header, limit=self.limits.header)
        if body > self.limits.body:
            raise TooLarge(what="A message body", size=body, limit=self.limits.body)
        self._body_size = body
        self._expect("header", header)

    def _begin_body(self) -> None:
        try:
            header = json.loads(self._buffer, parse_constant=_refuse_constant)
            self._plain, specs = header["message"], header["arrays"]
            tag = self._plain["type"]
        except (ValueError, KeyError, TypeError, RecursionError) as reason:
            raise BadFrame(reason=f"unreadable header ({type(reason).__name__})") from reason
        if not isinstance(tag, str) or tag not in self._known:
            raise UnknownMessage(name=str(tag)[:80])
        self._tag = self._known[tag]
        self._specs = self._check_specs(specs)
        size = sum(_aligned(dtype.itemsize * math.prod(shape)) for dtype, shape in self._specs)
        if size != self._body_size:
            raise BadFrame(reason="the body is not as long as its arrays")
        self._expect("body", size)

    def _check_specs(self, specs: Any) -> list[tuple[np.dtype, tuple[int, ...]]]:
        if not isinstance(specs, list):
            raise BadFrame(reason="no list of arrays")
        if len(specs) > self.limits.arrays:
            raise TooLarge(what="The number of arrays", size=len(specs), limit=self.limits.arrays)
        checked = []
        for spec in specs:
            if not (isinstance(spec, list) and len(spec) == 2 and isinstance(spec[1], list) and len(spec[1]) <= 4):
                raise BadFrame(reason="a malformed array description")
            dtype, shape = str(spec[0]), spec[1]
            if dtype not in DTYPES or any(type(n) is not int or not 0 <= n <= self.limits.body for n in shape):
                raise BadFrame(reason="an array of an unknown type or shape")
            checked.append((DTYPES[dtype], tuple(shape)))
        return checked

    def _finish(self) -> Any:
        arrays, offset = [], 0
        for dtype, shape in self._specs:
            array = np.frombuffer(self._buffer, dtype, math.prod(shape), offset).reshape(shape)
            array.flags.writeable = False
            arrays.append(array)
            offset += _aligned(array.nbytes)
        plain, self._plain, self._specs = self._plain, None, []
        self._expect("prefix", PREFIX.size)
        try:
            return from_plain(self._tag, plain, arrays)
        except PaintoverError as error:
            job = plain.get("job")
            return Malformed(self._tag.__name__, error, job if isinstance(job, str) else "")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number that travels")


def decode_one(data: bytes, known: Mapping[str, type] = MESSAGES, limits: Limits = LIMITS) -> Any:
    """The single message in `data` (a stored frame), or BadFrame."""
    decoder = Decoder(limits, known)
    found = decoder.feed(data)
    if len(found) != 1 or not decoder.idle:
        raise BadFrame(reason="not exactly one frame")
    return found[0]
