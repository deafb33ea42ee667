"""Long work in small steps and threads."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from paintover import steps
from paintover.bridge.errors import SceneError

from .scenes import finish


@pytest.fixture
def foreground(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a Blender with a window, where nobody waits for a thread."""
    monkeypatch.setattr(steps, "bpy", type("bpy", (), {"app": type("app", (), {"background": False})}))


def test_a_thread_is_waited_for_tick_by_tick(foreground: None) -> None:
    may_end = threading.Event()

    def work() -> str:
        assert may_end.wait(10)
        return threading.current_thread().name

    running = steps.in_thread(work)
    assert [next(running) for _ in range(3)] == [steps.WAIT] * 3, "the caller stays free"
    may_end.set()
    assert finish(running) == "paintover-work"


def test_what_a_thread_raises_reaches_the_caller(foreground: None) -> None:
    def work() -> None:
        raise SceneError(reason="it is odd")

    with pytest.raises(SceneError, match="odd"):
        finish(steps.in_thread(work))


def test_background_waits_in_one_step() -> None:
    done: list[Any] = []
    running = steps.in_thread(lambda: done.append(1))
    with pytest.raises(StopIteration):
        next(running)
    assert done == [1]
