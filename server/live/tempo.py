"""The beat: tapped or set, and when the next beat or bar begins. Times are seconds on the caller's clock."""

from __future__ import annotations

import math

LONGEST_GAP = 3.0
"""Seconds between two taps of one series: a beat at 20 bpm."""
TAPS = 8
"""Taps that the tempo is measured over."""


class Tempo:
    def __init__(self, bpm: float, fastest: float) -> None:
        """`fastest`: beats a minute that taps make at the most, as when a pad bounces."""
        self.bpm = bpm
        self._fastest = fastest
        self._anchor = 0.0
        """When beat 0 was; bars count from it."""
        self._taps: list[float] = []
        self._first = 0
        """Which beat of the series the oldest kept tap was."""

    def beat(self, now: float) -> float:
        """Beats since beat 0."""
        return (now - self._anchor) * self.bpm / 60.0

    def set(self, bpm: float, now: float) -> None:
        """A new tempo from now on; the beat that is under way keeps its phase."""
        beat = self.beat(now)
        self.bpm = bpm
        self._anchor = now - beat * 60.0 / bpm

    def tap(self, now: float) -> float | None:
        """A beat is now, and a series of taps starts a bar. Returns the tempo measured so far; None from one tap."""
        if not self._taps or not 0 < now - self._taps[-1] <= LONGEST_GAP:
            self._taps, self._first = [], 0
        self._taps.append(now)
        if len(self._taps) > TAPS:
            del self._taps[0]
            self._first += 1
        count = len(self._taps) - 1
        bpm = min(60.0 * count / (now - self._taps[0]), self._fastest) if count else None
        self.bpm = bpm or self.bpm
        self._anchor = now - (self._first + count) * 60.0 / self.bpm
        return bpm

    def next(self, every: int, after: float) -> float:
        """When the first beat that is a multiple of `every` begins, later than `after`."""
        number = (math.floor(self.beat(after) / every + 1e-9) + 1) * every
        return self._anchor + number * 60.0 / self.bpm
