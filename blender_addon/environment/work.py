"""Work on the environment in a thread of its own: what it is doing, how far it is, and how it ended."""

from __future__ import annotations

import contextlib
import errno
import threading
import traceback
from collections import deque

from ..bridge.errors import Cancelled, NoSpace, PaintoverError, SetupError
from . import record

SHOWN = 200
"""Lines that are kept to be looked at."""
FULL = (errno.ENOSPC, errno.EDQUOT)


def no_room() -> NoSpace:
    """What to say when the disk has become full in mid-work."""
    return NoSpace(f"The disk became full: nothing more can be stored in {record.folder()}.")


class Work:
    """Something that a thread does to the environment. The thread writes, Blender's main thread reads."""

    label = ""

    def __init__(self) -> None:
        self.stage = self.label
        self.fraction = 0.0
        self.lines: deque[str] = deque(maxlen=SHOWN)
        self.error: PaintoverError | None = None
        self.ended = False
        self._changes, self._seen = 1, 0
        self._cancelled = threading.Event()
        self._thread = threading.Thread(target=self._guard, name="paintover-setup", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def poll(self, wait: float = 0.0) -> bool:
        """Whether anything has changed since the last call. Waits up to `wait` seconds for the end."""
        if wait:
            self._thread.join(wait)
        seen, self._seen = self._seen, self._changes
        return seen != self._seen

    def cancel(self) -> None:
        """Have it stop; it ends soon after."""
        self._cancelled.set()

    def work(self) -> None:
        """What the thread does. Raises PaintoverError."""
        raise NotImplementedError

    def _guard(self) -> None:
        try:
            self.work()
        except PaintoverError as error:
            self.error = error
        except OSError as error:
            self.error = no_room() if error.errno in FULL else SetupError(reason=error)
        except Exception as error:  # noqa: BLE001 - a bug: told and logged, and Blender goes on
            with contextlib.suppress(OSError):  # the bug is what is told
                self.say(traceback.format_exc())
            self.error = SetupError(reason=f"{type(error).__name__}: {error}")
        finally:
            with contextlib.suppress(OSError):  # it is shown, if not logged
                if self.error:
                    self.say(str(self.error))
            self.close()
            self.ended = True
            self._changes += 1

    def close(self) -> None:
        """Let go of what the work held open."""

    def say(self, text: str) -> None:
        """Show lines to whoever watches."""
        self.lines.extend(text.rstrip().splitlines())
        self._changes += 1

    def show(self, stage: str, fraction: float) -> None:
        if (stage, round(fraction, 3)) != (self.stage, round(self.fraction, 3)):
            self.stage, self.fraction = stage, fraction
            self._changes += 1

    def check(self) -> None:
        if self._cancelled.is_set():
            raise Cancelled()
