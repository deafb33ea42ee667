"""A shot: frames in an order in which each comes after those that its paint is taken from.

Keyframes are painted; the frames between two of them take their paint from both. So a keyframe is sent before the
frames that lie between it and the keyframe before: with an interval of 4, frames 1 to 9 go as 1 5 2 3 4 9 6 7 8.
A frame knows where its surfaces are in those frames (`Link`), exactly, because Blender drew it so: no flow is guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .errors import BadMessage
from .parameters import Settings
from .scene import Passes, _check


@dataclass(frozen=True, eq=False)
class Link:
    """Where the surface at every pixel is in another frame of the shot, whether it is seen there or not."""

    frame: int
    """Number of that frame."""
    place: np.ndarray
    """float32 (H, W, 3): x right and y down in pixels, so that p + (x, y) is where it is there, and its view-space
    depth there. Not finite where it is behind the camera; without meaning on background."""


@dataclass(frozen=True, eq=False)
class ShotFrame:
    """What a frame of a shot carries."""

    number: int
    settings: Settings
    """As they are at this frame."""
    passes: Passes
    key: bool
    before: Link | None = None
    """To the keyframe before. A keyframe without starts anew: the first one, and the first after a cut."""
    after: Link | None = None
    """To the keyframe after; for frames that are none."""
    previous: Link | None = None
    """To the frame before, where that is not a keyframe."""

    def __post_init__(self) -> None:
        height, width = self.passes.depth.shape
        for link in self.links:
            _check(link, "place", np.float32, height, width, 3)
        if not self.key and self.before is None:
            raise BadMessage(name="ShotFrame", reason=f"frame {self.number} lies behind no keyframe")
        if self.key and (self.after or self.previous):
            raise BadMessage(name="ShotFrame", reason=f"keyframe {self.number} takes paint from what comes after it")

    @property
    def links(self) -> tuple[Link, ...]:
        return tuple(link for link in (self.before, self.after, self.previous) if link)


@dataclass(frozen=True)
class Place:
    """A frame's part in its shot, and the frames that it is linked to."""

    number: int
    key: bool
    before: int | None = None
    after: int | None = None
    previous: int | None = None


def interval_of(settings: Settings) -> int:
    """Frames from keyframe to keyframe. A motion adapter paints each frame, so there are none between."""
    return 1 if settings.animate_motion else settings.animate_interval


def plan(numbers: Sequence[int], interval: int, cuts: frozenset[int] = frozenset()) -> Iterator[Place]:
    """The frames of a shot in the order to send them.

    `numbers`: in the order of showing (also backwards, or every n-th). `interval`: a keyframe at least every so many
    frames; with 1 every frame is one. `cuts`: frames that start anew, because the camera or the prompt is another.
    The last frame before a cut is a keyframe, so that nothing of what comes after shows before it.
    """
    before: int | None = None
    between: list[int] = []
    for i, number in enumerate(numbers):
        if number in cuts:
            before = None
        last = i + 1 == len(numbers) or numbers[i + 1] in cuts
        if before is not None and not last and len(between) + 1 < interval:
            between.append(number)
            continue
        yield Place(number, True, before)
        for j, one in enumerate(between):
            yield Place(one, False, before, number, between[j - 1] if j else None)
        before, between = number, []
