"""What client and server say to each other about the stage: the one stream of frames that a server paints.

A client joins with LiveJoin and hears all values once, then every change, the status, and on request the pictures. One
that is the source sends LiveFrame as its scene changes; the newest source wins, and when it leaves, the one before it.
Frames and pictures are latest-wins: a stale one is dropped before it is sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from .errors import BadMessage
from .greeting import Failure, message
from .scene import Passes

# The stage's states; OSC knows them by their index (/paintover/status/state).
STATES = ("off", "loading", "warming", "running", "frozen", "recovering", "error")
OFF, LOADING, WARMING, RUNNING, FROZEN, RECOVERING, ERROR = STATES

Value = int | float | str | bool


@message
@dataclass(frozen=True)
class LiveJoin:
    """Take part in the stage, or change how."""

    source: bool = False
    """I send the control frames from now on."""
    pictures: bool = False
    """Send me every painted frame."""


@message
@dataclass(frozen=True)
class LiveLeave:
    """Tell me nothing more of the stage; if I was the only source, my last frame stays."""


@message
@dataclass(frozen=True, eq=False)
class LiveFrame:
    """What the scene looks like now. A newer one supersedes it."""

    number: int
    passes: Passes
    image: np.ndarray | None = None
    """uint8 (H, W, 3): where image-to-image starts from, if not from the last frame."""
    on_board: ClassVar[bool] = True
    """Its arrays may be overtaken by a newer frame's (board.py)."""

    def __post_init__(self) -> None:
        shape = self.passes.depth.shape
        if self.image is not None and (self.image.shape != (*shape, 3) or self.image.dtype != np.uint8):
            raise BadMessage(name="LiveFrame", reason=f"image is not uint8 {(*shape, 3)}")

    def supersedes(self) -> str:
        return "LiveFrame"


@message
@dataclass(frozen=True)
class LiveSet:
    """Set parameters by name, numbers clamped to their range. LiveValues answers what they are now."""

    values: dict[str, Value]


@message
@dataclass(frozen=True)
class LiveTrigger:
    """Do something once: an OSC address below the root without a value (“reset”, “preset/store”, “tempo/tap”…)."""

    address: str
    arguments: tuple[float, ...] = ()


@message
@dataclass(frozen=True)
class LiveValues:
    """Parameters' effective values: all of them after LiveJoin, later those that somebody else has changed."""

    values: dict[str, Value]


@message
@dataclass(frozen=True, eq=False)
class LivePicture:
    """A painted frame. A newer one supersedes it."""

    number: int
    """LiveFrame.number that it was painted from; −1 for a picture without one."""
    image: np.ndarray
    """uint8 (H, W, 3), sRGB."""
    seed: int = 0
    """As used."""
    seconds: dict[str, float] = field(default_factory=dict)

    def supersedes(self) -> str:
        return "LivePicture"


@message
@dataclass(frozen=True)
class LiveStatus:
    """How the stage does. A newer one supersedes it."""

    state: str = OFF
    """One of STATES."""
    fps: float = 0.0
    """Painted frames a second."""
    latency_ms: float = 0.0
    """From a change to the first frame that shows it."""
    frame_age_ms: float = 0.0
    jitter_ms: float = 0.0
    """Of the output's pace."""
    dropped: int = 0
    """Control frames that were superseded before they were painted."""
    vram_gb: float = 0.0
    progress: float = 0.0
    """Of what is loaded or run, 0…1."""
    text: str = ""
    """Plain words: what it does, or what is wrong."""

    def __post_init__(self) -> None:
        if self.state not in STATES:
            raise BadMessage(name="LiveStatus", reason=f"unknown state {self.state!r}")

    def supersedes(self) -> str:
        return "LiveStatus"


@message
@dataclass(frozen=True)
class LiveEvent:
    """Something for the source to do (“texture/run”, “animation/run”, “cancel”): an artist asked for it over OSC."""

    address: str


@message
@dataclass(frozen=True)
class LiveTrouble:
    """Something on the stage went wrong; the picture goes on."""

    failure: Failure
    address: str = ""
    """The parameter or trigger that it is about."""
