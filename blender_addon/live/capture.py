"""The viewport's own picture of a camera's frame, for image-to-image."""

from __future__ import annotations

from typing import Any

import bpy
import gpu
import numpy as np
from mathutils import Matrix

from ..bridge.errors import NoGpu
from ..bridge.scene import Camera


class Capture:
    """Whether a picture is being taken: what is drawn over viewports stays out of it."""

    running = False

    @classmethod
    def image(cls, found: tuple[bpy.types.Window, bpy.types.Area], camera: Camera) -> np.ndarray:
        """uint8 (H, W, 3), as the viewport's shading shows what the camera sees. Raises NoGpu."""
        window, area = found
        region: Any = next(region for region in area.regions if region.type == "WINDOW")
        space = area.spaces.active
        try:
            target = gpu.types.GPUOffScreen(camera.width, camera.height)
        except Exception as reason:  # drivers fail in ways of their own
            raise NoGpu(reason=str(reason)) from reason
        cls.running, overlays = True, space.overlay.show_overlays
        try:
            if overlays:
                space.overlay.show_overlays = False
            target.draw_view3d(
                window.scene,
                window.view_layer,
                space,
                region,
                Matrix(camera.view.tolist()),
                Matrix(camera.projection.tolist()),
                do_color_management=True,
            )
            data = target.texture_color.read()
        finally:
            cls.running = False
            if overlays:
                space.overlay.show_overlays = True
            target.free()
        data.dimensions = camera.width * camera.height * 4
        values = np.array(data, copy=True).reshape(camera.height, camera.width, 4)[::-1, :, :3]
        if values.dtype != np.uint8:
            values = np.clip(np.round(values * 255), 0, 255).astype(np.uint8)
        return np.ascontiguousarray(values)
