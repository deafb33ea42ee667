"""What client and server say to each other about a shot. The server asks for frames, and the client answers.

Client Submit(Shot) -> server FrameWanted -> client FrameGiven for each -> server FramePainted for each -> client
FrameKept. Of a shot of any length a few frames are under way at a time. Whatever happens to the painting process, the
server or the client: the server asks again from where the shot goes on, and keeps what is painted until the client says
that it has it on disk. A *place* is an index into the order of sending (Shot.plan).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .errors import BadMessage
from .greeting import Failure, message
from .parameters import Settings
from .shot import Place, ShotFrame, interval_of, plan

MOST_FRAMES = 100_000
LAST_FRAME = 1_048_574
"""Blender's: no timeline goes beyond it, in either direction."""
AHEAD = 2
"""Frames that are wanted at once: while one is painted, the next is rendered."""


@dataclass(frozen=True)
class Shot:
    """Paint the frames of a timeline so that they hold still."""

    settings: Settings
    """As they are at the first frame. The interval between keyframes and the motion adapter are the same in all of the
    shot; everything else comes with each frame."""
    numbers: tuple[int, ...]
    """Frame numbers in the order of showing: also backwards, or every n-th."""
    width: int
    height: int
    cuts: tuple[int, ...] = ()
    """Frames that start anew (another camera, …)."""
    continues: str = ""
    """The job that has painted this shot before: go on from its keyframes."""
    first: int = 0
    """The place from which on something is otherwise than in that job; what comes before is not painted again."""

    def __post_init__(self) -> None:
        count = len(self.numbers)
        if not 1 <= count <= MOST_FRAMES:
            raise BadMessage(name="Shot", reason=f"it has {count:,} frames; 1 to {MOST_FRAMES:,} can be painted")
        if max(map(abs, self.numbers)) > LAST_FRAME:
            raise BadMessage(name="Shot", reason=f"frame numbers go to ±{LAST_FRAME:,}")
        known = set(self.numbers)
        if len(known) < count:
            raise BadMessage(name="Shot", reason="a frame comes twice")
        if not known.issuperset(self.cuts):
            raise BadMessage(name="Shot", reason=f"frame {min(set(self.cuts) - known)} has a cut, but is not in it")
        if not 0 <= self.first < count or (self.first > 0) != bool(self.continues):
            raise BadMessage(name="Shot", reason=f"it cannot go on at place {self.first}")

    def plan(self) -> tuple[Place, ...]:
        """Its frames in the order of sending."""
        return tuple(plan(self.numbers, interval_of(self.settings), frozenset(self.cuts)))


@message
@dataclass(frozen=True)
class FrameWanted:
    """Send the frames at these places. What was wanted before, and not painted, is wanted no more."""

    job: str
    place: int
    count: int = 1


@message
@dataclass(frozen=True, eq=False)
class FrameGiven:
    """A frame that was wanted."""

    job: str
    place: int
    frame: ShotFrame


@message
@dataclass(frozen=True)
class FrameMissing:
    """A frame that was wanted cannot be rendered: the job ends with this failure, and can be resumed."""

    job: str
    place: int
    failure: Failure


@message
@dataclass(frozen=True, eq=False)
class FramePainted:
    """A frame of a shot is finished. The server keeps it until FrameKept."""

    job: str
    place: int
    number: int
    image: np.ndarray
    """uint8 (H, W, 3), sRGB."""
    settings: Settings
    """As used."""
    fresh: float
    """Share of the picture that the model painted now; the rest is paint of other frames."""
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.image.dtype != np.uint8 or self.image.ndim != 3 or self.image.shape[2] != 3:
            raise BadMessage(name="FramePainted", reason="image is not uint8 (H, W, 3)")


@message
@dataclass(frozen=True)
class FrameKept:
    """The client has it on disk: the server drops its copy."""

    job: str
    place: int
