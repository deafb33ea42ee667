"""Notices a worker whose stream hangs: it is given something to paint, says nothing, and does not work at it."""

from __future__ import annotations

STALLED = 20.0
"""Seconds of that after which it is replaced."""
IDLE = 0.02
"""Share of a processor that even a process which does nothing may take."""


class Stall:
    """Belongs to the stage. Times are seconds on the monotonic clock."""

    def __init__(self) -> None:
        self._waits = False
        """It was given something since it said something last. However much more comes: it has no less to do."""
        self._since = self._cpu = 0.0
        """When it was last heard or seen at work, and its processor time then."""

    def given(self) -> None:
        """The worker has got something new to paint."""
        self._waits = True

    def heard(self, now: float) -> None:
        """It has said something."""
        self._waits, self._since = False, now

    def hangs(self, now: float, cpu: float, rests: bool) -> bool:
        """To be asked now and then, with the worker's processor time. It may say nothing while it `rests`."""
        if rests or not self._waits or cpu - self._cpu > IDLE * (now - self._since):
            self._since, self._cpu = now, cpu
        return now - self._since > STALLED
