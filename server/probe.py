"""Answers Probe: what the link between a client and this server can do, measured with real arrays."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, lru_cache

import numpy as np

from paintover.bridge.errors import BadSize, TooLarge
from paintover.bridge.messages import Probe, ProbeAnswer
from paintover.bridge.schema import array_bytes

MAX_PROBE = 64 << 20
"""More would keep the front from its other clients."""
MAX_SIDE = 1024


def answer(probe: Probe) -> ProbeAnswer:
    """The checksum and a picture. Raises TooLarge or BadSize."""
    if (size := array_bytes(probe)) > MAX_PROBE:
        raise TooLarge(what="A probe of the link", size=size, limit=MAX_PROBE)
    if not (1 <= probe.width <= MAX_SIDE and 1 <= probe.height <= MAX_SIDE):
        raise BadSize(width=probe.width, height=probe.height, minimum=1, maximum=MAX_SIDE, reason="it is for a probe")
    return ProbeAnswer(checksum(probe.arrays), picture(probe.width, probe.height))


def checksum(arrays: Iterable[np.ndarray]) -> int:
    """A sum over every byte of `arrays`, taken as unsigned words (the rest as bytes), modulo 2**63."""
    total = 0
    for array in arrays:
        flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        whole = len(flat) // 8 * 8
        total += int(flat[:whole].view(np.uint64).sum(dtype=np.uint64)) + int(flat[whole:].sum(dtype=np.uint64))
    return total % (1 << 63)


@lru_cache(maxsize=4)
def picture(width: int, height: int) -> np.ndarray:
    """A picture like a painted one, uint8 (height, width, 3), no side over MAX_SIDE: shaded discs over a gradient."""
    part = np.ascontiguousarray(_painting()[:height, :width])
    part.flags.writeable = False
    return part


@cache
def _painting() -> np.ndarray:
    """Made once: whoever asks for many sizes should not keep the front busy."""
    rng = np.random.default_rng(1)
    x = np.linspace(0, 1, MAX_SIDE, dtype=np.float32)
    y = x[:, None]
    image = np.empty((MAX_SIDE, MAX_SIDE, 3), np.float32)
    image[..., 0], image[..., 1], image[..., 2] = 110 + 90 * x, 150 - 80 * y, 100 + 50 * np.sin(9 * x + 5 * y)
    for _ in range(12):
        row, column, radius = rng.uniform((0, 0, 20), (MAX_SIDE, MAX_SIDE, MAX_SIDE / 4))
        top, left = int(max(0, row - radius)), int(max(0, column - radius))
        part = image[top : int(row + radius) + 1, left : int(column + radius) + 1]
        down, across = (np.arange(side, dtype=np.float32) for side in part.shape[:2])
        height2 = 1 - ((down + top - row)[:, None] ** 2 + (across + left - column) ** 2) / np.float32(radius) ** 2
        shade = 40 + np.sqrt(height2.clip(0))[..., None] * rng.uniform(40, 200, 3).astype(np.float32)
        np.copyto(part, shade, where=height2[..., None] > 0)
    image += rng.integers(-5, 6, image.shape, np.int8)
    return image.clip(0, 255).astype(np.uint8)
