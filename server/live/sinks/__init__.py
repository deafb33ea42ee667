"""Where frames go: a FrameSink each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from paintover.bridge.errors import SinkMissing


@dataclass(frozen=True, eq=False)
class OutputFrame:
    """What is sent out at one tick."""

    number: int
    """Counts up from 1 with every tick."""
    time: float
    """Unix time of the tick, in seconds."""
    image: np.ndarray
    """uint8 (H, W, 3), sRGB, read-only. It may have another size than the frame before."""
    fresh: bool = True
    """Whether the image is another one than the frame before had."""
    depth: np.ndarray | None = None
    """float32 (h, w), of a size of its own: of the scene that it was painted from, +inf on background; where somebody
    wants it."""


class FrameSink(Protocol):
    """One way out. `send` is called from the output's thread and returns at once, whatever the other end does."""

    name: str

    def start(self) -> None:
        """Open. Raises SinkMissing where that cannot be."""

    def send(self, frame: OutputFrame) -> None: ...

    def close(self) -> None: ...


SINKS = ("shared", "depth", "ndi", "spout", "syphon", "camera")
"""Names of what --sink takes; the web page and its streams need none."""


def make(name: str, *, frames: str, fps: float) -> FrameSink:
    """The sink of that name. `frames`: what shared memory is called; `fps`: what receivers that want to know are told.

    Nothing of it is imported before it is chosen. Raises SinkMissing.
    """
    if name == "shared":
        from .shared import SharedSink

        return SharedSink(frames)
    from .threaded import Driver, ThreadedSink

    if name == "depth":
        from .depth import DepthDriver

        depth = DepthDriver(f"{frames}-depth")
        depth.check()
        return ThreadedSink(depth, depth.beside)
    driver: Driver
    title = "Paintover"
    if name == "ndi":
        from .ndi import NdiDriver

        driver = NdiDriver(title, fps)
    elif name == "spout":
        from .spout import SpoutDriver

        driver = SpoutDriver(title)
    elif name == "syphon":
        from .syphon import SyphonDriver

        driver = SyphonDriver(title)
    elif name == "camera":
        from .camera import CameraDriver

        driver = CameraDriver(fps)
    else:
        raise SinkMissing(name=name, reason="there is no such output", next=f"Choose from: {', '.join(SINKS)}.")
    driver.check()
    return ThreadedSink(driver)
