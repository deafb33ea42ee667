"""What is finished of a job, and under which name it is kept: views, textures, an image, a shot's frames, and the
states that a job can go on from."""

from __future__ import annotations

from collections.abc import Iterable

from paintover.bridge.messages import FramePainted, ImageResult, TextureResult

from .worker_messages import Halfway, KeyDone, ViewDone

Part = ViewDone | ImageResult | TextureResult | Halfway | FramePainted | KeyDone

HALFWAY, FRAME, KEY = "halfway-", "frame-", "key-"
"""What names of parts begin with."""
HIDDEN = (HALFWAY, KEY)
"""Parts that nobody wants to see."""


def part_name(part: Part) -> str:
    """Under what name a finished part is kept: a part that is painted anew takes the place of the old one."""
    if isinstance(part, ViewDone):
        return f"view-{part.index:03}"
    if isinstance(part, Halfway):
        return f"{HALFWAY}{part.step:03}"
    if isinstance(part, FramePainted):
        return frame_name(part.place)
    if isinstance(part, KeyDone):
        return f"{KEY}{part.place:06}-{part.anchor:06}"
    return f"texture-{part.object_id:05}" if isinstance(part, TextureResult) else "image"


def frame_name(place: int) -> str:
    """Under what name a painted frame is kept."""
    return f"{FRAME}{place:06}"


def places_of(names: Iterable[str], kind: str) -> list[int]:
    """The places of all parts of that kind (FRAME, KEY), in order."""
    return sorted(int(name.split("-")[1]) for name in names if name.startswith(kind))


def in_order(names: Iterable[str]) -> list[str]:
    """Names of parts: views in the request's order, then textures."""
    return sorted(names, key=lambda name: (not name.startswith("view-"), name))
