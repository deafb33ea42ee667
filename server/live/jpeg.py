"""Frames as JPEG for whoever looks: each encoded once, in a thread, and none while nobody looks."""

from __future__ import annotations

import asyncio
import io
import logging
import threading
import time
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .sinks import OutputFrame

log = logging.getLogger("paintover.live")

QUALITY = 85
REPEAT = 0.5
"""Seconds after which a picture that stays the same is sent once more, so that nobody takes the stream for dead."""
STALE = 0.1
"""Seconds after which a frame that was encoded for others is not given to a viewer any more: there is a newer one."""


@dataclass(frozen=True, eq=False)
class Shot:
    number: int
    """Counts up with each picture that is another one, or is repeated."""
    data: bytes
    """JPEG."""
    at: float
    """time.monotonic() when it was encoded."""


class JpegSink:
    """The output's sink behind the web page: `next` gives each viewer the newest frame when it is ready for one."""

    name = "web"

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._newest = Shot(0, b"", 0.0)
        self._published = asyncio.Event()
        self._asked = threading.Event()
        """Somebody waits for a frame."""
        self._frame: OutputFrame | None = None
        self._image: np.ndarray | None = None
        """What was encoded last."""
        self._at = 0.0
        self._wake = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None

    def attach(self) -> None:
        """Belong to the running event loop from now on."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._encode, name="paintover-jpeg", daemon=True)
        self._thread.start()

    @property
    def number(self) -> int:
        """Of the frame that was encoded last: what a new viewer begins after."""
        return self._newest.number

    async def next(self, after: int) -> Shot:
        """The newest frame, once there is one whose number is beyond `after`. Cancelled when the output is closed."""
        while not self._closing:
            if self._newest.number > after and time.monotonic() - self._newest.at < STALE:
                return self._newest
            self._published.clear()
            self._asked.set()
            await self._published.wait()
        raise asyncio.CancelledError

    # ------------------------------------------------------------ for the output's thread

    def start(self) -> None: ...

    def send(self, frame: OutputFrame) -> None:
        if not self._asked.is_set():
            return
        if frame.image is self._image and time.monotonic() - self._at < REPEAT:
            return
        self._asked.clear()
        self._frame = frame
        self._wake.set()

    def close(self) -> None:
        self._closing = True
        self._wake.set()
        if self._loop and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._published.set)

    # ------------------------------------------------------------ its own thread

    def _encode(self) -> None:
        data, failed = b"", False
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._closing:
                return
            frame = self._frame
            if frame is None or self._loop is None:
                continue
            if frame.image is not self._image:
                try:
                    data, failed = encoded(frame.image), False
                except Exception as error:  # viewers keep what they have, and get the next that can be encoded
                    if not failed:
                        log.error("A frame could not be encoded for the web page", exc_info=error)
                    failed = True
                    self._asked.set()
                    continue
                self._image = frame.image
            self._at = time.monotonic()
            try:
                self._loop.call_soon_threadsafe(self._publish, data)
            except RuntimeError:  # the loop has ended meanwhile
                return

    def _publish(self, data: bytes) -> None:
        self._newest = Shot(self._newest.number + 1, data, self._at)
        self._published.set()


def encoded(image: np.ndarray) -> bytes:
    """A uint8 (H, W, 3) image as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()
