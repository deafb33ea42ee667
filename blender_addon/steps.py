"""Long work in small steps, so that Blender stays responsive: generators that the session advances, a little in every
tick, and threads for what needs no bpy.

A step yields the stage that comes next (to be shown before it begins), GO_ON (more of the same stage), or WAIT (a
thread is at work: nothing to do in this tick).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from typing import Any, TypeVar

import bpy

GO_ON = ""
WAIT = None

Step = str | None
T = TypeVar("T")
Steps = Generator[Step, None, T]


def in_thread(work: Callable[[], T]) -> Steps[T]:
    """The result of `work`, which runs in a thread and must not touch bpy. What it raises is raised here."""
    outcome: dict[str, Any] = {}

    def run() -> None:
        try:
            outcome["result"] = work()
        except BaseException as error:  # noqa: BLE001 - whoever waits for the result gets it
            outcome["error"] = error

    thread = threading.Thread(target=run, name="paintover-work", daemon=True)
    thread.start()
    if bpy.app.background:  # nothing to keep responsive
        thread.join()
    while thread.is_alive():
        yield WAIT
    if "error" in outcome:
        raise outcome["error"]
    return outcome["result"]  # type: ignore[no-any-return]
