"""Where frames go: a FrameSink each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True, eq=False)
class OutputFrame:
    """What is sent out at one tick."""

    number: int
    """Counts up from 1 with every tick."""
    time: float
    """Unix time of the tick, in seconds."""
    image: np.ndarray
    """uint8 (H, W, 3), sRGB, read-only. It may have another size than the frame before."""
    fresh: bool = True
    """Whether the image is another one than the frame before had."""


class FrameSink(Protocol):
    """One way out. `send` is called from the output's thread and returns at once, whatever the other end does."""

    name: str

    def start(self) -> None:
        """Open. Raises SinkMissing where what it needs is not there."""

    def send(self, frame: OutputFrame) -> None: ...

    def close(self) -> None: ...
