"""What was sent to the worker and is not painted yet, by number."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

T = TypeVar("T")

MOST = 4096
"""Of which note is kept: a minute of frames. While the stage is frozen, nothing is painted for hours."""


class Underway(OrderedDict[int, T]):
    """Numbers only grow. The oldest are forgotten beyond MOST."""

    def add(self, number: int, value: T) -> None:
        self[number] = value
        if len(self) > MOST:
            self.popitem(last=False)

    def shown(self, last: int) -> dict[int, T]:
        """Take out what the picture shows that was painted from number `last`, and all before it."""
        return {number: self.pop(number) for number in [number for number in self if number <= last]}
