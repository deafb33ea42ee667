"""A virtual camera that OBS, browsers and conference programs can choose, through pyvirtualcam."""

from __future__ import annotations

from typing import Any

import numpy as np

from paintover.bridge.errors import SinkMissing


class CameraDriver:
    name = "camera"

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._camera: Any = None

    def check(self) -> None:
        try:
            import pyvirtualcam
        except (ImportError, OSError) as reason:
            hint = "Install it into the server's environment: pip install 'paintover[camera]'"
            raise SinkMissing(name=self.name, reason=f"pyvirtualcam is missing ({reason})", next=hint) from reason
        try:
            pyvirtualcam.Camera(640, 480, self._fps).close()
        except RuntimeError as reason:
            hint = (
                "Windows and macOS: install OBS, and start its virtual camera once. Linux: install v4l2loopback-dkms, "
                "then: sudo modprobe v4l2loopback exclusive_caps=1"
            )
            raise SinkMissing(name=self.name, reason=f"there is no virtual camera ({reason})", next=hint) from reason

    def open(self, width: int, height: int) -> None:
        import pyvirtualcam

        self._camera = pyvirtualcam.Camera(width, height, self._fps)

    def show(self, image: np.ndarray) -> None:
        self._camera.send(image)

    def close(self) -> None:
        self._camera.close()
