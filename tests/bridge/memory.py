"""For tests of shared memory: rings in memory of this process alone, and what to put there."""

from __future__ import annotations

import os
import sys

import numpy as np

from paintover.bridge.lane import Ring

SMALL = 1 << 16


def rings(size: int = SMALL) -> tuple[Ring, Ring]:
    """The two ends of one ring, in memory that only this process has."""
    memory, freed = np.zeros(size, np.uint8), np.zeros(1, np.uint64)
    return Ring(memory, freed), Ring(memory, freed)


def noise(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
