"""The picture of a running job in the panel."""

from __future__ import annotations

from typing import Any

import bpy.utils.previews
import numpy as np

_previews: Any = None
_shown: np.ndarray | None = None


def icon(key: str, image: np.ndarray) -> int:
    """Icon number for `image` (uint8 (h, w, 3), row 0 at the top) of the job `key`; updated only when it changed."""
    global _shown
    if key not in _previews:
        _previews.clear()
        _shown = None
        _previews.new(key)
    entry = _previews[key]
    if _shown is not image:
        height, width = image.shape[:2]
        rgba = np.ones((height, width, 4), np.float32)
        rgba[..., :3] = image[::-1] / np.float32(255)
        entry.image_size = (width, height)
        entry.image_pixels_float.foreach_set(rgba.ravel())
        _shown = image
    return int(entry.icon_id)


def register() -> None:
    global _previews
    _previews = bpy.utils.previews.new()


def unregister() -> None:
    global _previews, _shown
    bpy.utils.previews.remove(_previews)
    _previews = None
    _shown = None
