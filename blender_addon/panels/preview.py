"""The picture of a running job in the panel."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import bpy.utils.previews
import numpy as np

_previews: Any = None
_shown: dict[str, np.ndarray] = {}


def keep(keys: Set[str]) -> None:
    """Let go of the pictures of all other jobs."""
    if not keys >= _shown.keys():
        _previews.clear()  # one alone cannot be removed; those that are kept are drawn anew
        _shown.clear()


def icon(key: str, image: np.ndarray) -> int:
    """Icon number for `image` (uint8 (h, w, 3), row 0 at the top) of the job `key`; updated only when it changed."""
    entry = _previews[key] if key in _previews else _previews.new(key)
    if _shown.get(key) is not image:
        height, width = image.shape[:2]
        rgba = np.ones((height, width, 4), np.float32)
        rgba[..., :3] = image[::-1] / np.float32(255)
        entry.image_size = (width, height)
        entry.image_pixels_float.foreach_set(rgba.ravel())
        _shown[key] = image
    return int(entry.icon_id)


def register() -> None:
    global _previews
    _previews = bpy.utils.previews.new()


def unregister() -> None:
    global _previews
    bpy.utils.previews.remove(_previews)
    _previews = None
    _shown.clear()
