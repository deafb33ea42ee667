"""A session over a link that the test scripts, and texture jobs of a cube in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bpy
import numpy as np

from paintover import away
from paintover.bridge.messages import DONE, JobSummary, MeshesMissing, TextureResult
from paintover.bridge.parameters import Settings
from paintover.link import LinkState
from paintover.session import Session
from paintover.tasks import TaskState
from paintover.texture_task import TextureTask

JOB = "5" * 32


class ScriptedLink:
    """Stands in for the network: hands out what the test put in, and notes what was sent."""

    def __init__(self) -> None:
        self.state = LinkState.ONLINE
        self.events: list[Any] = []
        self.sent: list[Any] = []

    def poll(self, timeout: float = 0.0) -> Any | None:
        return self.events.pop(0) if self.events else None

    def send(self, message: Any) -> None:
        self.sent.append(message)

    def close(self) -> None:
        self.state = LinkState.OFFLINE


def cube() -> Any:
    bpy.ops.mesh.primitive_cube_add()
    return bpy.context.object


def start(session: Session, **settings: Any) -> TextureTask:
    values = {"size": 64, "views": 2, "texture_size": 64, **settings}
    task = TextureTask(Settings(**values), bpy.context.scene, bpy.context.selected_objects, lit=False)
    session.start(task)
    return task


def tick_while(session: Session, more: Callable[[], Any]) -> None:
    """Tick as long as there is more to do, which is not for ever."""
    for _ in range(10_000):
        if not more():
            return
        session.tick()
    raise AssertionError("it never ends")


def prepare(session: Session, task: Any) -> int:
    """Tick until the task is prepared; returns how many ticks that took."""
    ticks = 0
    while task.preparing:
        session.tick()
        ticks += 1
        assert ticks < 1000
    return ticks


def deliver(session: Session, *messages: Any) -> None:
    """Let messages arrive, and tick until all are taken and applied (a tick ends early when its time is up)."""
    session.link.events = list(messages)
    tick_while(
        session,
        lambda: session.link.events or any(task.working and not task.preparing for task in session.tasks),
    )


def result(task: TextureTask) -> TextureResult:
    (mesh,) = task._meshes.values()
    image = np.full((64, 64, 3), 200, np.uint8)
    return TextureResult(task.job, mesh.object_id, mesh.name, image, 0.9, 0.8, 0.0, task.settings)


def until(session: Session, task: Any, stage: str) -> None:
    """Tick until this stage is about to begin."""
    for _ in range(400):
        if stage in task.stage:
            return
        session.tick()
    raise AssertionError(f"it never came to {stage!r}: {task.stage}, {task.error}")


def offered(session: Session) -> TextureTask:
    task = start(session)
    prepare(session, task)
    deliver(session, MeshesMissing(()))
    assert task.state is TaskState.WAITING
    return task


def summary(job: str = JOB, state: str = DONE, **fields: Any) -> JobSummary:
    ours = away.origin(bpy.context.scene)
    plain = {"file": ours.file, "scene": ours.scene, "place": ours.place, "views": 4, "resumable": state != DONE}
    return JobSummary(job, "texture", state, "moss", **{**plain, **fields})
