"""How the stream does: which picture shows which change, how long that took, and what was never shown.

What waits for its picture is bounded: while nothing is painted (Freeze, a job, a worker that fails), more
and more comes.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

MEASURED = 120
"""Frames over which rate and latency are measured."""
LATELY = 2.0
"""Seconds over which the rate is."""
WAITING = 4096
"""Control frames and settings that wait for their picture at the most: a minute of frames."""

Origin = TypeVar("Origin")


class Measure(Generic[Origin]):
    """Belongs to the stage. Times are seconds on the monotonic clock."""

    def __init__(self) -> None:
        self.dropped = 0
        """Control frames that newer ones replaced before they were painted."""
        self._origins: dict[int, Origin] = {}
        self._sent: dict[int, float] = {}
        self._arrivals: deque[float] = deque(maxlen=MEASURED)
        self._latencies: deque[float] = deque(maxlen=MEASURED)

    def control(self, number: int, origin: Origin) -> None:
        """A control frame has come from somebody."""
        self._origins[number] = origin
        if len(self._origins) > WAITING:
            del self._origins[next(iter(self._origins))]
            self.dropped += 1

    def forget(self, gone: Callable[[Origin], bool]) -> None:
        """Whoever sent these frames has gone: nobody is to be held by them."""
        self._origins = {number: origin for number, origin in self._origins.items() if not gone(origin)}

    def settings(self, number: int, now: float) -> None:
        """Settings were sent."""
        self._sent[number] = now
        if len(self._sent) > WAITING:
            del self._sent[next(iter(self._sent))]

    def rest(self) -> None:
        """Nothing is painted from now on: whatever waits is not late."""
        self._sent.clear()

    def picture(self, control: int, settings: int, now: float) -> Origin | None:
        """A picture has come that was painted from these. Returns whose control frame that was, if it is the first."""
        found = None
        for number in [number for number in self._origins if number <= control]:
            origin = self._origins.pop(number)
            if number == control:
                found = origin
            else:
                self.dropped += 1
        if shown := [number for number in self._sent if number <= settings]:
            # The oldest change that this picture is the first to show has waited longest.
            self._latencies.append(now - min(self._sent.pop(number) for number in shown))
        self._arrivals.append(now)
        return found

    @property
    def latency(self) -> float:
        """Seconds from a change to the first picture that shows it, in the median; 0 while that is not known."""
        return statistics.median(self._latencies) if self._latencies else 0.0

    def rate(self, now: float) -> float:
        """Pictures a second, lately."""
        arrivals = [when for when in self._arrivals if now - when < LATELY]
        return (len(arrivals) - 1) / (arrivals[-1] - arrivals[0]) if len(arrivals) > 1 else 0.0
