"""A change that comes while a frame has hardly begun has the frame begin anew.

A change waits for the rest of the frame that is being painted, and for its own: for two whole frames, where it just
missed the first one. So it waits for two less EARLY at most, and little that was painted is lost. On the CPU, where
frames are long, and can be left between two networks.
"""

from __future__ import annotations

import time
from collections.abc import Callable

EARLY = 1 / 5
"""Share of a frame that may be lost."""


class Anew(Exception):
    """The frame is not to be painted to its end: there is something newer to paint."""


class Early:
    """Watches over a stream's frames. Of two in a row only one is begun anew, however many changes come."""

    def __init__(self) -> None:
        self._begun = self._took = 0.0
        self._lets = False

    def begin(self, changed: Callable[[], bool]) -> Callable[[], None]:
        """A frame begins. What is returned is to be called whenever it can be left, and raises Anew if it is to be."""
        self._begun = time.perf_counter()

        def look() -> None:
            if self._lets and time.perf_counter() - self._begun < EARLY * self._took and changed():
                self._lets = False
                raise Anew

        return look

    def painted(self) -> None:
        """The frame was painted without being left."""
        self._took, self._lets = time.perf_counter() - self._begun, True
