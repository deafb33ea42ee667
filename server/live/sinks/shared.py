"""Frames into shared memory (bridge.frames), where TouchDesigner and scripts of the same machine find them by name."""

from __future__ import annotations

import contextlib
import os
import re
import sys

from paintover.bridge.errors import SinkMissing
from paintover.bridge.frames import FrameWriter, place

from . import OutputFrame

FIRST = 512 * 512 * 3
"""Bytes of the frames that there is room for at first. A larger one gets new memory, under the same name."""
_MEMORY = re.compile(r"/proc/(\d+)/fd/\d+")


class SharedSink:
    """Copies each frame; readers neither wait nor hold anything up."""

    def __init__(self, frames: str) -> None:
        """`frames`: the name under which readers find them."""
        self.name = "shared"
        self.frames = frames
        self._writer: FrameWriter | None = None
        self._closed = False

    def start(self) -> None:
        tidy()
        try:
            self._writer = FrameWriter(self.frames, FIRST)
        except FileExistsError as reason:
            taken = f"another program sends frames as “{self.frames}”"
            raise SinkMissing(name=self.name, reason=taken, next="Stop it, and try again.") from reason
        except OSError as reason:
            raise SinkMissing(name=self.name, reason=f"there is no memory for it ({reason})", next="") from reason

    def send(self, frame: OutputFrame) -> None:
        if self._closed:
            return
        if self._writer is None or frame.image.nbytes > self._writer.capacity:
            self._let_go()  # readers see that, and look for the name again
            # Where there is no memory for it, that is tried again with the next frame, which may be a smaller one.
            self._writer = FrameWriter(self.frames, max(FIRST, frame.image.nbytes))
        self._writer.write(frame.image, frame.time, frame.fresh)

    def close(self) -> None:
        self._closed = True
        self._let_go()

    def _let_go(self) -> None:
        if self._writer:
            self._writer.close()
            self._writer = None


def tidy() -> None:
    """Linux: remove the names of servers that were killed. They lead nowhere, but nobody else would ever do it."""
    if sys.platform != "linux":
        return
    for path in place("paintover").parent.glob("paintover-*"):
        with contextlib.suppress(OSError):  # it is no link, or somebody else was quicker
            writer = _MEMORY.fullmatch(os.readlink(path))
            if writer and path.lstat().st_uid == os.getuid() and not os.path.exists(f"/proc/{writer[1]}"):
                path.unlink()
