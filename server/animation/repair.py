"""What stays open in a frame, or is worn: how it is given to the model, and how what was painted is put in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage, signal

from .frame import Gathered, Picture, opened
from .match import HALO, REACH, Sight

CELL = 8
"""Pixels of a latent cell."""
JOIN = 1 / 64
"""By this share of the picture's longer side a repaired region reaches into what is known of its surface, softly."""
WORN = 0.85
"""Paint that is stretched to less than this share of its detail is refreshed."""
REFRESHED = 0.01
"""Share of the picture that must be worn for that."""
FAR = {False: 1 / 16, True: 1 / 4}
"""At this share of the picture's longer side from a border, a painting has half way returned to its own colours: on
objects, whose other sides lie in other light, and on the background."""


@dataclass(frozen=True, eq=False)
class Repair:
    """A picture with what has to be painted into it."""

    canvas: Picture
    """(H, W, 3): open regions carry the colours around them, softened, so that the encoder sees no hard border."""
    mask: Picture
    """(H, W): 255 in every latent cell that has something open, and in the cells' join with what is known."""
    share: NDArray[np.float32]
    """(H, W, 1): what the painting counts against the canvas: 1 where open, falling to 0 within JOIN pixels."""
    object_id: NDArray[np.int32]
    clean: NDArray[np.bool_]
    """(H, W): away from silhouettes, where painted colours are those of one surface."""

    def put_in(self, painted: Picture) -> Picture:
        """The canvas with the painting where it is open, toned so that it joins on to what is known of its surface."""
        own = painted.astype(np.float32)
        own += self._tone(self.canvas - own)
        mixed = self.canvas + (own - self.canvas) * self.share
        return np.round(mixed.clip(0, 255)).astype(np.uint8)

    def _tone(self, difference: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 (H, W, 3): what the colours known beside each region say about the painting in it.

        Differences along the border go on into the region, weighted by their distance to the third power, which
        comes close to the membrane of seamless cloning (Pérez, Gangnet and Blake 2003; Farbman, Fattal and Lischinski
        2011); with the distance from the border they fade away.
        """
        tone = np.zeros_like(difference)
        height, width = self.share.shape[:2]
        y, x = (np.arange(1 - size // CELL, size // CELL, dtype=np.float32) * CELL for size in (height, width))
        near = JOIN * max(height, width)
        kernel = (y[:, None] ** 2 + x**2 + near**2) ** -1.5
        for one in np.unique(self.object_id[self.share[..., 0] == 1]):
            own = self.object_id == one
            beside = (own & self.clean & (self.share[..., 0] > 0) & (self.share[..., 0] < 1))[..., None]
            if beside.any():
                # Of a long straight border as wide as the join, the kernel adds up to 2 near / r² at the distance r.
                rest = 2 * near / (FAR[bool(one == 0)] * max(height, width)) ** 2 / CELL**2
                weights = _blocks(beside.astype(np.float32))
                sums = _blocks(difference * beside)
                found = [signal.fftconvolve(plane, kernel, "same") for plane in np.moveaxis(sums, -1, 0)]
                total = signal.fftconvolve(weights[..., 0], kernel, "same").clip(0) + rest
                smooth = torch.from_numpy(np.stack(found) / total).float()
                fine = F.interpolate(smooth[None], (height, width), mode="bilinear")[0].permute(1, 2, 0).numpy()
                tone[own] = fine[own]
        return tone


def repair(gathered: Gathered, sight: Sight, source: Picture | None = None) -> Repair:
    """What to paint so that nothing is open any more. `source`: what to start from there, if not the colours around."""
    color, hole, ids = gathered.color.cpu().numpy(), gathered.open.cpu().numpy(), sight.object_id.cpu().numpy()
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
    return _repair(known, hole, sight)


def refresh(canvas: Picture, gathered: Gathered, sight: Sight) -> Repair | None:
    """What of a picture to paint over because its paint is worn by stretching; None where it is little."""
    worn = (gathered.detail < WORN) & ~gathered.open
    where = opened(worn, 2).cpu().numpy()
    return _repair(canvas, where, sight) if where.mean() > REFRESHED else None


def _blocks(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """(h, w, C): the means of blocks of CELL × CELL pixels."""
    height, width, channels = values.shape
    return values.reshape(height // CELL, CELL, width // CELL, CELL, channels).mean((1, 3))


def _repair(canvas: Picture, where: NDArray[np.bool_], sight: Sight) -> Repair:
    object_id = sight.object_id.cpu().numpy()
    clean = ((sight.from_edge >= REACH) & (sight.from_front >= HALO)).cpu().numpy()
    share = np.zeros(where.shape, np.float32)
    if where.any():
        distance, (row, column) = ndimage.distance_transform_edt(~where, return_indices=True)
        reach = np.where(object_id[row, column] == object_id, max(2.0, JOIN * max(where.shape)), 1.0)
        share = np.clip(1 - (distance - 0.5) / reach, 0, 1).astype(np.float32)
    height, width = where.shape
    cells = (share > 0).reshape(height // CELL, CELL, width // CELL, CELL).any(axis=(1, 3))
    mask = np.repeat(np.repeat(cells, CELL, 0), CELL, 1).astype(np.uint8) * np.uint8(255)
    return Repair(canvas, mask, share[..., None], object_id, clean)
