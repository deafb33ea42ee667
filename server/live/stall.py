"""Notices a worker whose stream hangs: it is given something to paint, and says nothing.

Who does not work at it hangs. Who does may only be slow; but what takes many times as long as any frame lately does not
end: a GPU that hangs is waited for by a thread that spins.
"""

from __future__ import annotations

from collections import deque

STALLED = 20.0
"""Seconds without work or word after which a worker is replaced."""
ENDLESS = 120.0
"""Seconds of work without a word after which it is, at the earliest."""
TIMES = 50
"""And not before it took so many times as long as the longest of the last frames."""
LATELY = 120
"""Frames."""
IDLE = 0.02
"""Share of a processor that even a process which does nothing may take."""


class Stall:
    """Belongs to the stage. Times are seconds on the monotonic clock."""

    def __init__(self) -> None:
        self._waits = False
        """It was given something since it said something last. However much more comes: it has no less to do."""
        self._heard = 0.0
        """When it said something last, or rested."""
        self._since = self._cpu = 0.0
        """When it was last heard or seen at work, and its processor time then."""
        self._took: deque[float] = deque(maxlen=LATELY)
        """What frames took, whichever worker painted them."""

    def given(self) -> None:
        """The worker has got something new to paint."""
        self._waits = True

    def heard(self, now: float, took: float = 0.0) -> None:
        """It has said something; where that is a frame like others to come, it `took` so long."""
        self._waits, self._heard, self._since = False, now, now
        if took:
            self._took.append(took)

    def hangs(self, now: float, cpu: float, rests: bool) -> float:
        """Seconds for which it has hung, or 0. To be asked now and then, with the worker's processor time. It may say
        nothing while it `rests`."""
        idle = rests or not self._waits
        if idle:
            self._heard = now
        if idle or abs(cpu - self._cpu) > IDLE * (now - self._since):  # it is less where another worker took over
            self._since, self._cpu = now, cpu
        if now - self._since > STALLED:
            return now - self._since
        endless = self._took and now - self._heard > max(ENDLESS, TIMES * max(self._took))
        return now - self._heard if endless else 0.0
