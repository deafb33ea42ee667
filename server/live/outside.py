"""Frames of other programs (bridge.frames) as what the stage paints from: TouchDesigner's picture, a depth map.

Three or four channels: what image-to-image starts from, at a strength below 1. One channel: a depth map, near white and
black where nothing is, for the ControlNet for depth.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterable

import numpy as np

from paintover.bridge.frames import FrameReader
from paintover.bridge.scene import Camera, Passes

log = logging.getLogger("paintover.live")

LARGEST = 2048
"""Pixels of a frame's longer side: nothing is painted larger, so of a larger one every n-th pixel is taken."""
LOOK = 1 / 120
"""Seconds between two looks at what the other programs have written."""


class Outside:
    """Reads in a thread, and hands the newest frame of each name over to the running event loop."""

    def __init__(self, names: Iterable[str], take: Callable[[np.ndarray | Passes], None]) -> None:
        """`take` gets uint8 (H, W, 3), or what a depth map says, in the loop. Raises ValueError for what is no name."""
        self._readers = [FrameReader(name) for name in names]
        self._take = take
        self._waiting: dict[int, np.ndarray | Passes] = {}
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._read, args=(loop,), name="paintover-outside", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        if self._thread:
            self._thread.join(2.0)
        for reader in self._readers:
            reader.close()

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        seen, failed = [(0, 0)] * len(self._readers), False
        while not self._closing.wait(LOOK):
            for i, reader in enumerate(self._readers):
                number, picture = seen[i]
                try:
                    frame = reader.read(number)
                    if frame is None:
                        continue
                    seen[i] = frame.number, frame.picture
                    if frame.picture == picture and frame.number > number:
                        continue  # the same pixels once more
                    self._waiting[i] = taken(frame.image)  # here and not in the loop, which it would hold up
                    failed = False
                except Exception as error:  # the next one may be better
                    if not failed:
                        log.error("A frame of another program could not be taken", exc_info=error)
                    failed = True
                    continue
                with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                    loop.call_soon_threadsafe(self._hand_over)

    def _hand_over(self) -> None:
        while self._waiting:
            with contextlib.suppress(KeyError):
                self._take(self._waiting.popitem()[1])


def taken(image: np.ndarray) -> np.ndarray | Passes:
    """What the stage gets of a frame, uint8 (H, W, channels)."""
    step = -(-max(image.shape[:2]) // LARGEST)
    image = image[::step, ::step]
    return passes_of(image) if image.shape[2] == 1 else np.ascontiguousarray(image[..., :3])


def passes_of(depth_map: np.ndarray) -> Passes:
    """What a depth map, uint8 (H, W, 1), near white, says of a scene: depths whose inverse it is, and nothing else."""
    height, width = depth_map.shape[:2]
    near = depth_map[..., 0].astype(np.float32) / 255
    with np.errstate(divide="ignore"):
        depth = np.where(near > 0, 1 / near, np.inf).astype(np.float32)
    return Passes(
        Camera("outside", np.eye(4), np.diag([1.0, 1.0, -0.01, 1.0]), width, height),
        depth,
        np.zeros((height, width, 3), np.float16),
        np.zeros((height, width), np.uint8),
        np.zeros((height, width), np.uint16),
    )
