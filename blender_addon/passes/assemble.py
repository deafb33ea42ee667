"""Passes from the arrays that a route gives."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..bridge.scene import Camera, Passes


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
