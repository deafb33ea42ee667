"""Pictures in shared memory under a name, for any program on the same machine: TouchDesigner, a script, the server.

One program writes, any number read; nobody waits for anybody. This file needs nothing but numpy and the standard
library, so that it works as a copy, too (touchdesigner/paintover_frames.py is one).

    reader = FrameReader("paintover-9699")
    frame = reader.read()            # the newest one, or None where there is none yet, or nobody writes
    frame.image                      # uint8 (height, width, channels), the top row first

Where the memory is: Linux and macOS, the file NAME in the folder for temporary files; on Linux that is a link to memory
without a file, which is gone as soon as its writer is. Windows, the named mapping NAME. What is in it, little-endian:

    byte    type      header of 4096 bytes
       0    8 bytes   PTOVFRAM
       8    uint32    version of this layout, 1
      12    uint32    number of slots
      16    uint64    bytes from one slot to the next
      24    uint64    process id of the writer
      32    uint64    frames written so far: the newest is in slot (this − 1) modulo the number of slots; 0: none yet
      40    uint64    1: the writer has ended

    byte    type      slot i, at 4096 + i × the bytes from one slot to the next
       0    uint64    sequence: 2 × frame once it is whole, odd while it is written
       8    uint64    frame: counts up from 1
      16    uint64    picture: another number than before where the pixels are others
      24    float64   time at which it was sent, in seconds since 1970 (UTC)
      32    uint32    width
      36    uint32    height
      40    uint32    channels: 1, 3 (red, green, blue) or 4 (and alpha)
      44    uint32    format of a channel: 1 = uint8, sRGB
      64              pixels, row after row without gaps, the top row first

A seqlock: a reader copies the slot, and takes the copy only if the sequence was the same even number before and after.
With three slots the writer returns to one only two frames later, so that hardly ever happens.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
import sys
import tempfile
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import numpy as np

MAGIC, VERSION, SLOTS = b"PTOVFRAM", 1, 3
HEADER, HEAD = 4096, 64
MAX_SIDE = 16384
_HEADER = struct.Struct("<8sIIQQQQ")
_SLOT = struct.Struct("<QQQdIIII")
_NEWEST, _CLOSED = 32, 40
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_TRIES = 8
_PATIENCE = 1.0
"""Seconds without a new frame after which a reader looks for the name anew."""


class Frame(NamedTuple):
    number: int
    """Counts up from 1 with every frame that was written."""
    picture: int
    """Another number than before where the pixels are others."""
    time: float
    """When it was sent: seconds since 1970."""
    image: np.ndarray
    """uint8 (height, width, channels), the reader's own copy."""


def place(name: str) -> Path:
    """The file of that name on Linux and macOS. Raises ValueError for what is no name."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a name for frames: letters, digits, “-”, “_” and “.” only, at most 64")
    return Path(tempfile.gettempdir()) / name


# ---------------------------------------------------------------- writing


class FrameWriter:
    """Creates the memory, and owns it until `close`."""

    def __init__(self, name: str, capacity: int) -> None:
        """`capacity`: bytes of the largest image.

        Raises FileExistsError while another program writes under this name, OSError where there is no memory.
        """
        place(name)
        self.capacity = capacity
        self._stride = -(-(HEAD + capacity) // 4096) * 4096
        self._memory = _create(name, HEADER + SLOTS * self._stride)
        self._all = np.frombuffer(self._memory.buffer, np.uint8)
        header = _HEADER.pack(MAGIC, VERSION, SLOTS, self._stride, os.getpid(), 0, 0)
        self._all[8 : len(header)] = np.frombuffer(header[8:], np.uint8)
        self._all[:8] = np.frombuffer(MAGIC, np.uint8)  # last: from here on it is valid
        self._count = self._picture = 0

    def write(self, image: np.ndarray, time: float, fresh: bool = True) -> None:
        """Publish a uint8 image (H, W, channels). Raises ValueError if it is none, or too large."""
        height, width, channels = image.shape
        if image.dtype != np.uint8 or channels not in (1, 3, 4) or image.nbytes > self.capacity:
            raise ValueError(f"an image of {image.dtype} {image.shape} does not fit {self.capacity:,} bytes")
        self._count += 1
        self._picture += fresh
        start = HEADER + (self._count - 1) % SLOTS * self._stride
        sequence = self._all[start : start + 8].view(np.uint64)
        sequence[0] = 2 * self._count - 1
        head = _SLOT.pack(0, self._count, self._picture, time, width, height, channels, 1)
        self._all[start + 8 : start + len(head)] = np.frombuffer(head[8:], np.uint8)
        pixels = self._all[start + HEAD : start + HEAD + image.nbytes]
        np.copyto(pixels.reshape(image.shape), image)
        sequence[0] = 2 * self._count
        self._all[_NEWEST : _NEWEST + 8].view(np.uint64)[0] = self._count

    def close(self) -> None:
        """Tell readers that nothing more comes, and let go of the name."""
        if self._memory.buffer is not None:
            self._all[_CLOSED] = 1
            self._all = np.empty(0, np.uint8)
            self._memory.close()


class _Memory:
    """A segment and what removes its name."""

    def __init__(self, buffer: Any, release: Any, path: Path | None = None, descriptor: int | None = None) -> None:
        self.buffer = buffer
        self._release, self._path, self._descriptor = release, path, descriptor

    def close(self) -> None:
        self.buffer = None
        if self._path is not None:
            with contextlib.suppress(OSError):  # somebody tidied up the folder
                self._path.unlink()
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._release()


def _create(name: str, size: int) -> _Memory:
    if sys.platform == "win32":
        from multiprocessing.shared_memory import SharedMemory  # here nothing tracks it: it goes with its last handle

        segment = SharedMemory(name, create=True, size=size)
        return _Memory(segment.buf, segment.close)
    import mmap

    path = place(name)
    if _in_use(path):
        raise FileExistsError(f"another program writes frames under the name {name}")
    linked = sys.platform == "linux" and hasattr(os, "memfd_create")
    part = path.with_name(f"{name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        part.unlink()
    if linked:
        import fcntl

        descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    else:
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        allocate(descriptor, size)
        if linked:  # nobody can shrink it under the writer, which would kill it
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            os.symlink(f"/proc/{os.getpid()}/fd/{descriptor}", part)
        memory = mmap.mmap(descriptor, size)
        os.replace(part, path)
    except BaseException:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    return _Memory(memory, lambda: None, path, descriptor)


def allocate(descriptor: int, size: int) -> None:
    """Have the memory now: where it runs out later, touching it would be the end of this process. Raises OSError."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    for _ in range(0, size, 1 << 20):
        os.write(descriptor, bytes(1 << 20))
    os.ftruncate(descriptor, size)


