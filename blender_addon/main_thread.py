"""Work for Blender's main thread, from the thread in which Blender calls a render engine.

Scene and graphics belong to the main thread: what another one did with them would either clash with the artist, or lock
him out. (A render engine that asks Blender for a graphics context has Blender's own for as long as it renders, and the
window stands still with the first redraw.)
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from .bridge.errors import Cancelled

T = TypeVar("T")
LOOK = 0.05
"""Seconds between looks at whether the work is still wanted."""


class _Asked:
    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self._begins = threading.Lock()
        self._wanted = True
        self.done = threading.Event()
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        with self._begins:
            wanted = self._wanted
            self._wanted = False
        try:
            if wanted:
                self.result = self._work()
        except BaseException as error:  # noqa: BLE001 - whoever asked gets it
            self.error = error
        self.done.set()

    def give_up(self) -> bool:
        """Whether it will not be done; False if it has begun."""
        with self._begins:
            wanted, self._wanted = self._wanted, False
        return wanted


_asked: queue.SimpleQueue[_Asked] = queue.SimpleQueue()


def do(work: Callable[[], T], stopped: Callable[[], bool]) -> T:
    """The result of `work`: done at once in the main thread, else there with the pump's next tick. Raises what it
    raises, and Cancelled if `stopped()` before it has begun: what has begun is waited for."""
    if threading.current_thread() is threading.main_thread():
        return work()
    asked = _Asked(work)
    _asked.put(asked)
    while not asked.done.wait(LOOK):
        if stopped() and asked.give_up():
            raise Cancelled()
    try:
        if asked.error:
            raise asked.error
        return asked.result  # type: ignore[no-any-return]
    finally:
        asked.error = None  # it came through `run`, and so holds on to `asked`, and to all that was drawn with


def serve() -> None:
    """In the main thread: do one thing that was asked for."""
    try:
        asked = _asked.get_nowait()
    except queue.Empty:
        return
    asked.run()
