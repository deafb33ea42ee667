"""A frame's picture from what other frames of its shot show of its surfaces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from .match import REACH, Match, Sight, at, distance_within, edge_distance, sample

Picture = NDArray[np.uint8]

NEAR_EDGE = 0.05
"""What paint right at a silhouette counts against paint within a surface: painted outlines mix two surfaces."""
SLIT = 1
"""Open slits up to twice this many pixels wide are closed from their surface's own paint beside them."""
FEATHER = 1 / 32
"""By this share of the picture's longer side a source's paint fades in from the border of what it shows."""
LEAST = 0.02
"""What paint right at that border counts: where no source shows more, it is taken all the same."""
SPECKLE = 2
"""Pixels around one by which outlines are told from clean paint: the majority decides, so that nothing is hatched."""
TEXTURE = REACH - 1
"""Pixels around one in which contrast is measured; away from silhouettes they are its own surface's."""
MOST_GAIN = 2.0
"""By so much at most it is raised. The mean of two that have nothing in common needs √2; more only where one fades."""


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
    want of better. Towards the border of what a source shows it counts less and less, so that no seam is seen there.
    The mean of paint that differs is flatter than either: it gets the contrast back that its sources have.
    """
    layers = [_Layer.of(here, source, outlines) for source in sources if source.weight > 0]
    weights = torch.stack([layer.weight for layer in layers])
    total = weights.sum(0)
    shares = weights / total.clamp_min(1e-9)
    colors = torch.stack([layer.color for layer in layers])
    color = (shares[..., None] * colors).sum(0)
    if len(layers) > 1:
        contrast = _contrast(color, total > 0)
        own = torch.stack([_contrast(layer.color, layer.weight > 0) for layer in layers])
        gain = ((shares * own).sum(0) / contrast.clamp_min(1e-3)).clamp(1, MOST_GAIN)
        known = _share(total > 0, TEXTURE).clamp_min(1e-6)
        mean = (_share(color.permute(2, 0, 1), TEXTURE) / known).permute(1, 2, 0)
        gain = torch.where(here.from_edge >= REACH, gain, 1.0)[..., None]
        color = mean + (color - mean) * gain
    detail = (shares * torch.stack([layer.detail for layer in layers])).sum(0)
    return Gathered(color.clamp(0, 1), total == 0, detail.clamp(0, 1))


@dataclass(frozen=True, eq=False)
class _Layer:
    """What one source shows of a frame."""

    color: Tensor
    """float32 (H, W, 3); without meaning where it does not count."""
    weight: Tensor
    """float32 (H, W): 0 where it shows nothing."""
    detail: Tensor
    """float32 (H, W)."""

    @classmethod
    def of(cls, here: Sight, source: Source, outlines: bool) -> _Layer:
        there = edge_distance(source.sight, source.found)
        front = source.sight.from_front.reshape(-1)[at(source.sight, source.found)]
        usable = source.found.seen
        if not outlines:
            usable = usable & _mostly((there >= here.from_edge) & (front >= here.from_front), usable)
        inside = NEAR_EDGE + (1 - NEAR_EDGE) * (there - 1) / (REACH - 1)
        faded = LEAST + (1 - LEAST) * _feather(usable, here.object_id)
        detail = source.detail.reshape(-1)[at(source.sight, source.found)] * stretch(here, source.found)
        color = sample(source.picture, source.sight, here, source.found)
        return cls(color, source.weight * inside * faded * usable, detail)


def _contrast(color: Tensor, known: Tensor) -> Tensor:
    """float32 (H, W): standard deviation of the known pixels' brightness around each one."""
    grey = torch.where(known, color.mean(-1), 0.0)
    count, mean, square = _share(torch.stack([known.float(), grey, grey**2]), TEXTURE)
    mean, square = mean / count.clamp_min(1e-6), square / count.clamp_min(1e-6)
    return (square - mean**2).clamp_min(0).sqrt()


def _mostly(clean: Tensor, seen: Tensor) -> Tensor:
    """bool (H, W): whether most of what is seen around each pixel is clean."""
    return 2 * _share(clean & seen, SPECKLE) > _share(seen, SPECKLE)


def _feather(usable: Tensor, object_id: Tensor) -> Tensor:
    """float32 (H, W): 0 in the last pixel of what is usable of an object, 1 from FEATHER inside on."""
    reach = max(4, round(FEATHER * max(usable.shape)))
    return ((distance_within(~usable, object_id, reach + 1) - 2) / (reach - 1)).clamp(0, 1)


def _share(values: Tensor, radius: int) -> Tensor:
    """float32 (…, H, W): the mean over the square around each pixel; of a mask, the share of marked ones."""
    size, mean = 2 * radius + 1, values.reshape(1, -1, *values.shape[-2:]).float()
    for window, pad in (((size, 1), (radius, 0)), ((1, size), (0, radius))):
        mean = F.avg_pool2d(mean, window, 1, pad, count_include_pad=False)
    return mean.reshape(values.shape)


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
    narrow = gathered.open & ~opened(gathered.open, SLIT)
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


def opened(mask: Tensor, radius: int) -> Tensor:
    """Morphological opening by a square."""
    size = 2 * radius + 1
    shrunk = -F.max_pool2d(-F.pad(mask[None, None].float(), (radius,) * 4), size, 1)
    return F.max_pool2d(F.pad(shrunk, (radius,) * 4), size, 1)[0, 0] > 0


def antialiased(image: Picture, sight: Sight) -> Picture:
    """The picture with soft silhouettes: passes have one sample a pixel, and paint along them stairs. Where two
    surfaces meet, a renderer's pixel filter mixes them; so does a binomial one here, and nowhere else."""
    wide = np.pad(image.astype(np.uint16), ((1, 1), (1, 1), (0, 0)), "edge")
    rows = wide[:-2] + 2 * wide[1:-1] + wide[2:]
    soft = (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:] + 8) // 16
    edge = (sight.from_edge <= 1).cpu().numpy()[..., None]
    return np.where(edge, soft, image).astype(np.uint8)


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
