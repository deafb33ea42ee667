"""The clients that take part in the stage: who gives control frames, who gets pictures, and what each must be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from paintover.bridge.aio import Channel
from paintover.bridge.errors import PaintoverError, ProtocolError, SourceReplaced
from paintover.bridge.live import LIVE_BY_NAME
from paintover.bridge.live_messages import (
    LiveEvent,
    LiveJoin,
    LiveStatus,
    LiveTrouble,
    LiveValues,
    Value,
)
from paintover.bridge.messages import Failure

DEAF = 10.0
"""Seconds for which a client may take nothing of what it is sent."""


@dataclass
class Member:
    """A client that takes part."""

    pictures: bool
    changed: set[str] = field(default_factory=set)
    """Names of parameters that others have changed since it was told."""


class Audience:
    """Belongs to the front's event loop. It knows nothing of what is painted."""

    def __init__(self) -> None:
        self._members: dict[Channel, Member] = {}
        self.source: Channel | None = None
        """Whose frames are painted from."""

    def __len__(self) -> int:
        return len(self._members)

    def join(self, channel: Channel, message: LiveJoin, values: Mapping[str, Value]) -> None:
        """Take a client in, or note what else it wants. Another source takes the place of the first, which is told."""
        if channel not in self._members:
            channel.send(LiveValues(dict(values)))
        self._members[channel] = Member(message.pictures)
        if message.source and self.source is not channel:
            if self.source:
                self.source.send(LiveTrouble(Failure.of(SourceReplaced())))
            self.source = channel
        elif self.source is channel and not message.source:
            self.source = None

    def leave(self, channel: Channel) -> None:
        self._members.pop(channel, None)
        if self.source is channel:
            self.source = None

    @property
    def watching(self) -> list[Channel]:
        """Those that want pictures."""
        return [channel for channel, member in self._members.items() if member.pictures]

    # ------------------------------------------------------------ what they are told

    @property
    def behind(self) -> bool:
        """Somebody has not been told of a change yet."""
        return any(member.changed for member in self._members.values())

    def note_change(self, name: str, origin: object) -> None:
        """A parameter has changed: whoever did not do that is to be told."""
        for channel, member in self._members.items():
            if channel is not origin:
                member.changed.add(name)

    def tell_changes(self, values: Mapping[str, Value]) -> None:
        for channel, member in list(self._members.items()):
            if member.changed:
                changed = {name: values[name] for name in member.changed}
                member.changed = set()
                channel.send(LiveValues(changed))

    def tell_status(self, status: LiveStatus) -> None:
        """Everybody; a client that has taken nothing for long is let go."""
        for channel in list(self._members):
            if channel.blocked > DEAF:
                channel.fail(ProtocolError("The client does not read its answers.", hint="Join again."))
            channel.send(status)

    def tell(self, message: LiveTrouble | LiveEvent) -> None:
        """Tell everybody; what is to be done, only the source."""
        for channel in list(self._members):
            if isinstance(message, LiveTrouble) or channel is self.source:
                channel.send(message)


def report(error: PaintoverError, name: str, origin: object) -> None:
    """Tell a client what was wrong with its own message; OSC and the web have reports of their own."""
    if isinstance(origin, Channel):
        address = LIVE_BY_NAME[name].address if name in LIVE_BY_NAME else name
        origin.send(LiveTrouble(Failure.of(error), address))
