"""What each scene got last: its painted frame, shown where nothing newer can be, and the seed of its look."""

from __future__ import annotations

import bpy
import numpy as np

_pictures: dict[int, np.ndarray] = {}
_seeds: dict[int, int] = {}


def keep(scene: int, image: np.ndarray) -> None:
    """uint8 (H, W, 3), of the scene with that session uid."""
    _pictures[scene] = image


def of(scene: bpy.types.Scene) -> np.ndarray | None:
    return _pictures.get(scene.session_uid)


def keep_seed(scene: bpy.types.Scene, seed: int) -> None:
    """The seed that Look First showed: a shot whose seed is −1 takes it, so that it becomes what was looked at."""
    _seeds[scene.session_uid] = seed


def seed_of(scene: bpy.types.Scene) -> int | None:
    return _seeds.get(scene.session_uid)


def forget() -> None:
    _pictures.clear()
    _seeds.clear()
