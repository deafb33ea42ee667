"""Passes from the arrays that a route gives."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..bridge.errors import BadSize
from ..bridge.scene import Camera, Passes

LARGEST = 8192
"""Side of an image: of larger ones, Cycles gives a part only."""
MOST_PIXELS = 8192 * 4096
"""Of one image: passes of more would take more memory than most computers have."""


def check_size(camera: Camera) -> None:
    """Raise BadSize for an image that is too large."""
    if max(camera.width, camera.height) > LARGEST or camera.width * camera.height > MOST_PIXELS:
        raise BadSize(
            width=camera.width,
            height=camera.height,
            reason=f"passes have at most {LARGEST:,} pixels on a side and {MOST_PIXELS:,} in all",
            hint="Make it smaller, for example 8192 × 4096.",
        )


def assemble(
    camera: Camera,
    depth: np.ndarray,
    normal: np.ndarray,
    object_id: np.ndarray,
    edge: np.ndarray | None,
    names: Mapping[int, str],
) -> Passes:
    """Passes, of images of the camera's size. `normal` is unit length, in camera space.

    Raises BadPasses if broken geometry gave values that are not numbers.
    """
    object_id = object_id.astype(np.uint16)
    passes = Passes(
        camera=camera,
        depth=np.ascontiguousarray(depth),
        normal=normal.astype(np.float16),
        edge=edge if edge is not None else np.zeros(depth.shape, np.uint8),
        object_id=object_id,
        names={str(number): names[number] for number in np.unique(object_id).tolist() if number in names},
    )
    passes.check_values()
    return passes
