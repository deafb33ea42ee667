"""Spout: textures shared with other programs on Windows, through SpoutGL."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from paintover.bridge.errors import SinkMissing

GL_RGBA = 0x1908


class SpoutDriver:
    name = "spout"

    def __init__(self, title: str) -> None:
        self._title = title
        self._sender: Any = None
        self._pixels = np.empty(0, np.uint8)

    def check(self) -> None:
        try:
            import SpoutGL  # noqa: F401
        except (ImportError, OSError) as reason:
            hint = "Install it into the server's environment: pip install 'paintover[spout]'"
            if sys.platform != "win32":
                hint = "Spout is for Windows alone. Use --sink syphon on a Mac, --sink ndi anywhere."
            raise SinkMissing(name=self.name, reason=f"SpoutGL is missing ({reason})", next=hint) from reason

    def open(self, width: int, height: int) -> None:
        import SpoutGL

        self._sender = SpoutGL.SpoutSender()
        self._sender.createOpenGL()  # belongs to this thread
        self._sender.setSenderName(self._title)
        self._pixels = np.full((height, width, 4), 255, np.uint8)

    def show(self, image: np.ndarray) -> None:
        self._pixels[..., :3] = image
        height, width = image.shape[:2]
        if not self._sender.sendImage(self._pixels, width, height, GL_RGBA, False, 0):
            raise RuntimeError("Spout did not take the frame")

    def close(self) -> None:
        self._sender.releaseSender()
        self._sender.closeOpenGL()
