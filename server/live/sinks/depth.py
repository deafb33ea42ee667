"""Beside the picture: depth and alpha of the scene that it was painted from, in shared memory (bridge.frames)."""

from __future__ import annotations

import time

import numpy as np

from paintover.bridge.errors import SinkMissing
from paintover.bridge.frames import FrameWriter
from paintover.bridge.hints import depth_hint

from . import OutputFrame


class DepthDriver:
    """Writes pictures of the picture's size: depth in red, green and blue as the ControlNet for depth sees it (near is
    white), alpha 255 where there is something and 0 on background."""

    name = "depth"

    def __init__(self, frames: str) -> None:
        self._frames = frames
        self._writer: FrameWriter | None = None
        self._last: np.ndarray | None = None
        self._size = (0, 0)

    def beside(self, frame: OutputFrame) -> np.ndarray | None:
        """uint8 (H, W, 4) of the picture's size. None for a picture without a scene, and where it is the same again."""
        if frame.depth is None or (frame.depth is self._last and self._size == frame.image.shape[:2]):
            return None
        self._last, self._size = frame.depth, frame.image.shape[:2]
        (height, width), (high, wide) = self._size, frame.depth.shape
        depth = frame.depth[np.arange(height)[:, None] * high // height, np.arange(width) * wide // width]
        grey = np.round(depth_hint(depth) * 255).astype(np.uint8)
        alpha = np.where(np.isfinite(depth), 255, 0).astype(np.uint8)
        return np.concatenate([grey, alpha[..., None]], -1)

    def check(self) -> None:
        try:
            FrameWriter(self._frames, 4).close()
        except FileExistsError as reason:
            taken = f"another program sends frames as “{self._frames}”"
            raise SinkMissing(name=self.name, reason=taken, next="Stop it, and try again.") from reason
        except OSError as reason:
            raise SinkMissing(name=self.name, reason=f"there is no memory for it ({reason})", next="") from reason

    def open(self, width: int, height: int) -> None:
        self._writer = FrameWriter(self._frames, width * height * 4)

    def show(self, image: np.ndarray) -> None:
        assert self._writer
        self._writer.write(image, time.time())

    def close(self) -> None:
        if self._writer:
            self._writer.close()
            self._writer = None
