"""Rays of pixels as affine functions of their place in the picture."""

from __future__ import annotations

import numpy as np


def times(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Product of matrices (…, i, j) and (…, j, k), in this thread: numpy's own wakes others up, which then wait in a
    busy loop; beside a software renderer that costs more than the work."""
    return np.einsum("...ij,...jk->...ik", one, other)


def affine_rays(to_clip: np.ndarray, width: int, height: int) -> np.ndarray:
    """float64 (2, 3, 2): x and y, in camera space, of the directions and of the origins of rays, each as a constant and
    what a pixel to the right and one down add. The places of corners and centres are those of `Camera.rays`, and so is
    the length: origin + depth · direction, where a direction's z is −1 and an origin's 0.

    `to_clip` (4, 4) is the projection, with row 0 of the picture at y = −1.
    """
    # clip.xy = ndc · clip.w, solved for x and y.
    (a, b), (c, d) = to_clip[:2, :2]
    axes = np.array([[d, -b], [-c, a]]) / (a * d - b * c)
    ndc = np.array([[-1.0, -1.0], [2 / width, 0.0], [0.0, 2 / height]])
    first = np.array([[1.0], [0.0], [0.0]])
    direction = -to_clip[3, 2] * ndc + first * to_clip[:2, 2]
    origin = to_clip[3, 3] * ndc - first * to_clip[:2, 3]
    rays: np.ndarray = times(np.stack([direction, origin]), axes.T)
    return rays
