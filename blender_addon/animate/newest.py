"""The painted frame that each scene got last: shown where nothing newer can be."""

from __future__ import annotations

import bpy
import numpy as np

_pictures: dict[int, np.ndarray] = {}


def keep(scene: int, image: np.ndarray) -> None:
    """uint8 (H, W, 3), of the scene with that session uid."""
    _pictures[scene] = image


def of(scene: bpy.types.Scene) -> np.ndarray | None:
    return _pictures.get(scene.session_uid)


def forget() -> None:
    _pictures.clear()
