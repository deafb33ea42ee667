"""The pictures that mini's ControlNets are steered by. A program that uses mini must make them just so.

Each is (height, width, 3) uint8; a ControlNet sees it divided by 255.
"""

import numpy as np

CONTROLS = ("normal", "depth", "edge")  # normal first: it is learned first, the others are grown from it


def depth_hint(depth: np.ndarray) -> np.ndarray:
    """Disparity, near is white, nothing is black.

    depth (height, width) float, along the camera axis, +inf where nothing is hit. With d = 1 / depth, and low
    and high the 1st and 99th percentile of d over the pixels that hit something:

        hint = 255 * (0.2 + 0.8 * clip((d - low) / (high - low), 0, 1)),  0 where nothing is hit.

    The 0.2 keeps the farthest surface apart from the background. If high - low < 0.001 * high (a flat wall
    seen straight on), the fraction is taken as 1.
    """
    hit = np.isfinite(depth) & (depth > 0)
    hint = np.zeros(depth.shape, np.float32)
    if hit.any():
        disparity = 1 / depth[hit]
        low, high = np.percentile(disparity, (1, 99))
        flat = high - low < 0.001 * high
        hint[hit] = 1.0 if flat else 0.2 + 0.8 * np.clip((disparity - low) / (high - low), 0, 1)
    return np.repeat(np.round(hint * 255).astype(np.uint8)[..., None], 3, axis=-1)


def normal_hint(normal: np.ndarray) -> np.ndarray:
    """Camera-space normals as colours: x right is red, y up is green, z toward the camera is blue.

    normal (height, width, 3) float, unit length, 0 where nothing is hit.

        hint = round((normal * 0.5 + 0.5) * 255),  so (128, 128, 128) where nothing is hit.
    """
    return np.round((normal.astype(np.float32) * 0.5 + 0.5) * 255).astype(np.uint8)


def edge_hint(edge: np.ndarray) -> np.ndarray:
    """White lines on black, about one pixel wide at 256 x 256, on silhouettes, creases and object borders.

    edge (height, width) uint8, 0..255 (it may be anti-aliased). hint = edge in all three channels.
    """
    return np.repeat(edge[..., None], 3, axis=-1)
