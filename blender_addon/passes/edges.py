"""Lines where an artist would draw them: silhouettes, creases, borders of objects and materials; one pixel wide."""

from __future__ import annotations

import numpy as np

from ..bridge.scene import Camera

CREASE = np.cos(np.radians(30.0))
"""Normals of neighbouring pixels that differ by more than 30° make a crease."""

STEP = 2.0
"""Neighbours whose tangent planes miss each other by more than this many pixels make a silhouette."""


def find_edges(
    camera: Camera, depth: np.ndarray, normal: np.ndarray, object_id: np.ndarray, material: np.ndarray
) -> np.ndarray:
    """uint8 (H, W), 255 on lines, from passes of the same size: depth (H, W), camera-space normal (H, W, 3), ids.

    Every pixel is compared with its right and its lower neighbour. One of the two is marked, so that lines are one
    pixel wide; at a silhouette the one nearer to the camera, so that an outline is part of the thing it outlines.
    """
    origins, directions = camera.rays()
    hit = np.isfinite(depth)
    place = origins + np.where(hit, depth, 0)[..., None] * directions
    # Size of a pixel on the surface, if that faced the camera.
    unit = 2 / camera.projection[0, 0] / camera.width
    pixel = np.where(hit, 1.0 if camera.orthographic else depth, 0) * unit
    edge = np.zeros(depth.shape, bool)
    for here, there in (
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
    ):
        both = hit[here] & hit[there]
        # A surface that bends stays close to the tangent plane of one of the two, even at a grazing angle; a jump
        # from one surface to another leaves both.
        gap = place[there] - place[here]
        miss = np.minimum(_along(gap, normal[here]), _along(gap, normal[there]))
        jump = both & (miss > STEP * np.maximum(pixel[here], pixel[there]))
        crease = both & ((normal[here] * normal[there]).sum(-1) < CREASE)
        border = (object_id[here] != object_id[there]) | (material[here] != material[there])
        outline = hit[here] ^ hit[there]
        line = jump | crease | border | outline
        # Where two surfaces touch, neither is in front, and a rule that asked would make a saw of the line.
        there_is_near = (jump | outline) & (depth[there] < depth[here])
        edge[here] |= line & ~there_is_near
        edge[there] |= line & there_is_near
    return np.where(edge, 255, 0).astype(np.uint8)


def _along(gap: np.ndarray, normal: np.ndarray) -> np.ndarray:
    return np.abs((gap * normal).sum(-1))
