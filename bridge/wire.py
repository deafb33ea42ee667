"""The codec: messages to buffers and bytes to messages. It does no I/O: connection.py and aio.py send and receive what
it makes and understands, client.py the greeting, and the server's journal keeps such frames in files.

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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from . import PROTOCOL, VERSION
from .errors import BadFrame, BadMessage, PaintoverError, TooLarge, UnknownMessage, WrongProtocol
from .messages import MESSAGES
from .schema import from_plain, to_plain

MAGIC = b"PTOV"
PREFIX = struct.Struct("<4sHHIQ")
ALIGNMENT = 64
SHARED_FROM = 64 << 10
"""Arrays of at least this many bytes go through shared memory."""
READ_AHEAD = 64 << 10
"""Bytes that may be received before it is known what they are: most messages take one call to the system."""
DTYPES = {name: np.dtype(name) for name in ("uint8", "uint16", "int32", "int64", "float16", "float32", "float64")}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


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


class Overtaken(Exception):
    """An array on a board has made room for a newer one, which is on its way."""


@dataclass(frozen=True)
class Malformed:
    """Stands in for a whole frame of a known type whose content is wrong: the stream goes on after it."""

    tag: str
    error: PaintoverError
    job: str = ""
    """The job that it named, if it did."""


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _flat(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1).view(np.uint8)


class Outgoing(Protocol):
    """Shared memory as the encoder sees it (lane.Ring, board.BoardWriter)."""

    def place(self, data: np.ndarray) -> tuple[int, int] | None: ...

    def mark(self) -> Any: ...

    def rewind(self, mark: Any) -> None: ...


class Incoming(Protocol):
    """Shared memory as the decoder sees it (lane.Ring)."""

    @property
    def size(self) -> int: ...

    def take(self, position: int, sequence: int, nbytes: int) -> np.ndarray: ...


class Posted(Protocol):
    """A board as the decoder sees it (board.BoardReader)."""

    @property
    def size(self) -> int: ...

    def take(self, position: int, nbytes: int) -> np.ndarray: ...


def encode(message: Any, shared: Outgoing | None = None) -> list[bytes | memoryview]:
    """Buffers to send, in order. Arrays that are already contiguous are not copied; large ones go to `shared`.

    What has been encoded with `shared` must be sent, and in that order.
    """
    arrays: list[np.ndarray] = []
    plain = to_plain(message, arrays)
    arrays = [np.ascontiguousarray(array) for array in arrays]
    for array in arrays:
        if array.dtype not in _NAMES:
            raise BadMessage(name=type(message).__name__, reason=f"arrays of {array.dtype} do not travel")
    mark = shared.mark() if shared else None
    specs: list[list[Any]] = []
    body: list[np.ndarray] = []
    for array in arrays:
        place = shared.place(_flat(array)) if shared and array.nbytes >= SHARED_FROM else None
        specs.append([_NAMES[array.dtype], list(array.shape), *(place or ())])
        if place is None:
            body.append(array)
    try:
        text = json.dumps({"message": plain, "arrays": specs}, allow_nan=False, separators=(",", ":"))
    except ValueError:
        if shared:
            shared.rewind(mark)
        raise
    header, size = text.encode(), sum(_aligned(array.nbytes) for array in body)
    buffers: list[bytes | memoryview] = [PREFIX.pack(MAGIC, PROTOCOL, 0, len(header), size) + header]
    for array in body:
        if array.nbytes:
            buffers.append(_flat(array).data)
        if padding := _aligned(array.nbytes) - array.nbytes:
            buffers.append(bytes(padding))
    return buffers


@dataclass(frozen=True)
class _Spec:
    """An array that a header announces; with a place, it lies in shared memory."""

    dtype: np.dtype
    shape: tuple[int, ...]
    place: tuple[int, int] | None
    """Position and sequence number in the ring, which begin at 1; 0: it is on the board."""

    @property
    def nbytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape)


class Decoder:
    """Bytes in, messages out. After any error raised here the stream has lost its place: close the connection.

    Either `feed(bytes)`, or, to receive without a copy, fill `get_buffer()` and say how much with `advance(count)`.
    """

    def __init__(self, limits: Limits = LIMITS, known: Mapping[str, type] = MESSAGES) -> None:
        self.limits = limits
        self.shared: Incoming | None = None
        """Where the peer may place arrays."""
        self.board: Posted | None = None
        """Likewise, those of frames of which only the newest counts."""
        self._known = known
        self._ahead = bytearray()
        """Received and not yet understood: from _start to _end. Memory is taken when something is to be received."""
        self._start = self._end = 0
        self._sizes: tuple[int, int] | None = None
        """Header and body bytes of the frame whose prefix has come."""
        self._body: np.ndarray | None = None
        self._filled = 0
        self._tag: type = object
        self._plain: Any = None
        self._specs: list[_Spec] = []
        self.size = 0
        """Bytes of memory that the message takes which came last, about. What lies on a board is not its own."""

    def get_buffer(self) -> memoryview:
        """Where the next bytes belong; never empty."""
        if self._body is not None:
            return memoryview(self._body)[self._filled :]  # type: ignore[arg-type]
        waiting = self._ahead[self._start : self._end]
        size = max(READ_AHEAD, self._sizes[0] if self._sizes else 0, len(waiting) + PREFIX.size)
        if len(self._ahead) != size:
            self._ahead = bytearray(size)
        self._ahead[: len(waiting)] = waiting
        self._start, self._end = 0, len(waiting)
        return memoryview(self._ahead)[self._end :]

    def advance(self, count: int) -> Iterator[Any]:
        """Take note that `count` bytes of `get_buffer()` were filled; yields the messages that are now complete.

        What has changed before the next message is asked for (limits, shared memory) counts for that message.
        """
        if self._body is not None:
            self._filled += count
        else:
            self._end += count
        while True:
            if self._body is None and not self._begin():
                return
            assert self._body is not None
            if self._filled < len(self._body):
                return
            if (message := self._finish()) is not None:
                yield message

    def feed(self, data: bytes | bytearray | memoryview) -> list[Any]:
        """Messages completed by `data`, which may hold any part of one or several frames."""
        view = memoryview(data)
        done: list[Any] = []
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
        return self._body is None and self._sizes is None and self._start == self._end

    @property
    def expected(self) -> int:
        """Bytes of memory that the frame under way has announced; 0 if none is."""
        if self._body is not None:
            return len(self._body) + READ_AHEAD
        return self._sizes[0] if self._sizes else 0

    @property
    def received(self) -> int:
        """Bytes of that frame's body that have come."""
        return self._filled if self._body is not None else self._end - self._start

    def _begin(self) -> bool:
        """Understand prefix and header as far as they have come. True when the body can be received."""
        if self._sizes is None:
            start = bytes(self._ahead[self._start : min(self._end, self._start + 4)])
            if not MAGIC.startswith(start):
                raise BadFrame(reason=f"it starts with {start!r}")
            if self._end - self._start < PREFIX.size:
                return False
            self._sizes = self._check_prefix()
            self._start += PREFIX.size
        header, body = self._sizes
        if self._end - self._start < header:
            return False
        text = self._ahead[self._start : self._start + header]
        self._start += header
        self._check_header(text, body)
        self._body = np.empty(body, np.uint8)
        self._filled = min(body, self._end - self._start)
        memoryview(self._body)[: self._filled] = self._ahead[self._start : self._start + self._filled]  # type: ignore[arg-type]
        self._start += self._filled
        return True

    def _check_prefix(self) -> tuple[int, int]:
        _, protocol, _, header, body = PREFIX.unpack_from(self._ahead, self._start)
        if protocol != PROTOCOL:
            raise WrongProtocol(ours=PROTOCOL, version=VERSION, theirs=protocol)
        if header > self.limits.header or header == 0:
            raise TooLarge(what="A message header", size=header, limit=self.limits.header)
        if body > self.limits.body:
            raise TooLarge(what="A message body", size=body, limit=self.limits.body)
        return header, body

    def _check_header(self, text: bytearray, body: int) -> None:
        try:
            header = json.loads(text, parse_constant=_refuse_constant)
            self._plain, specs = header["message"], header["arrays"]
            tag = self._plain["type"]
        except (ValueError, KeyError, TypeError, RecursionError) as reason:
            raise BadFrame(reason=f"unreadable header ({type(reason).__name__})") from reason
        if not isinstance(tag, str):
            raise BadFrame(reason="a message without a type")
        if tag not in self._known:
            raise UnknownMessage(name=tag[:80])
        self._tag = self._known[tag]
        self._specs = self._check_specs(specs)
        if sum(_aligned(spec.nbytes) for spec in self._specs if not spec.place) != body:
            raise BadFrame(reason="the body is not as long as its arrays")
        for memory, posted in ((self.shared, False), (self.board, True)):
            there = [spec.nbytes for spec in self._specs if spec.place and (spec.place[1] == 0) == posted]
            if sum(there) > (memory.size if memory else 0):
                raise BadFrame(reason="more in shared memory than it holds")

    def _check_specs(self, specs: Any) -> list[_Spec]:
        if not isinstance(specs, list):
            raise BadFrame(reason="no list of arrays")
        if len(specs) > self.limits.arrays:
            raise TooLarge(f"A message has {len(specs):,} arrays; the limit is {self.limits.arrays:,}.")
        checked = []
        for spec in specs:
            if not (isinstance(spec, list) and len(spec) in (2, 4) and isinstance(spec[1], list) and len(spec[1]) <= 4):
                raise BadFrame(reason="a malformed array description")
            dtype, shape, place = spec[0], spec[1], spec[2:]
            if not isinstance(dtype, str) or dtype not in DTYPES or not all(map(_is_count, shape + place)):
                raise BadFrame(reason="an array of an unknown type or shape")
            # numpy cannot hold a shape whose sides, zeros apart, multiply to more than its index type.
            if math.prod(max(1, side) for side in shape) > self.limits.body:
                raise BadFrame(reason="an array larger than any that may be sent")
            checked.append(_Spec(DTYPES[dtype], tuple(shape), (place[0], place[1]) if place else None))
        return checked

    def _finish(self) -> Any | None:
        """The message; None for a frame that a newer one has overtaken on the board."""
        assert self._body is not None
        arrays, offset, overtaken = [], 0, False
        self.size = (self._sizes[0] if self._sizes else 0) + len(self._body)
        for spec in self._specs:
            if spec.place and spec.place[1] == 0 and self.board:
                try:
                    flat = self.board.take(spec.place[0], spec.nbytes)
                except Overtaken:
                    overtaken = True
                    continue
            elif spec.place and self.shared:
                flat = self.shared.take(*spec.place, spec.nbytes)
                self.size += spec.nbytes
            else:
                flat = self._body[offset : offset + spec.nbytes]
                offset += _aligned(spec.nbytes)
            array = flat.view(spec.dtype).reshape(spec.shape)
            array.flags.writeable = False
            arrays.append(array)
        plain, self._plain, self._specs = self._plain, None, []
        self._body, self._filled, self._sizes = None, 0, None
        if overtaken:
            return None
        try:
            return from_plain(self._tag, plain, arrays)
        except PaintoverError as error:
            job = plain.get("job")
            return Malformed(self._tag.__name__, error, job if isinstance(job, str) else "")


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number that travels")
