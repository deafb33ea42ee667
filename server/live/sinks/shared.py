"""Frames into shared memory (bridge.frames), where TouchDesigner and scripts of the same machine find them by name."""

from __future__ import annotations

from paintover.bridge.errors import SinkMissing
from paintover.bridge.frames import FrameWriter
from paintover.bridge.live import LIVE_BY_NAME

from . import OutputFrame

CAPACITY = int((LIVE_BY_NAME["output_width"].maximum or 0) * (LIVE_BY_NAME["output_height"].maximum or 0) * 3)
"""Bytes of the largest frame."""


class SharedSink:
    """Copies each frame; readers neither wait nor hold anything up."""

    def __init__(self, frames: str) -> None:
        """`frames`: the name under which readers find them."""
        self.name = "shared"
        self.frames = frames
        self._writer: FrameWriter | None = None

    def start(self) -> None:
        try:
            self._writer = FrameWriter(self.frames, CAPACITY)
        except FileExistsError as reason:
            taken = f"another program sends frames as “{self.frames}”"
            raise SinkMissing(name=self.name, reason=taken, next="Stop it, and try again.") from reason
        except OSError as reason:
            raise SinkMissing(name=self.name, reason=f"there is no memory for it ({reason})", next="") from reason

    def send(self, frame: OutputFrame) -> None:
        if self._writer:
            self._writer.write(frame.image, frame.time, frame.fresh)

    def close(self) -> None:
        if self._writer:
            self._writer.close()
            self._writer = None
