"""Passes as pictures, for ControlNets and for the eye: float (H, W, 3), 0…1, row 0 at the top."""

from __future__ import annotations

import numpy as np

from ..bridge.hints import Limits, edge_hint, make_hint
from ..bridge.scene import Passes

FASTEST = 16.0
"""Pixels a frame; motion that is faster looks alike."""


def of_passes(seen: Passes, limits: Limits = None) -> dict[str, np.ndarray]:
    """What SD1.5's and SDXL's ControlNets are shown: depth (from near to far as in `limits`), normal, edge (for those
    of Canny's lines) and lineart; and object_id, a colour for every object."""
    hints = {name: make_hint(seen, name, depth_limits=limits) for name in ("depth", "normal")}
    lines = {"edge": edge_hint(seen.edge, "canny"), "lineart": edge_hint(seen.edge)}
    return {**hints, **lines, "object_id": object_colors(seen.object_id)}


def object_colors(object_id: np.ndarray) -> np.ndarray:
    """A colour for every number; black for 0. Neighbouring numbers get colours far apart: steps of the golden ratio
    around the wheel."""
    return _wheel(object_id.astype(np.float32) * 0.618034) * (object_id > 0)[..., None]


def motion_colors(motion: np.ndarray) -> np.ndarray:
    """Where it goes as hue, how fast as brightness; black where nothing moves. motion is (H, W, 2) in pixels."""
    motion = np.where(np.isfinite(motion), motion, 0)
    speed = np.clip(np.hypot(motion[..., 0], motion[..., 1]) / FASTEST, 0, 1)
    return _wheel(np.arctan2(motion[..., 1], motion[..., 0]) / (2 * np.pi)) * speed[..., None]


def position_colors(position: np.ndarray) -> np.ndarray:
    """x, y and z as red, green and blue, up with one Blender unit and down with the next, so that no step lies on the
    grid; black on background (NaN)."""
    return np.nan_to_num(1 - np.abs(position % 2 - 1), nan=0.0, posinf=0.0, neginf=0.0)


def uv_colors(uv: np.ndarray) -> np.ndarray:
    """u as red and v as green, again and again with every tile."""
    return np.concatenate([uv % 1, np.zeros((*uv.shape[:2], 1), uv.dtype)], -1)


def _wheel(turns: np.ndarray) -> np.ndarray:
    angles = turns[..., None] + np.array([0, 1 / 3, 2 / 3], np.float32)
    return 0.5 + 0.5 * np.cos(2 * np.pi * angles)
