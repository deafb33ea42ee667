"""What several operators share: saying what is wrong, and waiting in background mode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bpy

from .. import pump
from ..bridge.errors import Cancelled, PaintoverError
from ..session import session

if TYPE_CHECKING:
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


def tell(task: Task) -> bool:
    """Print what a task does when that changes, for those who watch a background Blender; returns whether it ended."""
    line = f"Paintover: {task.fraction:4.0%} {task.stage}"
    if line != _told.get(task.job):
        _told.clear()
        _told[task.job] = line
        print(line, flush=True)
    return task.ended


_told: dict[str, str] = {}


def run(operator: bpy.types.Operator, task: Task) -> set[Any]:
    """Start a task. With a window it goes on by itself; in background this waits for its end."""
    session.start(task)
    if not bpy.app.background:
        pump.start()
        return {"FINISHED"}
    session.wait(lambda: tell(task))
    for note in task.notes:
        operator.report({"INFO"}, note)
    if task.error:
        if isinstance(task.error, Cancelled):
            return {"CANCELLED"}
        return refuse(operator, task.error)
    return {"FINISHED"}
