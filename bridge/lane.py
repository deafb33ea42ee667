"""Shared memory beside a socket, for large arrays between two processes on one machine.

A lane is one mapped segment with a ring of bytes for each direction. The server creates it and offers it (LaneOffer);
the client maps it and proves it by the nonce that it read there (LaneProof). WSL and containers share loopback but not
memory: there the proof fails, and everything goes through the socket as before. So it does whenever a ring is full:
nobody ever waits for room.

    magic 8 | … | nonce 32 at 64 | freed by the creator u64 at 128 | freed by the peer u64 at 192 | … | ring | ring

A block in a ring is a head of 64 bytes (sequence u64, length u64) and the array. The frame on the socket says where it
lies and its sequence number, so the order of events is the socket's. Positions count bytes since the beginning; they
only grow. The receiver believes nothing: it checks every position, length and sequence, copies the array out, checks
the block's head again, and only then frees the space.
"""

from __future__ import annotations

import contextlib
import hmac
import mmap
import os
import re
import secrets
import stat
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .errors import BadFrame
from .frames import allocate
from .messages import LaneOffer

RING = 32 << 20
"""Bytes of each ring."""
MAX_RING = 1 << 30
"""The largest ring that a client maps."""
HEAD = 64
KEPT = 16 << 20
"""Bytes of memory that the taker of a ring keeps for the next arrays."""
ORPHANED = 600.0
"""Seconds after which a file that still has its name has lost its server."""
_MAGIC = b"PTOVLANE"
_NONCE, _FREED, _RINGS = 64, (128, 192), 4096
_NAME = re.compile(r"paintover-[0-9a-f]{32}")
_DESCRIPTOR = re.compile(r"([0-9]{1,10})-([0-9]{1,10})")


def _references(arrays: Iterable[np.ndarray]) -> list[int]:
    return [sys.getrefcount(array) for array in arrays]


_UNUSED = _references(deque([np.empty(1, np.uint8)]))[0]
"""References to an array that only a deque holds, as _references counts them: Pythons differ in that."""


class Recycler:
    """Memory of arrays that nobody holds any more, for the next ones of that size.

    Frames of a stream are all alike, and fresh memory costs more than the copy into it: the system clears every page.
    """

    def __init__(self) -> None:
        self._buffers: deque[np.ndarray] = deque()
        self._bytes = 0

    def get(self, nbytes: int) -> np.ndarray:
        """uint8 (nbytes,), a view of memory that is in use as long as any view is: each holds the array itself."""
        counts = _references(self._buffers)
        for buffer, references in zip(self._buffers, counts, strict=True):
            if buffer.nbytes == nbytes and references == _UNUSED:
                return buffer[:]
        fresh = np.empty(nbytes, np.uint8)
        if nbytes <= KEPT:
            self._buffers.append(fresh)
            self._bytes += nbytes
            while self._bytes > KEPT:
                self._bytes -= self._buffers.popleft().nbytes
        return fresh[:]


class Ring:
    """One direction. One side only places, the other only takes; `freed` is the cell that the taker writes."""

    def __init__(self, memory: np.ndarray, freed: np.ndarray) -> None:
        self._memory = memory
        self._freed = freed
        self._size = len(memory)
        self._at = 0
        """Placer: where the next block may begin. Taker: what it has freed. Never read back from shared memory."""
        self._known_freed = 0
        self._base = 0
        """Placer: where the empty ring was begun anew last. All before that is free, also what was passed over."""
        self._sequence = 0
        self._recycler = Recycler()

    @property
    def size(self) -> int:
        return self._size

    # ------------------------------------------------------------ placer

    def place(self, data: np.ndarray) -> tuple[int, int] | None:
        """Put flat uint8 `data` into the ring: its position and sequence number, or None if there is no room."""
        need, freed = HEAD + aligned(data.nbytes), int(self._freed[0])
        if not self._known_freed <= freed <= self._at:
            return None  # the peer wrote nonsense: from now on it gets everything through the socket
        self._known_freed = freed
        start, position, base = self._at % self._size, self._at, self._base
        # An empty ring begins anew, so that the same memory, still in the processor's cache, is used again.
        if start and (freed == self._at or start + need > self._size):
            position += self._size - start
        if freed == self._at:
            base = position
        used = position - max(freed, base)
        if used + need > self._size:
            return None
        self._sequence += 1
        self._base = base
        start = position % self._size
        self._memory[start : start + 16].view(np.uint64)[:] = (self._sequence, data.nbytes)
        np.copyto(self._memory[start + HEAD : start + HEAD + data.nbytes], data)
        self._at = position + need
        return position, self._sequence

    def mark(self) -> tuple[int, int]:
        """Where the ring stands, for `rewind`."""
        return self._at, self._sequence

    def rewind(self, mark: tuple[int, int]) -> None:
        """Take back what was placed since `mark` and never announced."""
        self._at, self._sequence = mark
        self._base = min(self._base, self._at)

    # ------------------------------------------------------------ taker

    def take(self, position: int, sequence: int, nbytes: int) -> np.ndarray:
        """A copy (flat uint8) of the block that the peer announced, whose space is then free. Raises BadFrame."""
        start = position % self._size
        if position % HEAD or not self._at <= position <= self._at + self._size:
            raise BadFrame(reason="an array outside the shared memory that is in use")
        if start + HEAD + nbytes > self._size:
            raise BadFrame(reason="an array that does not fit the shared memory")
        head = self._memory[start : start + 16].view(np.uint64)
        if sequence != self._sequence + 1 or (int(head[0]), int(head[1])) != (sequence, nbytes):
            raise BadFrame(reason="shared memory holds another array than the one announced")
        copy = self._recycler.get(nbytes)
        np.copyto(copy, self._memory[start + HEAD : start + HEAD + nbytes])
        if (int(head[0]), int(head[1])) != (sequence, nbytes):
            raise BadFrame(reason="shared memory changed while it was read")
        self._sequence, self._at = sequence, position + HEAD + aligned(nbytes)
        self._freed[0] = self._at
        return copy


