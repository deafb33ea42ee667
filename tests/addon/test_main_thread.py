"""Work for the main thread, from another one."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

from paintover import main_thread
from paintover.bridge.errors import Cancelled


class Elsewhere:
    """Calls `do` in a thread of its own."""

    def __init__(self, work: Callable[[], Any], stopped: Callable[[], bool] = lambda: False) -> None:
        self.outcome: Any = None

        def run() -> None:
            try:
                self.outcome = main_thread.do(work, stopped)
            except BaseException as error:  # noqa: BLE001 - looked at by the test
                self.outcome = error

        self._thread = threading.Thread(target=run)
        self._thread.start()

    def finish(self, serve: bool = True) -> Any:
        for _ in range(1000):
            if not self._thread.is_alive():
                return self.outcome
            if serve:
                main_thread.serve()
            self._thread.join(0.02)
        raise AssertionError("it never ended")


def test_it_is_done_in_the_main_thread() -> None:
    assert main_thread.do(threading.current_thread, lambda: False) is threading.main_thread(), "at once"
    assert Elsewhere(threading.current_thread).finish() is threading.main_thread()


def test_what_goes_wrong_is_raised_where_it_was_asked_for() -> None:
    steps = iter(())
    assert isinstance(Elsewhere(lambda: next(steps)).finish(), StopIteration)
    assert isinstance(Elsewhere(lambda: 1 // 0).finish(), ZeroDivisionError)


def test_what_is_no_longer_wanted_is_not_done() -> None:
    done: list[int] = []
    assert isinstance(Elsewhere(lambda: done.append(1), lambda: True).finish(serve=False), Cancelled)
    main_thread.serve()
    assert not done


def test_what_has_begun_is_waited_for() -> None:
    begun = threading.Event()

    def work() -> str:
        begun.set()  # from here on it is to stop
        for _ in range(3):  # longer than the other thread waits between two looks
            asked._thread.join(main_thread.LOOK)
        return "done"

    asked = Elsewhere(work, begun.is_set)
    assert asked.finish() == "done"


def test_an_error_keeps_nothing_that_it_came_through() -> None:
    """What the garbage collector has to free is freed in any order: Blender's batches do not survive that."""
    kept: list[weakref.ref[Any]] = []

    def work() -> None:
        drawn = threading.Event()  # anything that can be referred to weakly
        kept.append(weakref.ref(drawn))
        raise ValueError("for a test")

    gc.disable()
    try:
        elsewhere = Elsewhere(work)
        assert isinstance(elsewhere.finish(), ValueError)
        elsewhere.outcome = None
        assert kept[0]() is None
    finally:
        gc.enable()
