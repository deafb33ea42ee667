"""Painted images as Blender images."""

from __future__ import annotations

import json
from dataclasses import asdict

import bpy

from . import textures
from .bridge.parameters import Settings

REQUEST = "paintover_request"
"""Custom property of a painted image: the settings that made it, as JSON."""


def show(name: str, picture: textures.Picture, settings: Settings) -> str:
    """A packed image of `picture`, in every open Image Editor too that is not pinned to another; returns its name.

    An image that was painted before under that name is replaced; any other gets to keep it.
    """
    image = bpy.data.images.get(name)
    ours = image is not None and not image.library and REQUEST in image
    image = textures.fill_image(image if ours else None, name, picture)
    image[REQUEST] = json.dumps(asdict(settings))
    image.use_fake_user = True  # saving would drop it where no editor shows it
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "IMAGE_EDITOR" and not area.spaces.active.use_image_pin:
                area.spaces.active.image = image
    return image.name
