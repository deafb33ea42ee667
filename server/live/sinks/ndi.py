"""NDI over the network, through cyndilib (which brings the NDI library along)."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from paintover.bridge.errors import SinkMissing


class NdiDriver:
    name = "ndi"

    def __init__(self, title: str, fps: float) -> None:
        self._title = title
        self._fps = Fraction(fps).limit_denominator(1001)
        self._sender: Any = None
        self._pixels = np.empty(0, np.uint8)

    def check(self) -> None:
        try:
            import cyndilib  # noqa: F401
        except (ImportError, OSError) as reason:
            hint = "Install it into the server's environment: pip install 'paintover[ndi]'"
            raise SinkMissing(name=self.name, reason=f"cyndilib is missing ({reason})", next=hint) from reason

    def open(self, width: int, height: int) -> None:
        from cyndilib.sender import Sender
        from cyndilib.video_frame import VideoSendFrame
        from cyndilib.wrapper import FourCC

        video = VideoSendFrame()
        video.set_resolution(width, height)
        video.set_fourcc(FourCC.RGBX)
        video.set_frame_rate(self._fps)  # what receivers are told; the pace is the output's
        self._sender = Sender(self._title, clock_video=False, clock_audio=False)
        self._sender.set_video_frame(video)
        self._sender.open()
        self._pixels = np.full((height, width, 4), 255, np.uint8)

    def show(self, image: np.ndarray) -> None:
        self._pixels[..., :3] = image
        self._sender.write_video(self._pixels.reshape(-1))

    def close(self) -> None:
        self._sender.close()
