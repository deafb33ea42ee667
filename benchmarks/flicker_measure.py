"""How much frames flicker: differences along exact correspondences, and a guard against what blur would hide."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from paintover.server.animation.match import REACH, Match, Sight, edge_distance, match, sample

from .shots import Shot

Pictures = Mapping[int, np.ndarray]
"""Frame number -> uint8 (H, W, 3)."""


def warp_error(shot: Shot, pictures: Pictures, back: int) -> float:
    """E_k = Σ M‖I_t − W(I_{t−k})‖² / Σ M over all frames, colours in 0…1, the squared norm over three channels."""
    error, count = 0.0, 0.0
    for number in range(1 + back, shot.frames + 1):
        here, there, found = correspondence(shot, number, number - back)
        moved = sample(tensor(pictures[number - back]), there, here, found)
        difference = ((tensor(pictures[number]) - moved) ** 2).sum(-1)
        error += float(difference[found.seen].sum())
        count += float(found.seen.sum())
    return error / max(count, 1.0)


def correspondence(shot: Shot, number: int, other: int) -> tuple[Sight, Sight, Match]:
    here, there = Sight.of(shot.passes(number)), Sight.of(shot.passes(other))
    return here, there, match(here, there, shot.link(number, other))


def sharpness(shot: Shot, pictures: Pictures) -> float:
    """Mean squared Laplacian inside surfaces (away from silhouettes), over all frames: detail that blur takes away."""
    total, count = 0.0, 0
    for number, picture in pictures.items():
        grey = picture.astype(np.float64).mean(-1) / 255
        laplacian = 4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
        sight = Sight.of(shot.passes(number))
        inside = ((sight.from_edge >= REACH) & (sight.object_id > 0)).numpy()[1:-1, 1:-1]
        total += float((laplacian[inside] ** 2).sum())
        count += int(inside.sum())
    return total / max(count, 1)


def tensor(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(picture.astype(np.float32) / 255)


__all__ = ["correspondence", "edge_distance", "sharpness", "tensor", "warp_error"]
