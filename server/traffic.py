"""What clients may make the front hold, in bytes and time, and which client has to go when it is too much.

A well-behaved client never meets these limits. They are for one that hangs, floods, or means harm: it loses its own
connection, and nobody else notices.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass

from paintover.bridge.aio import Channel
from paintover.bridge.errors import PaintoverError, ProtocolError

log = logging.getLogger("paintover.front")

MAX_CLIENTS = 64
MAX_CONNECTIONS = 256
"""Connections at all, with those that have not greeted yet."""
MAX_LANES = 16
"""Clients that share memory; the others get everything through the socket."""
UNREAD = (4096, 1 << 30)
"""Messages and bytes that may wait for one client."""
UNREAD_IN_ALL = 4 << 30
"""Bytes that may wait for all clients together."""
INCOMPLETE_IN_ALL = 2 << 30
"""Bytes that all messages which are still coming in may announce together."""
GRACE = 30.0
"""Seconds that any message may take to come in."""
SLOWEST = 64 << 10
"""Bytes a second that it must have come with, on average, beyond that."""
WATCH = 1.0
"""Seconds between looks at what comes in too slowly."""


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

    def __len__(self) -> int:
        return len(self._channels)

    def add(self, channel: Channel) -> None:
        """Look after a connection until `remove`."""
        self._channels[channel] = None
        channel.on_traffic = self._changed

    def remove(self, channel: Channel) -> None:
        self._channels.pop(channel, None)

    @property
    def may_share_memory(self) -> bool:
        """Whether there is room for one more lane."""
        return sum(channel.shares_memory or channel.offers_memory for channel in self._channels) < MAX_LANES

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
        waiting = sum(other.waiting_bytes for other in self._channels) if channel.waiting_bytes else 0
        if waiting > UNREAD_IN_ALL:
            greedy = max(self._channels, key=lambda other: other.waiting_bytes)
            self._drop(greedy, "The client does not read its answers.", "Read them, or ask for less.")

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
            self._drop(
                min(slow, key=lambda channel: slow[channel]),
                "The server is receiving too much at once.",
                "Send less at a time, or try again later.",
            )

    def _drop(self, channel: Channel, text: str, hint: str) -> None:
        self._channels[channel] = None
        error: PaintoverError = ProtocolError(text, hint=hint)
        log.warning("Let go of a client: %s", error)
        channel.fail(error)
