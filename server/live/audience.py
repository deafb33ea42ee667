"""The clients that take part in the stage: who gives control frames, who gets pictures, and what each must be told."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field

from paintover.bridge.aio import Channel
from paintover.bridge.errors import PaintoverError, ProtocolError, SourceReplaced
from paintover.bridge.live import LIVE_BY_NAME
from paintover.bridge.live_messages import (
    LiveEvent,
    LiveFrame,
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
    source: bool
    """It gives control frames: they count while no newer one does."""
    frame: LiveFrame | None = None
    """Its newest, for when it counts again."""
    changed: set[str] = field(default_factory=set)
    """Names of parameters that others have changed since it was told."""


class Audience:
    """Belongs to the front's event loop. It knows nothing of what is painted."""

    def __init__(self) -> None:
        self._members: dict[Channel, Member] = {}
        """The newest source is the last of them that is one."""

    def __len__(self) -> int:
        return len(self._members)

    @property
    def source(self) -> Channel | None:
        """Whose frames are painted from."""
        return next((channel for channel, member in reversed(self._members.items()) if member.source), None)

    def join(self, channel: Channel, message: LiveJoin, values: Mapping[str, Value]) -> None:
        """Take a client in, or note what else it wants. Another source takes the place of the first, which is told."""
        before, member = self.source, self._members.get(channel)
        if member is None:
            channel.send(LiveValues(dict(values)))
            member = Member(message.pictures, message.source)
        elif message.source and before is not channel:
            del self._members[channel]  # the newest comes last
        member.pictures, member.source = message.pictures, message.source
        self._members[channel] = member
        if before and before is not channel and message.source:
            if frame := self._members[before].frame:
                self._members[before].frame = copy.deepcopy(frame)  # the memory may be its board's
            before.send(LiveTrouble(Failure.of(SourceReplaced())))

    def leave(self, channel: Channel) -> None:
        self._members.pop(channel, None)

    def keep(self, channel: Channel, frame: LiveFrame) -> bool:
        """A client gives a frame: whether it is to be painted from now, and not once newer sources have left."""
        if (member := self._members.get(channel)) is None or not member.source:
            return False
        member.frame = frame if channel is self.source else copy.deepcopy(frame)
        return channel is self.source

    def frame_of(self, channel: Channel) -> LiveFrame | None:
        """Its newest."""
        return self._members[channel].frame

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
