"""How fast the frames of a shot come, in words."""

from __future__ import annotations

import time
from collections import deque


class Pace:
    def __init__(self, total: int, interval: int = 1) -> None:
        """`interval`: frames from keyframe to keyframe."""
        self.total = total
        self._interval = interval
        self.done = 0
        """Frames that are on disk."""
        self.painted = 0
        """Those of them that were painted now."""
        self._moments: deque[float] = deque(maxlen=65)
        """Of the last frames: keyframes come one by one, those between in a rush."""

    def start(self, done: int) -> None:
        """So many were there before."""
        self.done = done

    def begin(self) -> None:
        """Work on the first frame begins."""
        if not self._moments:
            self._moments.append(time.monotonic())

    def count(self) -> None:
        """A frame is on disk."""
        self.done += 1
        self.painted += 1
        self._moments.append(time.monotonic())

    @property
    def per_minute(self) -> float:
        """Frames a minute, of late; 0 while that is not known."""
        if len(self._moments) < 2:
            return 0.0
        return 60 * (len(self._moments) - 1) / max(self._moments[-1] - self._moments[0], 1e-3)

    def words(self) -> str:
        """“Frame 12 of 240: 8.2 a minute, 28 min left”. Of the time nothing is said before there are frames between
        keyframes: keyframes, which come first, take several times as long."""
        text = f"Frame {self.done} of {self.total}"
        if self.painted > self._interval and self.per_minute and self.done < self.total:
            text += f": {self.per_minute:.1f} a minute, {duration(60 * self.left / self.per_minute)} left"
        return text

    @property
    def left(self) -> int:
        return self.total - self.done


def duration(seconds: float) -> str:
    """“40 s”, “12 min”, “3 h 20 min”."""
    if seconds < 90:
        return f"{round(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
