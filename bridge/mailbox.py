"""An outbox, and an inbox, in which the latest wins.

Messages leave in the order in which they came. A message that names what it supersedes (a `supersedes()` method)
takes out an older one of the same name that has not left yet, so a slow receiver never works through stale frames.
"""

from __future__ import annotations

import queue
import threading
from collections import OrderedDict
from typing import Any

from .schema import array_bytes


class Mailbox:
    """Thread-safe; at most one waiting message of each superseding name, any number of the others."""

    def __init__(self) -> None:
        self._items: OrderedDict[object, tuple[Any, int]] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False
        self._underway = 0
        self.bytes = 0
        """What waits, about."""

    def put(self, message: Any) -> None:
        """Add a message. After `close` it is dropped: nobody will take it."""
        name = message.supersedes() if hasattr(message, "supersedes") else object()
        size = array_bytes(message)
        with self._changed:
            if self._closed:
                return
            if old := self._items.pop(name, None):
                self.bytes -= old[1]
            self._items[name] = (message, size)
            self.bytes += size
            self._changed.notify()

    def put_first(self, message: Any) -> None:
        """Add a message before all others; it counts no bytes."""
        name = object()
        with self._changed:
            if not self._closed:
                self._items[name] = (message, 0)
                self._items.move_to_end(name, last=False)
                self._changed.notify()

    def wait(self) -> bool:
        """Wait until there is a message, for ever. False if there is none and it is closed."""
        with self._changed:
            return bool(self._changed.wait_for(lambda: self._items or self._closed) and self._items)

    def take(self, timeout: float | None = None) -> Any | None:
        """The oldest message, waiting up to `timeout` seconds (None: for ever). None if none came or it is closed."""
        with self._changed:
            if not self._items:
                self._changed.wait_for(lambda: self._items or self._closed, timeout)
            if not self._items:
                return None
            self._underway += 1
            message, size = self._items.popitem(last=False)[1]
            self.bytes -= size
            return message

    def done(self) -> None:
        """What was taken last has been sent."""
        with self._changed:
            self._underway -= 1
            self._changed.notify_all()

    def wait_empty(self, timeout: float) -> bool:
        """Wait until nothing waits and everything taken was reported done; False after `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closed or not (self._items or self._underway), timeout)

    def clear(self) -> None:
        """Drop all that waits."""
        with self._changed:
            self._items.clear()
            self.bytes = 0
            self._changed.notify_all()

    def close(self) -> None:
        """Let whoever waits in `take` go on; what is still inside can be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __len__(self) -> int:
        with self._changed:
            return len(self._items)


class Inbox(Mailbox):
    """What has been received and not been looked at yet: whoever was away for a while finds the newest frame only."""

    def get(self, timeout: float | None = None) -> Any:
        """The oldest message, waiting up to `timeout` seconds (None: for ever). Raises queue.Empty if none came."""
        message = self.take(timeout)
        if message is None:
            raise queue.Empty
        self.done()
        return message

    def get_nowait(self) -> Any:
        return self.get(0)
