"""A frame's picture from what other frames of its shot show of its surfaces, and what stays open in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from .match import REACH, Match, Sight, edge_distance, sample

Picture = NDArray[np.uint8]

NEAR_EDGE = 0.05
"""What paint right at a silhouette counts against paint within a surface: painted outlines mix two surfaces."""
CELL = 8
"""Pixels of a latent cell."""
SLIT = 1
"""Open slits up to twice this many pixels wide are closed from their surface's own paint beside them."""
JOIN = 2
"""Pixels by which a repaired region reaches into what is known, with a soft edge."""


@dataclass(frozen=True, eq=False)
class Source:
    """A painted frame, as another frame sees it."""

    picture: Tensor
    """float32 (H, W, 3) in 0…1."""
    sight: Sight
    found: Match
    weight: float = 1.0
    """What it counts against the other sources."""


@dataclass(frozen=True, eq=False)
class Gathered:
    """What the sources say about a frame."""

    color: Tensor
    """float32 (H, W, 3) in 0…1; without meaning where open."""
    open: Tensor
    """bool (H, W): no source shows this surface."""


def gather(here: Sight, sources: Sequence[Source]) -> Gathered:
    """The mean of what the sources show, weighted by their weights and by how far inside its surface each one looks.

    Every source is resampled once, from its own pixels: nothing is passed on from frame to frame and blurred.
    """
    color = torch.zeros((*here.depth.shape, 3), device=here.depth.device)
    total = torch.zeros_like(here.depth)
    for source in sources:
        if source.weight > 0:
            inside = (edge_distance(source.sight, source.found) - 1) / (REACH - 1)
            weight = source.weight * (NEAR_EDGE + (1 - NEAR_EDGE) * inside) * source.found.seen
            color += weight[..., None] * sample(source.picture, source.sight, here, source.found)
            total += weight
    return Gathered((color / total.clamp_min(1e-9)[..., None]).clamp(0, 1), total == 0)


def close_slits(gathered: Gathered, object_id: Tensor) -> Gathered:
    """Close what is too thin to be painted by the mean of known pixels of the same object within 2 pixels."""
    narrow = gathered.open & ~_opened(gathered.open, SLIT)
    if not narrow.any():
        return gathered
    known, reach = ~gathered.open, 2 * SLIT
    height, width = object_id.shape
    color, total = torch.zeros_like(gathered.color), torch.zeros_like(gathered.color[..., 0])
    ids = F.pad(object_id[None, None].float(), (reach,) * 4, value=-1.0)[0, 0]
    usable = F.pad(known[None, None].float(), (reach,) * 4)[0, 0]
    padded = F.pad(gathered.color.permute(2, 0, 1)[None], (reach,) * 4)[0].permute(1, 2, 0)
    for dy in range(2 * reach + 1):
        for dx in range(2 * reach + 1):
            rows, columns = slice(dy, dy + height), slice(dx, dx + width)
            near = 1 / (1 + (dy - reach) ** 2 + (dx - reach) ** 2)
            weight = near * usable[rows, columns] * (ids[rows, columns] == object_id)
            color += weight[..., None] * padded[rows, columns]
            total += weight
    closed = narrow & (total > 0)
    mean = color / total.clamp_min(1e-9)[..., None]
    return Gathered(torch.where(closed[..., None], mean, gathered.color), gathered.open & ~closed)


def _opened(mask: Tensor, radius: int) -> Tensor:
    """Morphological opening by a square."""
    size = 2 * radius + 1
    shrunk = -F.max_pool2d(-F.pad(mask[None, None].float(), (radius,) * 4), size, 1)
    return F.max_pool2d(F.pad(shrunk, (radius,) * 4), size, 1)[0, 0] > 0


@dataclass(frozen=True, eq=False)
class Repair:
    """A picture with what has to be painted into it."""

    canvas: Picture
    """(H, W, 3): open regions carry the colours around them, softened, so that the encoder sees no hard border."""
    mask: Picture
    """(H, W): 255 in every latent cell that has something open, and in the cells' join with what is known."""
    share: NDArray[np.float32]
    """(H, W, 1): what the painting counts against the canvas: 1 where open, falling to 0 within JOIN pixels."""

    def put_in(self, painted: Picture) -> Picture:
        """The canvas with the painting where it is open."""
        mixed = self.canvas + (painted.astype(np.float32) - self.canvas) * self.share
        return np.round(mixed).astype(np.uint8)


def repair(gathered: Gathered) -> Repair:
    """What to paint so that nothing is open any more."""
    color = gathered.color.cpu().numpy()
    hole = gathered.open.cpu().numpy()
    known = np.round(color * 255).astype(np.uint8)
    if not hole.all():
        nearest = ndimage.distance_transform_edt(hole, return_distances=False, return_indices=True)
        spread = known[nearest[0], nearest[1]].astype(np.float32)
        soft = ndimage.gaussian_filter(spread, (4, 4, 0)).astype(np.uint8)
        known = np.where(hole[..., None], soft, known)
    distance = ndimage.distance_transform_edt(~hole) if hole.any() else np.full(hole.shape, np.inf)
    share = np.clip(1 - (distance - 0.5) / JOIN, 0, 1).astype(np.float32)
    height, width = hole.shape
    cells = (share > 0).reshape(height // CELL, CELL, width // CELL, CELL).any(axis=(1, 3))
    mask = np.repeat(np.repeat(cells, CELL, 0), CELL, 1).astype(np.uint8) * np.uint8(255)
    return Repair(known, mask, share[..., None])
