"""The codec under asyncio: a protocol that receives without copying and sends the latest first in line.

transport, channel = await loop.create_connection(Channel, host, port)
channel.send(Hello(…)); message = await channel.receive()
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Mapping
from typing import Any

from .errors import ConnectionLost, PaintoverError
from .mailbox import Mailbox
from .messages import MESSAGES
from .wire import LIMITS, Decoder, Limits, encode

PARTING = 2.0
"""Seconds for which a peer that was refused may keep its end open."""
HIGH_WATER = 64
"""Received messages that wait unread before the socket is paused, so that a fast sender cannot fill memory."""


class Channel(asyncio.BufferedProtocol):
    """One connection. `receive` gives messages (and Malformed ones) in order; it raises when the connection ends."""

    def __init__(self, limits: Limits = LIMITS, known: Mapping[str, type] = MESSAGES) -> None:
        self._decoder = Decoder(limits, known)
        self._inbox: deque[Any] = deque()
        self._arrived = asyncio.Event()
        self._outbox = Mailbox()
        self._can_write = True
        self._reading = True
        self._error: PaintoverError | None = None
        self._rubbish = bytearray()
        """Where bytes go after the stream has lost its place."""
        self._lost = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self.sent = 0

    # ------------------------------------------------------------ for its owner

    async def receive(self) -> Any:
        """The next message. Raises the error that ended the connection (ConnectionLost, or what was wrong)."""
        while not self._inbox:
            if self._error:
                raise self._error
            self._arrived.clear()
            await self._arrived.wait()
        message = self._inbox.popleft()
        if not self._reading and len(self._inbox) < HIGH_WATER // 2 and self._transport:
            self._reading = True
            self._transport.resume_reading()
        return message

    def send(self, message: Any) -> None:
        """Queue a message. It leaves when the socket has room; a stale one may be superseded before that."""
        self._outbox.put(message)
        self._flush()

    @property
    def waiting(self) -> int:
        """Messages that have not left yet."""
        return len(self._outbox)

    def set_limits(self, limits: Limits) -> None:
        """Change what the peer may send from its next frame on."""
        self._decoder.limits = limits

    def close(self) -> None:
        """Close once everything that was handed to the transport has left."""
        if self._transport:
            self._transport.close()

    async def part(self) -> None:
        """Close so that the peer can still read the last words: say that no more comes, and let it go first.

        Closing with unread bytes would reset the connection, and the last words with it.
        """
        if self._transport and self._transport.can_write_eof():
            self._rubbish = bytearray(1 << 16)
            self._transport.resume_reading()
            self._transport.write_eof()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._lost.wait(), PARTING)
        self.close()

    # ------------------------------------------------------------ for asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        # Little buffering below us: what waits should wait in the mailbox, where it can be superseded.
        transport.set_write_buffer_limits(high=1 << 18)
        self._flush()

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self._rubbish) if self._rubbish else self._decoder.get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        try:
            self._inbox.extend(self._decoder.advance(nbytes))
        except PaintoverError as error:
            self._finish(error)
            # The stream has lost its place. The owner may still say why before it closes.
            if self._transport:
                self._transport.pause_reading()
                self._reading = True
            return
        if self._inbox:
            self._arrived.set()
        if len(self._inbox) > HIGH_WATER and self._reading and self._transport:
            self._reading = False
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        self._can_write = False

    def resume_writing(self) -> None:
        self._can_write = True
        self._flush()

    def connection_lost(self, reason: Exception | None) -> None:
        self._transport = None
        self._outbox.close()
        self._lost.set()
        self._finish(ConnectionLost())

    def _finish(self, error: PaintoverError) -> None:
        self._error = self._error or error
        self._arrived.set()

    def _flush(self) -> None:
        while self._can_write and self._transport and not self._transport.is_closing():
            message = self._outbox.take(timeout=0)
            if message is None:
                return
            self._transport.writelines(encode(message))
            self.sent += 1
