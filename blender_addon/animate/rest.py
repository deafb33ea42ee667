"""A shot that rests: the server is told to do something else for a while, and to go on later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..bridge.messages import CANCELLED, ENDED, Cancel, JobState, Resume


class Rest:
    """Cancel, and Resume, of one job. Either may be lost with its connection; then what the server says next of the job
    (it is followed on the next connection) tells that it never came, and it is sent again."""

    def __init__(self, job: str, send: Callable[[Any], object]) -> None:
        """`send` sends a message, or loses it where there is no connection."""
        self._job, self._send = job, send
        self.resting = False
        """From `begin` until the server is told to go on. What it still asks for is from before."""
        self._resuming = False
        """Until the server has said that it goes on."""

    def begin(self) -> None:
        if not self.resting:
            self.resting, self._resuming = True, False
            self._send(Cancel(self._job))

    def end(self) -> None:
        """Have the server go on with a job that has ended unfinished."""
        self.resting, self._resuming = False, True
        self._send(Resume(self._job))

    def takes(self, message: JobState) -> bool:
        """Whether what the server says of the job is an answer to this: then it has been acted upon."""
        if message.state == CANCELLED and (self.resting or self._resuming):
            self.end()
            return True
        if message.state not in ENDED and self.resting:
            self._send(Cancel(self._job))  # the one before may have been lost
            return True
        self.resting = self._resuming = False
        return False
