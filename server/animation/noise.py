"""Gaussian noise that sticks to surfaces, at the picture's resolution, and its latents.

Every pixel of a shot has an origin: a place in the picture of the keyframe where its surface was seen first. Origins
are carried from keyframe to keyframe by exact correspondence, as coordinates, so that they do not blur or drift with
rounding; the noise itself is a hash of the origin's pixel and is never resampled. Where n pixels share one (the
surface has come nearer), each gets q/√n + (z − mean z): still independent and of variance 1, and their sum is √n·q
(the conditional sampling of Chang et al., How I Warped Your Noise, ICLR 2024; Deng et al. 2024, Infinite-Resolution
Integral Noise Warping).
Where fewer are seen than there are, some go unused. Latents are 8 × 8 means times 8, as in Chang et al.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from .match import Match, Sight, at

Origin = NDArray[np.float32]
"""(H, W, 3): x and y in pixels, and the number of the frame in whose picture they are."""

CHANNELS = 4
"""Of the latents of every family that there is."""


def fresh(number: int, height: int, width: int) -> Origin:
    """The origin of pixels whose surface was never seen before: their own place."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return np.stack([x, y, np.full_like(x, number)], -1).astype(np.float32)


def follow(number: int, here: Sight, there: Sight, found: Match, known: Origin) -> Origin:
    """The origin of a frame's pixels from that of another frame's; those that it does not show begin here.

    Between pixels of one surface that come from one frame, origins are interpolated; elsewhere the nearest is moved on
    by the rest of the way.
    """
    height, width = there.depth.shape
    origin = torch.tensor(known, device=here.depth.device).reshape(height * width, 3)
    x, y = found.x - 0.5, found.y - 0.5
    left, top = x.floor(), y.floor()
    fx, fy = (x - left)[..., None], (y - top)[..., None]
    columns = [(left.long() + i).clamp(0, width - 1) for i in (0, 1)]
    rows = [(top.long() + i).clamp(0, height - 1) for i in (0, 1)]
    a, b, c, d = (origin[row * width + column] for row in rows for column in columns)
    mixed = (1 - fy) * ((1 - fx) * a + fx * b) + fy * ((1 - fx) * c + fx * d)
    nearest = origin[at(there, found)].clone()
    offset = torch.stack([found.x - found.x.floor() - 0.5, found.y - found.y.floor() - 0.5], -1)
    nearest[..., :2] += offset
    # Origins next to each other on one surface are about a pixel apart; further apart, a border runs between them.
    spread = torch.stack([(corner - nearest).abs().amax(-1) for corner in (a, b, c, d)]).amax(0)
    origins = torch.where((spread < 3)[..., None], mixed, nearest).cpu().numpy()
    return np.where(found.seen.cpu().numpy()[..., None], origins, fresh(number, *here.depth.shape)).astype(np.float32)


def gaussian(origin: Origin, seed: int, channels: int = CHANNELS) -> NDArray[np.float32]:
    """float32 (H, W, channels): independent normal noise that goes with the origins."""
    height, width = origin.shape[:2]
    cell = np.floor(origin).astype(np.int64).reshape(-1, 3)
    key = (
        ((cell[:, 2] & 0xFFFFF) << 40)
        | (((cell[:, 1] + (1 << 18)) & 0xFFFFF) << 20)
        | ((cell[:, 0] + (1 << 18)) & 0xFFFFF)
    )
    _, group, counts = np.unique(key, return_inverse=True, return_counts=True)
    own = _normal(key, seed, channels)
    shared = counts[group]
    crowded = np.flatnonzero(shared > 1)
    if len(crowded):
        # Noise of the pixel in the frame tells apart those that share an origin.
        z = _normal(crowded.astype(np.int64) | (1 << 60), seed, channels)
        numbers, inside = np.unique(group[crowded], return_inverse=True)
        total = np.stack([np.bincount(inside, z[:, i], len(numbers)) for i in range(channels)], -1)
        n = shared[crowded, None]
        own[crowded] = own[crowded] / np.sqrt(n) + z - total[inside] / n
    return own.reshape(height, width, channels).astype(np.float32)


def to_latents(noise: NDArray[np.float32], cell: int = 8) -> NDArray[np.float32]:
    """(H, W, C) -> (C, H / cell, W / cell), of variance 1 again."""
    height, width, channels = noise.shape
    mean = noise.reshape(height // cell, cell, width // cell, cell, channels).mean(axis=(1, 3))
    return np.ascontiguousarray(mean.transpose(2, 0, 1) * np.float32(cell))


def _normal(key: NDArray[np.int64], seed: int, channels: int) -> NDArray[np.float64]:
    """(N, channels) of normal noise from whole numbers: SplitMix64 (Steele et al. 2014), then Box and Muller (1958)."""
    found = np.empty((len(key), channels))
    start = _mixed(np.array([seed], np.uint64))[0]
    for pair in range((channels + 1) // 2):
        bits = _mixed(_mixed(key.astype(np.uint64) ^ start) + np.uint64(pair + 1))
        radius = np.sqrt(-2 * np.log(((bits >> np.uint64(32)).astype(np.float64) + 0.5) / 2**32))
        angle = 2 * np.pi * (bits & np.uint64(0xFFFFFFFF)).astype(np.float64) / 2**32
        found[:, 2 * pair] = radius * np.cos(angle)
        if 2 * pair + 1 < channels:
            found[:, 2 * pair + 1] = radius * np.sin(angle)
    return found


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
