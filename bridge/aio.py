"""The codec under asyncio: a protocol that receives without copying and sends the latest first in line.

transport, channel = await loop.create_connection(Channel, host, port)
channel.send(Hello(…)); message = await channel.receive()
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from . import lane
from .board import Board, Lent
from .errors import BadFrame, ConnectionLost, OutOfMemory, PaintoverError, ProtocolError
from .mailbox import Mailbox
from .messages import MESSAGES, BoardProof, LaneProof
from .wire import LIMITS, Decoder, Limits, Outgoing, encode

PARTING = 2.0
"""Seconds for which a peer that was refused may keep its end open."""
HIGH_WATER, HIGH_BYTES = 64, 256 << 20
"""Received messages, and their bytes, that wait unread before the socket is paused, so that a fast sender cannot fill
memory."""
AHEAD = (256, 4 << 20)
"""Messages and bytes that may wait for the peer before `room` holds up whoever has more for it."""
CHUNK = 1 << 20
"""Bytes that are handed to the transport at once: it copies what the system does not take."""


class Channel(asyncio.BufferedProtocol):
    """One connection. `receive` gives messages (and Malformed ones) in order; it raises when the connection ends.

    `patience` is how many messages and bytes may wait for the peer before something more is queued: one that does not
    read is let go with ProtocolError, so that it cannot fill memory.
    """

    def __init__(
        self,
        limits: Limits = LIMITS,
        known: Mapping[str, type] = MESSAGES,
        patience: tuple[int, int] | None = None,
    ) -> None:
        self._decoder = Decoder(limits, known)
        self._inbox: deque[tuple[Any, int]] = deque()
        """Messages, and the bytes that they take."""
        self.inbox_bytes = 0
        """Bytes of all messages there, and of the one that was received last: its owner may be busy with it."""
        self._at_work = 0
        """Bytes of that one."""
        self._arrived = asyncio.Event()
        self._outbox = Mailbox()
        self._patience = patience
        self.on_traffic: Callable[[Channel], None] | None = None
        """Called when something was queued, or a part of something has come in."""
        self.at_once: Callable[[Any], bool] = lambda message: False
        """Gets every message as soon as it has come, whatever else waits; what it says True to, `receive` never sees.
        It must not raise."""
        self._parts: deque[memoryview] = deque()
        """What is left of the message that is being sent."""
        self._can_write = True
        self._full_since = 0.0
        self._reading = True
        self._error: PaintoverError | None = None
        self._rubbish = bytearray()
        """Where bytes go after the stream has lost its place."""
        self._parting = False
        """No more comes once what waits has left."""
        self._lost = asyncio.Event()
        self._left = asyncio.Event()
        """Something has left, or the connection has ended."""
        self._transport: asyncio.Transport | None = None
        self._offer: lane.Offer | None = None
        self._lane: lane.Lane | None = None
        self._offered: deque[tuple[Board, bool]] = deque()
        """Boards that the peer has not answered for yet, and whether they are for it to write on."""
        self._own: Board | None = None
        self.board: Board | None = None
        """What the peer writes its frames on, once it has proved that it sees it."""
        self.lent: Board | None = None
        """What was offered to it last to read from, for what is handed on to it."""
        self._reads: Board | None = None
        """What it has proved that it reads from."""

    # ------------------------------------------------------------ for its owner

    async def receive(self) -> Any:
        """The next message. Raises the error that ended the connection (ConnectionLost, or what was wrong)."""
        self.inbox_bytes, self._at_work = self.inbox_bytes - self._at_work, 0
        few = len(self._inbox) <= HIGH_WATER // 2 and self.inbox_bytes <= HIGH_BYTES // 2
        if few and not self._reading and self._transport:
            self._reading = True
            self._transport.resume_reading()
        while not self._inbox:
            if self._error:
                raise self._error
            self._arrived.clear()
            await self._arrived.wait()
        message, self._at_work = self._inbox.popleft()
        return message

    def send(self, message: Any) -> None:
        """Queue a message. It leaves when the socket has room; a stale one may be superseded before that.

        Behind the end of the conversation it is dropped.
        """
        if self._error:
            return
        if self._patience and (len(self._outbox) > self._patience[0] or self._outbox.bytes > self._patience[1]):
            self.fail(ProtocolError("The client does not read its answers.", hint="Read them, or ask for less."))
            return
        self._outbox.put(message)
        self._flush()
        if self.on_traffic:
            self.on_traffic(self)

    async def room(self) -> None:
        """Wait until the peer has taken most of what was sent: for who has much to send, one thing after the other.

        Raises the error that ended the connection.
        """
        while (len(self._outbox) > AHEAD[0] or self.waiting_bytes > AHEAD[1]) and not self._error:
            self._left.clear()
            await self._left.wait()
        if self._error:
            raise self._error

    @property
    def waiting_bytes(self) -> int:
        """Bytes that have not left, about."""
        below = self._transport.get_write_buffer_size() if self._transport else 0
        return self._outbox.bytes + sum(map(len, self._parts)) + below

    @property
    def blocked(self) -> float:
        """Seconds for which the peer has taken nothing of what waits."""
        return 0.0 if self._can_write else time.monotonic() - self._full_since

    @property
    def expected(self) -> int:
        """Bytes of memory that a message which is still coming in has announced; 0 if none is."""
        return self._decoder.expected

    @property
    def received(self) -> int:
        """Bytes of that message that have come."""
        return self._decoder.received

    @property
    def shares_memory(self) -> bool:
        """Whether large arrays bypass the socket, or will if the peer can see the memory that it was offered."""
        return self._lane is not None or self._offer is not None

    def offer_lane(self) -> None:
        """Offer shared memory to a peer that seems to be on this machine; it is used once the peer proves that."""
        if not self._transport or not _is_local(self._transport):
            return
        with contextlib.suppress(OSError):  # no memory, or no way to share it: the socket will do
            self._offer = lane.Offer()
            self.send(self._offer.message)

    def offer_board(self) -> None:
        """Offer a peer that shares memory with us a board to write frames on."""
        if self._lane and not self._own:
            with contextlib.suppress(OSError):  # no memory: the ring will do
                self._own = Board()
                self._offer_board(self._own, write=True)

    def lend(self, board: Board) -> None:
        """Have what lies on this board stay there in messages to the peer, as soon as it is known to see it."""
        if self._lane and self.lent is not board:
            self.lent, self._reads = board, None
            self._offer_board(board, write=False)

    def _offer_board(self, board: Board, write: bool) -> None:
        self._offered.append((board, write))
        self.send(board.offer(write))

    def set_limits(self, limits: Limits) -> None:
        """Change what the peer may send from its next frame on."""
        self._decoder.limits = limits

    def fail(self, error: PaintoverError) -> None:
        """End the conversation: whoever waits in `receive` gets the error, and may still say why before it closes.

        What the peer still sends is thrown away, and what it has sent; the memory that it was received in is free.
        """
        self._outbox.clear()
        self._inbox.clear()
        self.inbox_bytes = self._at_work = 0
        self._rubbish = bytearray(1 << 16)
        self._decoder = Decoder()
        self._finish(error)

    def abort(self) -> None:
        """Close now."""
        if self._transport:
            self._transport.abort()

    def close(self) -> None:
        """Close once everything that was handed to the transport has left, or soon if the peer does not take it."""
        if self._transport:
            self._transport.close()
            asyncio.get_running_loop().call_later(PARTING, self._transport.abort)

    async def part(self, last: Any) -> None:
        """Close so that the peer can still read this `last` message: say that no more comes, and let it go first.

        Closing with unread bytes would reset the connection, and the last words with it.
        """
        if self._transport and self._transport.can_write_eof():
            self._rubbish = self._rubbish or bytearray(1 << 16)
            self._transport.resume_reading()
            self._parting = True
            self._outbox.put(last)
            self._flush()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._lost.wait(), PARTING)
        self.abort()  # what it still has not read, it never will

    # ------------------------------------------------------------ for asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        # Little buffering below us: what waits should wait in the mailbox, where it can be superseded.
        transport.set_write_buffer_limits(high=1 << 18)
        if (sock := transport.get_extra_info("socket")) is not None and sock.family != getattr(socket, "AF_UNIX", None):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # notices machines that vanish
        self._flush()

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self._rubbish) if self._rubbish else self._decoder.get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        if self._rubbish or self._error:
            return
        try:
            for message in self._decoder.advance(nbytes):
                if isinstance(message, LaneProof) and self._offer:
                    self._prove(self._offer, message)
                elif isinstance(message, BoardProof) and self._offered:
                    self._prove_board(*self._offered.popleft(), message)
                elif not self.at_once(message):
                    self._inbox.append((message, self._decoder.size))
                    self.inbox_bytes += self._decoder.size
        except PaintoverError as error:
            self._lose_place(error)
        except MemoryError as error:
            self._lose_place(OutOfMemory(reason=str(error) or "there was none for a message"))
        except Exception as error:  # noqa: BLE001 - nothing that a peer sends may cost more than its own connection
            self._lose_place(BadFrame(reason=f"{type(error).__name__}: {error}"))
        if self.on_traffic:
            self.on_traffic(self)
        if self._inbox:
            self._arrived.set()
        many = len(self._inbox) > HIGH_WATER or self.inbox_bytes > HIGH_BYTES
        if many and self._reading and self._transport:
            self._reading = False
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        self._can_write, self._full_since = False, time.monotonic()

    def resume_writing(self) -> None:
        self._can_write = True
        self._flush()

    def connection_lost(self, reason: Exception | None) -> None:
        self._transport = None
        self._outbox.close()
        self._outbox.clear()
        self._parts.clear()
        if self._offer:
            self._offer.withdraw()
        if self._own:
            self._own.withdraw()
        self._offer = self._lane = None
        self._offered.clear()
        self.board = self.lent = self._own = self._reads = None
        self._decoder, self._rubbish = Decoder(), bytearray()  # whoever still holds the channel holds no memory by it
        self._lost.set()
        self._finish(ConnectionLost())

    def _lose_place(self, error: PaintoverError) -> None:
        """The stream makes no sense any more. The owner may still say why before it closes."""
        self._finish(error)
        if self._transport:
            self._transport.pause_reading()
            self._reading = True

    def _prove(self, offer: lane.Offer, proof: LaneProof) -> None:
        self._offer, self._lane = None, offer.prove(proof.nonce)
        self._decoder.shared = self._lane.incoming if self._lane else None

    def _prove_board(self, board: Board, write: bool, proof: BoardProof) -> None:
        if not board.proves(proof.nonce):
            return
        if write:
            self.board = self._decoder.board = board
        else:
            self._reads = board

    def _finish(self, error: PaintoverError) -> None:
        self._error = self._error or error
        self._arrived.set()
        self._left.set()

    def _flush(self) -> None:
        while self._can_write and self._transport and not self._transport.is_closing():
            if not self._parts:
                message = self._outbox.take(timeout=0)
                if message is None:
                    break
                self._parts.extend(self._cut(encode(message, self._outgoing())))
            self._transport.write(self._parts.popleft())
        self._left.set()
        if self._parting and self._can_write and self._transport and not self._transport.is_closing():
            self._parting = False
            try:
                self._transport.write_eof()
            except OSError:  # the peer is gone already
                self._transport.abort()

    def _outgoing(self) -> Outgoing | None:
        if self._lane is None or self._reads is None:
            return self._lane.outgoing if self._lane else None
        return Lent(self._reads, self._lane.outgoing)

    def _cut(self, buffers: list[bytes | memoryview]) -> list[memoryview]:
        """The same bytes in pieces of a size that the transport can take: small ones joined, large ones cut."""
        parts, small = [], bytearray()
        for buffer in buffers:
            if len(buffer) < CHUNK // 16:
                small += buffer
                continue
            if small:
                parts.append(memoryview(bytes(small)))
                small.clear()
            view = memoryview(buffer)
            parts += [view[at : at + CHUNK] for at in range(0, len(view), CHUNK)]
        if small:
            parts.append(memoryview(bytes(small)))
        return parts


def _is_local(transport: asyncio.Transport) -> bool:
    peer = transport.get_extra_info("peername")
    if not isinstance(peer, tuple) or not peer:
        return False
    try:
        address = ipaddress.ip_address(str(peer[0]).partition("%")[0])
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