class Lane:
    """A segment that both sides have: `outgoing` is for the codec's encoder, `incoming` for its decoder."""

    def __init__(self, memory: mmap.mmap, creator: bool) -> None:
        whole = np.frombuffer(memory, np.uint8)
        size = (len(whole) - _RINGS) // 2
        rings = [
            Ring(whole[_RINGS + i * size : _RINGS + (i + 1) * size], whole[at : at + 8].view(np.uint64))
            for i, at in enumerate(_FREED)
        ]
        # The first ring is what the creator takes from.
        self.incoming, self.outgoing = rings if creator else reversed(rings)


class Offer:
    """A segment that this side has created and the peer has not proved yet. Raises OSError if there is no memory."""

    def __init__(self, ring: int = RING) -> None:
        size = _RINGS + 2 * ring
        self._nonce = secrets.token_hex(16)
        self._memory, name, self._forget = create_memory(size)
        self._memory[:8] = _MAGIC
        self._memory[_NONCE : _NONCE + 32] = self._nonce.encode()
        self.message = LaneOffer(name, ring)

    def prove(self, nonce: str) -> Lane | None:
        """The lane, if the peer read its nonce from our memory. Either way nobody else can map it any more."""
        self.withdraw()
        known = hmac.compare_digest(nonce.encode("utf-8", "surrogatepass"), self._nonce.encode())
        return Lane(self._memory, creator=True) if known else None

    def withdraw(self) -> None:
        """Remove the segment's name. Memory that is mapped stays until both sides have let it go."""
        self._forget()


def join(offer: LaneOffer) -> tuple[Lane, str] | None:
    """The lane that a server offers and the nonce that proves it, or None if this process cannot see that memory."""
    if not HEAD <= offer.ring <= MAX_RING or offer.ring % HEAD:
        return None
    try:
        memory = map_memory(offer.name, _RINGS + 2 * offer.ring)
    except (OSError, ValueError, OverflowError):  # another machine's or container's name, or no memory left
        return None
    if memory is None or memory[:8] != _MAGIC:
        return None
    return Lane(memory, creator=False), memory[_NONCE : _NONCE + 32].decode("ascii", "replace")


def aligned(size: int) -> int:
    return -(-size // HEAD) * HEAD


# ---------------------------------------------------------------- memory of each system


def create_memory(size: int) -> tuple[mmap.mmap, str, _Forget]:
    """New memory, the name under which another process of this user finds it, and what removes the name."""
    if sys.platform == "win32":
        name = f"paintover-{secrets.token_hex(16)}"
        return mmap.mmap(-1, size, tagname=name), name, _Forget()  # goes with its last handle
    if sys.platform == "linux" and hasattr(os, "memfd_create"):
        return _create_nameless(size)
    return _create_file(size)


def _create_nameless(size: int) -> tuple[mmap.mmap, str, _Forget]:
    """Linux: memory without a file, found through this process's descriptors, so that nothing can be left behind.

    Its size is sealed: a peer that could shrink it could kill this process with SIGBUS.
    """
    import fcntl

    descriptor = os.memfd_create("paintover", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, size)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        memory = mmap.mmap(descriptor, size)
    except BaseException:
        os.close(descriptor)
        raise
    return memory, f"{os.getpid()}-{descriptor}", _Forget(descriptor=descriptor)


def _create_file(size: int) -> tuple[mmap.mmap, str, _Forget]:
    """Other systems: a file of this user alone, which loses its name as soon as the peer has answered."""
    _sweep()
    name = f"paintover-{secrets.token_hex(16)}"
    path = Path(tempfile.gettempdir()) / name
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    forget = _Forget(descriptor=descriptor, path=path)
    try:
        allocate(descriptor, size)
        memory = mmap.mmap(descriptor, size)
    except BaseException:
        forget()
        raise
    return memory, name, forget


def _sweep() -> None:
    """Remove what a server left that was killed in the moment between offer and answer."""
    for path in Path(tempfile.gettempdir()).glob("paintover-*"):
        with contextlib.suppress(OSError):  # another's, or gone already
            if _NAME.fullmatch(path.name) and time.time() - path.stat().st_mtime > ORPHANED:
                path.unlink()


class _Forget:
    """Closes a segment's descriptor and removes its file, once."""

    def __init__(self, descriptor: int | None = None, path: Path | None = None) -> None:
        self._descriptor, self._path = descriptor, path

    def __call__(self) -> None:
        descriptor, path, self._descriptor, self._path = self._descriptor, self._path, None, None
        if descriptor is not None:
            os.close(descriptor)
        if path is not None:
            with contextlib.suppress(OSError):  # somebody tidied up the folder
                path.unlink()


def map_memory(name: str, size: int) -> mmap.mmap | None:
    """The memory of that name, if it is there and of that size. Only names that `create_memory` gives are looked up."""
    if sys.platform == "win32":
        return mmap.mmap(-1, size, tagname=name) if _NAME.fullmatch(name) else None
    if found := _DESCRIPTOR.fullmatch(name):
        path = Path(f"/proc/{int(found[1])}/fd/{int(found[2])}")
    elif _NAME.fullmatch(name):
        path = Path(tempfile.gettempdir()) / name
    else:
        return None
    descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size != size or status.st_uid != os.geteuid():
            return None
        # Here and not where it was created: this runs in a thread that nobody waits for.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        return mmap.mmap(descriptor, size)
    finally:
        os.close(descriptor)
