"""Shared memory for frames of which only the newest counts, written by one process and read by several.

A client's frames pass through the front to the worker, and the worker's pictures through the front to the clients. In
a ring (lane.py) each hop would copy them out and in again; on a board they stay where they were written. The front only
looks at them, and who needs them makes the one copy of its own. The front creates a board and offers it to the one that
writes and to those that read (BoardOffer); whoever sees that memory says so (BoardProof).

    magic 8 | … | nonce 32 at 64 | reserved u64 at 128 | … | area at 4096

The writer goes round and round in the area and waits for nobody. Before it writes an array it says up to where
(`reserved`); positions count bytes since the beginning, and only grow. So a reader that has made its copy knows whether
it was overtaken meanwhile: then what it has is worth nothing, and a newer frame is on its way.
"""

from __future__ import annotations

import hmac
import mmap
import secrets
from collections import OrderedDict

import numpy as np

from .errors import BadFrame
from .lane import Recycler, Ring, aligned, create_memory, map_memory
from .messages import BoardOffer
from .wire import ALIGNMENT, Overtaken

AREA = 32 << 20
MAX_AREA = 1 << 30
"""The largest that is mapped."""
FRAMES = 4
"""Frames until the writer begins at the area's start again: few, since what was written lately is in the cache, but
enough that a reader has the time of several frames."""
_MAGIC = b"PTOVBORD"
_NONCE, _RESERVED, _AREA = 64, 128, 4096


class _Area:
    def __init__(self, memory: mmap.mmap) -> None:
        whole = np.frombuffer(memory, np.uint8)
        self._reserved = whole[_RESERVED : _RESERVED + 8].view(np.uint64)
        self._area = whole[_AREA:]
        self.size = len(self._area)


class BoardWriter(_Area):
    """What the encoder of the process that writes sees."""

    def __init__(self, memory: mmap.mmap) -> None:
        super().__init__(memory)
        self._at = self._frames = 0

    def place(self, data: np.ndarray) -> tuple[int, int] | None:
        """Put flat uint8 `data` on the board: its position and 0, or None if it is too large."""
        need = aligned(data.nbytes)
        if need > self.size // FRAMES:
            return None
        if self._at % self.size + need > self.size:
            self._begin_anew()
        position = self._at
        self._at += need
        self._reserved[0] = self._at
        start = position % self.size
        np.copyto(self._area[start : start + data.nbytes], data)
        return position, 0

    def mark(self) -> None:
        """A frame begins."""
        self._frames += 1
        if self._frames % FRAMES == 0:
            self._begin_anew()

    def rewind(self, mark: None) -> None:
        """What was never announced is no harm."""

    def _begin_anew(self) -> None:
        self._at = -(-self._at // self.size) * self.size


class BoardReader(_Area):
    """What the decoder of a process sees that needs the frames beyond the next ones: it copies them."""

    def __init__(self, memory: mmap.mmap) -> None:
        super().__init__(memory)
        self._recycler = Recycler()

    def take(self, position: int, nbytes: int) -> np.ndarray:
        """A copy (flat uint8) of the array there. Raises Overtaken, or BadFrame where there can be none."""
        found = self._look(position, nbytes)
        copy = self._recycler.get(nbytes)
        np.copyto(copy, found)
        if int(self._reserved[0]) > position + self.size:
            raise Overtaken
        return copy

    def _look(self, position: int, nbytes: int) -> np.ndarray:
        start = position % self.size
        if position % ALIGNMENT or start + nbytes > self.size:
            raise BadFrame(reason="an array that does not fit the board")
        return self._area[start : start + nbytes]


class Board(BoardReader):
    """The creator's side. It copies nothing: `take` lends, and `place` says where what was lent lies."""

    def __init__(self, size: int = AREA) -> None:
        """Raises OSError if there is no memory."""
        self._nonce = secrets.token_hex(16)
        memory, name, self._forget = create_memory(_AREA + size)
        memory[:8] = _MAGIC
        memory[_NONCE : _NONCE + 32] = self._nonce.encode()
        super().__init__(memory)
        self._name = name
        self._lent: OrderedDict[tuple[int, int], int] = OrderedDict()
        """Address and size of an array -> its position."""

    def offer(self, write: bool) -> BoardOffer:
        """What tells a peer of it, that writes or reads."""
        return BoardOffer(self._name, self.size, write)

    def proves(self, nonce: str) -> bool:
        """Whether the peer has read the nonce in this memory."""
        return hmac.compare_digest(nonce.encode("utf-8", "surrogatepass"), self._nonce.encode())

    def withdraw(self) -> None:
        """Remove the name: nobody maps it any more. Who has it, has it."""
        self._forget()

    def take(self, position: int, nbytes: int) -> np.ndarray:
        """The array there (flat uint8) itself. It may change as soon as a newer frame is there. Raises BadFrame."""
        found = self._look(position, nbytes)
        key = _where(found), nbytes
        self._lent[key] = position
        self._lent.move_to_end(key)
        while len(self._lent) > 16 * FRAMES:
            self._lent.popitem(last=False)
        return found

    def place_of(self, data: np.ndarray) -> tuple[int, int] | None:
        """Where an array lies that `take` has lent, as BoardWriter.place says it; None for any other."""
        position = self._lent.get((_where(data), data.nbytes))
        return None if position is None else (position, 0)

    def copy_of(self, array: np.ndarray) -> np.ndarray | None:
        """An array to keep, read-only, in place of one that `take` may have lent. None: it was overtaken."""
        place = self.place_of(array)
        if place is None:
            return array
        try:
            copy = super().take(place[0], array.nbytes).view(array.dtype).reshape(array.shape)
        except Overtaken:
            return None
        copy.flags.writeable = False
        return copy


class Lent:
    """Shared memory as the encoder sees it that hands on what lies on a board, and puts all else into a ring."""

    def __init__(self, board: Board, ring: Ring) -> None:
        self._board, self._ring = board, ring
        self.mark, self.rewind = ring.mark, ring.rewind

    def place(self, data: np.ndarray) -> tuple[int, int] | None:
        return self._board.place_of(data) or self._ring.place(data)


def _where(array: np.ndarray) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def join(offer: BoardOffer) -> tuple[mmap.mmap, str] | None:
    """The memory of a board that is offered and the nonce that proves it, or None if this process cannot see it."""
    if not ALIGNMENT <= offer.size <= MAX_AREA or offer.size % ALIGNMENT:
        return None
    try:
        memory = map_memory(offer.name, _AREA + offer.size)
    except (OSError, ValueError, OverflowError):  # another machine's or container's name, or no memory left
        return None
    if memory is None or memory[:8] != _MAGIC:
        return None
    return memory, memory[_NONCE : _NONCE + 32].decode("ascii", "replace")
