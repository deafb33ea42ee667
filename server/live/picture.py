"""A painted frame, and the depths of what it was painted from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

KEPT = 64 << 20
"""Bytes of depth, of control frames that may still be painted."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A painted frame."""

    image: np.ndarray
    """uint8 (H, W, 3), sRGB."""
    number: int
    """Counts up."""
    seed: int
    arrived: float
    """On the monotonic clock."""
    depth: np.ndarray | None = None
    """float32 (h, w): the depth that it was painted from, if `Stage.keeps_depth`."""


class Depths:
    """Of control frames that are not painted yet, and of the last that is."""

    def __init__(self) -> None:
        self._depths: dict[int, np.ndarray] = {}

    def keep(self, number: int, depth: np.ndarray) -> None:
        """A control frame is to be painted from."""
        self._depths[number] = depth.copy()
        while len(self._depths) * depth.nbytes > KEPT:
            del self._depths[next(iter(self._depths))]

    def of(self, number: int) -> np.ndarray | None:
        """The depth of the control frame that was painted; older ones are not painted any more."""
        self._depths = {kept: depth for kept, depth in self._depths.items() if kept >= number}
        return self._depths.get(number)
