"""Painted images as Blender images."""

from __future__ import annotations

import json
from dataclasses import asdict

import bpy
import numpy as np

from .bridge.parameters import Settings

REQUEST = "paintover_request"
"""Custom property of a painted image: the settings that made it, as JSON."""


def show(name: str, pixels: np.ndarray, settings: Settings) -> str:
    """A packed image of `pixels` (uint8 (H, W, 3), sRGB), in every open Image Editor too; returns its name.

    An image of that name is replaced.
    """
    height, width = pixels.shape[:2]
    image = bpy.data.images.get(name)
    if image is None or image.library:
        image = bpy.data.images.new(name, width, height, alpha=False)
    elif tuple(image.size) != (width, height):
        image.scale(width, height)
    image.colorspace_settings.name = "sRGB"
    rgba = np.ones((height, width, 4), np.float32)
    rgba[..., :3] = pixels[::-1] / np.float32(255)
    image.pixels.foreach_set(rgba.ravel())
    image.update()
    image.pack()
    image[REQUEST] = json.dumps(asdict(settings))
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "IMAGE_EDITOR":
                area.spaces.active.image = image
    return image.name