def _in_use(path: Path) -> bool:
    """Whether what has this name belongs to a writer that still runs. What a killed one left does not count."""
    try:
        with path.open("rb") as file:
            header = _header(file.read(_HEADER.size))
        os.kill(header[4], 0)
    except (OSError, ValueError, OverflowError):
        return False
    return not header[6]


# ---------------------------------------------------------------- reading


class FrameReader:
    """Reads what a program writes under a name, whenever it comes, goes, or comes again. Never raises for that."""

    def __init__(self, name: str) -> None:
        self._path = place(name)
        self._name = name
        self._source: _File | _Mapping | None = None
        self._seen = (0, 0.0)
        """The newest frame's number, and since when it is."""

    def read(self, after: int = 0) -> Frame | None:
        """The newest frame if its number is not `after`, else None; None, too, while nobody writes."""
        if self._source is not None and monotonic() - self._seen[1] > _PATIENCE:
            self.close()  # its writer may be gone, or have a successor
        if self._source is None:
            self._source = self._open()
            self._seen = (0, monotonic())
            if self._source is None:
                return None
        try:
            return self._newest(self._source, after)
        except (OSError, ValueError):
            self.close()  # the writer is gone, or it is something else now: look again next time
            return None

    def close(self) -> None:
        if self._source is not None:
            self._source.close()
            self._source = None

    def _open(self) -> _File | _Mapping | None:
        try:
            source: _File | _Mapping = _Mapping(self._name) if sys.platform == "win32" else _File(self._path)
        except (OSError, ValueError):
            return None
        try:
            _check(_header(source.get(0, _HEADER.size)), source.size)
        except (OSError, ValueError):
            source.close()
            return None
        return source

    def _newest(self, source: _File | _Mapping, after: int) -> Frame | None:
        for _ in range(_TRIES):
            header = _header(source.get(0, _HEADER.size))
            _check(header, source.size)
            _, _, slots, stride, _, newest, closed = header
            if closed:
                raise ValueError("the writer has ended")
            if newest != self._seen[0]:
                self._seen = (newest, monotonic())
            if newest in (0, after):
                return None
            start = HEADER + (newest - 1) % slots * stride
            sequence, number, picture, time, width, height, channels, kind = _SLOT.unpack(source.get(start, _SLOT.size))
            nbytes = width * height * channels
            if max(width, height) > MAX_SIDE or channels not in (1, 3, 4) or kind != 1 or nbytes > stride - HEAD:
                if sequence % 2 == 0 and sequence == _sequence(source, start):
                    raise ValueError("a frame that does not fit")
                continue  # it is being written
            if sequence % 2 or nbytes == 0:
                continue
            image = np.empty((height, width, channels), np.uint8)
            source.copy(start + HEAD, image)
            if _sequence(source, start) == sequence:
                return Frame(number, picture, time, image)
        return None


def _header(data: bytes) -> tuple[Any, ...]:
    if len(data) < _HEADER.size or data[:8] != MAGIC:
        raise ValueError("no frames")
    return _HEADER.unpack(data)


def _check(header: tuple[Any, ...], size: int) -> None:
    _, version, slots, stride = header[:4]
    if version != VERSION or not 1 <= slots <= 64 or stride <= HEAD or HEADER + slots * stride > size:
        raise ValueError("frames of another version, or cut short")


def _sequence(source: _File | _Mapping, start: int) -> int:
    return int.from_bytes(source.get(start, 8), "little")


class _File:
    """Read with system calls, not mapped: a file that is cut short meanwhile gives an error, not the end of us."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        status = os.fstat(self._descriptor)
        self.size = status.st_size
        if status.st_uid != os.geteuid():
            self.close()
            raise ValueError("another user's")

    def get(self, at: int, count: int) -> bytes:
        return os.pread(self._descriptor, count, at)

    def copy(self, at: int, into: np.ndarray) -> None:
        view = into.data.cast("B")
        while view:
            count = os.preadv(self._descriptor, [view], at)
            if count <= 0:
                raise ValueError("cut short")
            view, at = view[count:], at + count

    def close(self) -> None:
        os.close(self._descriptor)


class _Mapping:
    """Windows: a named mapping, which cannot be cut short."""

    def __init__(self, name: str) -> None:
        from multiprocessing.shared_memory import SharedMemory

        self._segment: Any = SharedMemory(name)
        self.size = self._segment.size

    def get(self, at: int, count: int) -> bytes:
        return bytes(self._segment.buf[at : at + count])

    def copy(self, at: int, into: np.ndarray) -> None:
        into.reshape(-1)[:] = np.frombuffer(self._segment.buf, np.uint8, into.nbytes, at)

    def close(self) -> None:
        self._segment.close()
