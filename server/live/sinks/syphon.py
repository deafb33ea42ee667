"""Syphon: textures shared with other programs on a Mac, through syphon-python."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from paintover.bridge.errors import SinkMissing


class SyphonDriver:
    name = "syphon"

    def __init__(self, title: str) -> None:
        self._title = title
        self._server: Any = None
        self._texture: Any = None
        self._pixels = np.empty(0, np.uint8)

    def check(self) -> None:
        try:
            import syphon  # noqa: F401
        except (ImportError, OSError) as reason:
            hint = "Install it into the server's environment: pip install 'paintover[syphon]'"
            if sys.platform != "darwin":
                hint = "Syphon is for Macs alone. Use --sink spout on Windows, --sink ndi anywhere."
            raise SinkMissing(name=self.name, reason=f"syphon-python is missing ({reason})", next=hint) from reason

    def open(self, width: int, height: int) -> None:
        import syphon
        from syphon.utils.raw import create_mtl_texture

        self._server = syphon.SyphonMetalServer(self._title)
        self._texture = create_mtl_texture(self._server.device, width, height)
        self._pixels = np.full((height, width, 4), 255, np.uint8)

    def show(self, image: np.ndarray) -> None:
        from Foundation import NSDate, NSRunLoop
        from syphon.utils.numpy import copy_image_to_mtl_texture

        self._pixels[..., :3] = image
        copy_image_to_mtl_texture(self._pixels, self._texture)
        self._server.publish_frame_texture(self._texture, is_flipped=True)  # rows from the top, unlike OpenGL's
        # Programs that start later ask through notifications, which come in here.
        NSRunLoop.currentRunLoop().runUntilDate_(NSDate.date())

    def close(self) -> None:
        self._server.stop()
