"""Colours for texels that no view painted: from the surface around them, and for the space between UV islands."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

NEIGHBOURS = 12
SPARSE = (2500, 125)
"""Sizes of the sparser sets of painted points, which stand for the wider surroundings."""
CHUNK = 1 << 17


def fill_unseen(
    points: NDArray[np.float32],
    normals: NDArray[np.float32],
    colors: NDArray[np.float32],
    unseen_points: NDArray[np.float32],
    unseen_normals: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Colours (M, C) of unseen points (M, 3) from painted ones (N, 3) with colours (N, C).

    The mean over the painted surface, weighted by agreement of normals over the fourth power of distance: a wall takes
    its colour from the wall around it rather than from the floor that meets it. The mean is over the nearest points
    of all painted ones and of sparser sets, in which each point stands for more surface: the nearest alone leave
    streaks in wide holes, since there they all lie in one place of the rim.
    """
    order = np.random.default_rng(0).permutation(len(points))
    sets = [order[:size] for size in sorted({len(points), *(min(size, len(points)) for size in SPARSE)}, reverse=True)]
    trees = [cKDTree(points[members]) for members in sets]
    unit, unseen_unit = _unit(normals), _unit(unseen_normals)
    result = np.empty((len(unseen_points), colors.shape[1]), np.float32)
    for start in range(0, len(unseen_points), CHUNK):
        part = slice(start, start + CHUNK)
        total = np.zeros((len(unseen_points[part]), colors.shape[1]))
        share = np.zeros((len(total), 1))
        scale: NDArray[np.float64] | None = None
        for members, tree in zip(sets, trees, strict=True):
            neighbours = np.arange(1, min(NEIGHBOURS, len(members)) + 1)
            distance, index = tree.query(unseen_points[part], k=neighbours, workers=-1)
            # Relative to the nearest point, so that no power of a distance leaves the range of floats.
            scale = np.maximum(distance[:, :1], 1e-12) if scale is None else scale
            index = members[index]
            agreement = np.einsum("mi,mki->mk", unseen_unit[part], unit[index]).clip(0, 1) + 0.02
            weights = agreement / len(members) * (scale / np.maximum(distance, scale)) ** 4
            total += np.einsum("mk,mkc->mc", weights, colors[index])
            share += weights.sum(1, keepdims=True)
        result[part] = total / share
    return result


def fill_outside(image: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """`image` (S, S, C) with every texel outside the UV islands given its nearest island texel's colour.

    A margin without end: neither bilinear filtering nor any mipmap level blends in a background colour.
    """
    if inside.all():
        return image
    row, column = distance_transform_edt(~inside, return_distances=False, return_indices=True)
    return image[row, column]


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-20)
