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

from .match import REACH, Match, Sight, at, edge_distance, sample

Picture = NDArray[np.uint8]

NEAR_EDGE = 0.05
"""What paint right at a silhouette counts against paint within a surface: painted outlines mix two surfaces."""
CELL = 8
"""Pixels of a latent cell."""
SLIT = 1
"""Open slits up to twice this many pixels wide are closed from their surface's own paint beside them."""
JOIN = 1 / 64
"""By this share of the picture's longer side a repaired region reaches into what is known of its surface, softly."""
WORN = 0.85
"""Paint that is stretched to less than this share of its detail is refreshed."""
REFRESHED = 0.01
"""Share of the picture that must be worn for that."""


@dataclass(frozen=True, eq=False)
class Source:
    """A painted frame, as another frame sees it."""

    picture: Tensor
    """float32 (H, W, 3) in 0…1."""
    sight: Sight
    detail: Tensor
    """float32 (H, W) in 0…1: the picture's detail against freshly painted. Stretched paint has less."""
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
    detail: Tensor
    """float32 (H, W) in 0…1: of the colour."""

    def filled(self, other: Gathered) -> Gathered:
        """This, and where it is open, the other."""
        color = torch.where(self.open[..., None], other.color, self.color)
        return Gathered(color, self.open & other.open, torch.where(self.open, other.detail, self.detail))


def gather(here: Sight, sources: Sequence[Source], outlines: bool = False) -> Gathered:
    """The mean of what the sources show, weighted by their weights and by how far inside its surface each one looks.

    Every source is resampled once, from its own pixels: nothing is passed on from frame to frame and blurred. Paint is
    not taken from nearer a silhouette than where it goes to, nor from nearer to what is in front: painted outlines mix
    two surfaces and colour the farther one around them, on which that would be left behind. With `outlines` it is, for
    want of better.
    """
    color = torch.zeros((*here.depth.shape, 3), device=here.depth.device)
    total, detail = torch.zeros_like(here.depth), torch.zeros_like(here.depth)
    for source in sources:
        if source.weight > 0:
            there = edge_distance(source.sight, source.found)
            front = source.sight.from_front.reshape(-1)[at(source.sight, source.found)]
            clean = (there >= here.from_edge) & (front >= here.from_front)
            usable = source.found.seen & (clean | outlines)
            inside = (there - 1) / (REACH - 1)
            weight = source.weight * (NEAR_EDGE + (1 - NEAR_EDGE) * inside) * usable
            color += weight[..., None] * sample(source.picture, source.sight, here, source.found)
            detail += weight * source.detail.reshape(-1)[at(source.sight, source.found)] * stretch(here, source.found)
            total += weight
    scale = 1 / total.clamp_min(1e-9)
    return Gathered((color * scale[..., None]).clamp(0, 1), total == 0, (detail * scale).clamp(0, 1))


def stretch(here: Sight, found: Match) -> Tensor:
    """float32 (H, W), at most 1: how many of the other frame's pixels there are for a pixel of this one, in the
    direction in which there are fewest (the smaller singular value of the match's Jacobian). 1 at silhouettes."""
    rows = [torch.stack(torch.gradient(values), -1) for values in (found.y, found.x)]
    (a, b), (c, d) = (row.unbind(-1) for row in rows)
    mean, half = (a * a + b * b + c * c + d * d) / 2, (a * d - b * c).abs()
    # σ² are the roots of σ⁴ − 2 mean σ² + half²; the smaller is half² over the larger.
    larger = mean + (mean.square() - half.square()).clamp_min(0).sqrt()
    smaller = half / larger.clamp_min(1e-12).sqrt()
    return torch.where((here.from_edge >= REACH) & found.seen, smaller.clamp_max(1), 1.0)


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
    color = torch.where(closed[..., None], mean, gathered.color)
    return Gathered(color, gathered.open & ~closed, torch.where(closed, 1.0, gathered.detail))


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


def repair(gathered: Gathered, object_id: Tensor, source: Picture | None = None) -> Repair:
    """What to paint so that nothing is open any more. `source`: what to start from there, if not the colours around."""
    color, hole, ids = gathered.color.cpu().numpy(), gathered.open.cpu().numpy(), object_id.cpu().numpy()
    known = np.round(color * 255).astype(np.uint8)
    if source is not None:
        known = np.where(hole[..., None], source, known)
    elif hole.any() and not hole.all():
        spread = known.astype(np.float32)
        for one in [None, *np.unique(ids[hole])]:
            # First from anything near, then from the nearest of the own surface where some of it is known.
            missing = hole if one is None else hole | (ids != one)
            if not missing.all():
                row, column = ndimage.distance_transform_edt(missing, return_distances=False, return_indices=True)
                into = hole if one is None else hole & (ids == one)
                spread[into] = known[row[into], column[into]]
        soft = ndimage.gaussian_filter(spread, (3, 3, 0)).astype(np.uint8)
        known = np.where(hole[..., None], soft, known)
    return _repair(known, hole, ids)


def refresh(canvas: Picture, gathered: Gathered, object_id: Tensor) -> Repair | None:
    """What of a picture to paint over because its paint is worn by stretching; None where it is little."""
    worn = (gathered.detail < WORN) & ~gathered.open
    where = _opened(worn, 2).cpu().numpy()
    return _repair(canvas, where, object_id.cpu().numpy()) if where.mean() > REFRESHED else None


def _repair(canvas: Picture, where: NDArray[np.bool_], object_id: NDArray[np.int32]) -> Repair:
    share = np.zeros(where.shape, np.float32)
    if where.any():
        distance, (row, column) = ndimage.distance_transform_edt(~where, return_indices=True)
        reach = np.where(object_id[row, column] == object_id, max(2.0, JOIN * max(where.shape)), 1.0)
        share = np.clip(1 - (distance - 0.5) / reach, 0, 1).astype(np.float32)
    height, width = where.shape
    cells = (share > 0).reshape(height // CELL, CELL, width // CELL, CELL).any(axis=(1, 3))
    mask = np.repeat(np.repeat(cells, CELL, 0), CELL, 1).astype(np.uint8) * np.uint8(255)
    return Repair(canvas, mask, share[..., None])


def deflickered(image: Picture, gathered: Gathered, share: float) -> Picture:
    """The picture mixed with what is known of it: O = M (β · clamp(W, 3 × 3) + (1 − β) · I) + (1 − M) I.

    The known colours W are clamped to the range of the picture's own around each pixel, so that nothing ghosts.
    """
    own = torch.tensor(image, device=gathered.color.device).float()
    channels = own.permute(2, 0, 1)[None]
    high, low = F.max_pool2d(channels, 3, 1, 1), -F.max_pool2d(-channels, 3, 1, 1)
    known = torch.minimum(torch.maximum(gathered.color.permute(2, 0, 1)[None] * 255, low), high)[0].permute(1, 2, 0)
    mixed = torch.where(gathered.open[..., None], own, torch.lerp(own, known, share))
    return np.asarray(mixed.round().to(torch.uint8).cpu().numpy())
