"""What clients may make the front hold, in bytes and time, and which client has to go when it is too much.

A well-behaved client never meets these limits. They are for one that hangs, floods, or means harm: it loses its own
connection, and nobody else notices.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Any

from paintover.bridge.aio import Channel
from paintover.bridge.errors import PaintoverError, ProtocolError

log = logging.getLogger("paintover.front")

MAX_CLIENTS = 64
MAX_STRANGERS = 64
"""Connections that have not greeted yet; beyond them the oldest goes, so that a flood of them keeps nobody out."""
MAX_LANES = 16
"""Clients that share memory; the others get everything through the socket."""
UNREAD = (4096, 1 << 30)
"""Messages and bytes that may wait for one client."""
UNREAD_IN_ALL = 4 << 30
"""Bytes that may wait for all clients together."""
INCOMPLETE_IN_ALL = 2 << 30
"""Bytes that all messages which are still coming in may announce together."""
UNANSWERED_IN_ALL = 2 << 30
"""Bytes that all messages which have come in and wait for the server may take together."""
GRACE = 30.0
"""Seconds that any message may take to come in."""
SLOWEST = 64 << 10
"""Bytes a second that it must have come with, on average, beyond that."""
WATCH = 1.0
"""Seconds between looks at what comes in too slowly."""
KIND = 60
"""Characters by which complaints of the event loop are told from each other."""
TOO_MUCH = "The server is receiving too much at once.", "Send less at a time, or try again later."
LINES = 20
"""Lines about clients that a minute may add to the log, which nobody should be able to fill."""


@dataclass
class _Incoming:
    """A message that a client has begun to send."""

    since: float
    announced: int
    received: int = 0


class Traffic:
    """All connections of a front."""

    def __init__(self) -> None:
        self._channels: dict[Channel, _Incoming | None] = {}
        self._strangers: dict[Channel, None] = {}
        self._minute, self._lines = 0, 0
        self._complaints: dict[str, float] = {}
        """What the event loop has said lately -> when."""

    def add(self, channel: Channel) -> None:
        """Look after a new connection until `remove`."""
        self._channels[channel] = None
        self._strangers[channel] = None
        channel.on_traffic = self._changed
        if len(self._strangers) > MAX_STRANGERS:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.abort()

    def greet(self, channel: Channel) -> None:
        """A connection has shown its token. Raises ProtocolError if there are too many of them."""
        if len(self.clients) >= MAX_CLIENTS:
            raise ProtocolError(f"The server already has {MAX_CLIENTS} clients.", hint="Close one of them.")
        self._strangers.pop(channel, None)

    @property
    def clients(self) -> list[Channel]:
        """Those that have greeted."""
        return [channel for channel in self._channels if channel not in self._strangers]

    def remove(self, channel: Channel) -> None:
        self._channels.pop(channel, None)
        self._strangers.pop(channel, None)

    def note(self, level: int, text: str) -> None:
        """Log what a client did, unless the log has enough of that already."""
        minute = int(time.monotonic() / 60)
        if minute != self._minute:
            if self._lines > LINES:
                log.warning("… and %d lines more about clients", self._lines - LINES)
            self._minute, self._lines = minute, 0
        self._lines += 1
        if self._lines <= LINES:
            log.log(level, "%s", text[:500])

    def complain(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What the event loop says of its own accord, each kind once a minute. As long as a process has no file
        descriptors left, asyncio says so a hundred times for each connection that it cannot accept."""
        kind, now = f"{type(context.get('exception')).__name__}: {context.get('message')}"[:KIND], time.monotonic()
        self._complaints = {one: at for one, at in self._complaints.items() if now - at < 60}
        if kind not in self._complaints:
            self._complaints[kind] = now
            loop.default_exception_handler(context)

    @property
    def may_share_memory(self) -> bool:
        """Whether there is room for one more lane."""
        return sum(channel.shares_memory for channel in self._channels) < MAX_LANES

    async def watch(self) -> None:
        """Let go, for ever, of clients whose messages come in too slowly."""
        while True:
            await asyncio.sleep(WATCH)
            now = time.monotonic()
            for channel, incoming in list(self._channels.items()):
                if incoming and now - incoming.since > GRACE + channel.received / SLOWEST:
                    self._drop(channel, "A message came in too slowly.", "Check the network between the two machines.")

    def _changed(self, channel: Channel) -> None:
        """A channel has sent or received a part of something."""
        if channel not in self._channels:
            return
        self._note_incoming(channel)
        # Whoever has no more than its share cannot be the one; counting the others takes time.
        if channel.waiting_bytes > UNREAD_IN_ALL // MAX_CLIENTS and self._waiting_bytes() > UNREAD_IN_ALL:
            greedy = max(self._channels, key=lambda other: other.waiting_bytes)
            self._drop(greedy, "The client does not read its answers.", "Read them, or ask for less.")
        unanswered = UNANSWERED_IN_ALL // MAX_CLIENTS
        if channel.inbox_bytes > unanswered and sum(one.inbox_bytes for one in self._channels) > UNANSWERED_IN_ALL:
            self._drop(max(self._channels, key=lambda other: other.inbox_bytes), *TOO_MUCH)

    def _waiting_bytes(self) -> int:
        return sum(channel.waiting_bytes for channel in self._channels)

    def _note_incoming(self, channel: Channel) -> None:
        announced, old = channel.expected, self._channels[channel]
        if not announced:
            self._channels[channel] = None
        elif old is None or channel.received < old.received or announced != old.announced:
            self._channels[channel] = _Incoming(time.monotonic(), announced, channel.received)
            self._make_room(channel)
        else:
            old.received = channel.received

    def _make_room(self, newcomer: Channel) -> None:
        """Let go of the slowest until what is announced fits; who has just begun is not slow."""
        now = time.monotonic()
        while sum(incoming.announced for incoming in self._channels.values() if incoming) > INCOMPLETE_IN_ALL:
            slow = {
                channel: incoming.received / max(now - incoming.since, 1e-3)
                for channel, incoming in self._channels.items()
                if incoming and channel is not newcomer
            }
            if not slow:
                return
            self._drop(min(slow, key=lambda channel: slow[channel]), *TOO_MUCH)

    def _drop(self, channel: Channel, text: str, hint: str) -> None:
        self._channels[channel] = None
        error: PaintoverError = ProtocolError(text, hint=hint)
        channel.fail(error)
