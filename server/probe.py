"""Answers Probe: what the link between a client and this server can do, measured with real arrays."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import numpy as np

from paintover.bridge.errors import BadSize, TooLarge
from paintover.bridge.messages import Probe, ProbeAnswer
from paintover.bridge.schema import array_bytes

MAX_BYTES = 64 << 20
"""More would keep the front from its other clients."""
MAX_SIDE = 2048


def answer(probe: Probe) -> ProbeAnswer:
    """The checksum and a picture. Raises TooLarge or BadSize."""
    if (size := array_bytes(probe)) > MAX_BYTES:
        raise TooLarge(what="A probe of the link", size=size, limit=MAX_BYTES)
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
    """A picture like a painted one, uint8 (height, width, 3): shaded discs over a gradient, with grain."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / max(width, height)
    image = np.stack([0.5 + 0.4 * x, 0.6 - 0.3 * y, 0.4 + 0.2 * np.sin(9 * x + 5 * y)], -1)
    for _ in range(12):
        cx, cy, radius = rng.random(3) * (1, 1, 0.25)
        inside = (height2 := 1 - ((x - cx) ** 2 + (y - cy) ** 2) / max(radius, 0.02) ** 2) > 0
        shade = np.sqrt(height2.clip(0))[..., None] * rng.random(3).astype(np.float32)
        image = np.where(inside[..., None], 0.15 + 0.8 * shade, image)
    image += rng.normal(0, 0.02, image.shape).astype(np.float32)
    painted = (image.clip(0, 1) * 255).astype(np.uint8)
    painted.flags.writeable = False
    return painted
