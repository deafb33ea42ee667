"""What several operators share: saying what is wrong, and waiting in background mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import bpy

from .. import pump
from ..bridge.errors import Cancelled, PaintoverError
from ..session import session

if TYPE_CHECKING:
    from ..environment.installation import Work
    from ..tasks import Task


def refuse(operator: bpy.types.Operator, error: PaintoverError) -> set[Any]:
    """Report an error in plain words with its next step."""
    operator.report({"ERROR"}, str(error))
    return {"CANCELLED"}


def needs_server(cls: Any) -> bool:
    """For poll(): whether there is a server, and why not."""
    if not session.online:
        cls.poll_message_set("Not connected: press Connect first")
        return False
    return True


def needs_renderer(cls: Any) -> bool:
    """For poll(): whether passes can be rendered now, and why not."""
    if bpy.app.is_job_running("RENDER"):
        cls.poll_message_set("Wait until Blender's own render is done")
        return False
    return True


def tell(work: Task | Work) -> bool:
    """Print how far it is when that changes, for those who watch a background Blender; returns whether it ended."""
    global _told
    line = f"Paintover: {work.fraction:4.0%} {work.stage}"
    if line != _told:
        _told = line
        print(line, flush=True)
    return work.ended


_told = ""


def run(operator: bpy.types.Operator, task: Task) -> set[Any]:
    """Start a task."""

    def wait() -> PaintoverError | None:
        session.wait(lambda: tell(task))
        for note in task.notes:
            operator.report({"INFO"}, note)
        return task.error

    session.start(task)
    return go_on(operator, wait)


def go_on(operator: bpy.types.Operator, wait: Callable[[], PaintoverError | None]) -> set[Any]:
    """What an operator does once it has begun something: with a window that goes on by itself; in background, where no
    timer fires, `wait` waits for its end and returns what went wrong, if anything did."""
    if not bpy.app.background:
        pump.start()
        return {"FINISHED"}
    error = wait()
    if error is None:
        return {"FINISHED"}
    return {"CANCELLED"} if isinstance(error, Cancelled) else refuse(operator, error)
