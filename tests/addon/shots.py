"""Small shots, and a stand-in for the server that paints them: it asks for frames as the server does, and its pictures
tell what they were painted from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from paintover import properties
from paintover.animate.task import ShotTask
from paintover.bridge.errors import Cancelled, NothingToContinue
from paintover.bridge.messages import (
    CANCELLED,
    DONE,
    FAILED,
    RUNNING,
    Cancel,
    Failure,
    Follow,
    FrameGiven,
    FrameKept,
    FrameMissing,
    FramePainted,
    FrameWanted,
    JobState,
    Shot,
    Submit,
)
from paintover.bridge.shot import ShotFrame
from paintover.session import Session
from paintover.tasks import TaskState

from .scenes import add_camera, add_cube

SIZE = 96
AHEAD = 2


def film(scene: bpy.types.Scene, folder: Path, frames: int = 6) -> bpy.types.Object:
    """A cube that moves before a camera, in frames that go to `folder`; returns it."""
    add_camera(scene)
    cube = add_cube(scene)
    move(cube, (0, 0, 0), 1)
    move(cube, (0.6, 0, 0), frames)
    scene.frame_start, scene.frame_end = 1, frames
    settings = scene.paintover
    settings.size, settings.seed, settings.animate_interval, settings.prompt = SIZE, 7, 3, "moss"
    settings.shot_folder = str(folder)
    scene.frame_set(2)
    return cube


def move(ob: bpy.types.Object, place: tuple[float, float, float], frame: int) -> None:
    ob.location = place
    ob.keyframe_insert("location", frame=frame)


def start(session: Session, **arguments: Any) -> ShotTask:
    task = ShotTask(properties.snapshot(bpy.context.scene), bpy.context.scene, **arguments)
    session.start(task)
    return task


def paint(frame: ShotFrame) -> np.ndarray:
    return (frame.passes.normal.astype(np.float32) * 100 + 120).astype(np.uint8)


class Server:
    """At the other end of a ScriptedLink. Everything that was submitted stays in `shots`."""

    def __init__(self, session: Session) -> None:
        self.session: Any = session
        self.shots: dict[str, Shot] = {}
        self.frames: list[ShotFrame] = []
        """In the order in which they came."""
        self.kept: list[int] = []
        self.known: set[str] = set()
        """Jobs whose keyframes are there."""
        self._next: dict[str, int] = {}
        self._kept: dict[str, set[int]] = {}
        self.got: list[Any] = []
        """All messages."""
        self.seconds: Callable[[ShotFrame], dict[str, float]] = lambda frame: {"total": 0.1}

    def run(self, task: ShotTask, until: Callable[[], Any] = lambda: False) -> None:
        """Tick, and answer, until the task is over."""
        for _ in range(5000):
            if task.ended or until():
                return
            self.session.tick()
            self.answer()
        raise AssertionError(f"it never ended: {task.state}, {task.stage}")

    def answer(self) -> None:
        sent, self.session.link.sent = self.session.link.sent, []
        self.got += sent
        for message in sent:
            handle = getattr(self, f"_{type(message).__name__}", None)
            if handle:
                handle(message)

    def say(self, message: Any) -> None:
        self.session.link.events.append(message)

    def _Submit(self, message: Submit) -> None:
        shot = message.request
        assert isinstance(shot, Shot)
        if shot.continues and shot.continues not in self.known:
            error = NothingToContinue(place=shot.first, reason="it is not known")
            self.say(JobState(message.job, FAILED, failure=Failure.of(error)))
            return
        self.shots[message.job] = shot
        self.known.add(message.job)
        self._kept[message.job] = set()
        self._next[message.job] = max(0, shot.first - 1)
        self.say(JobState(message.job, RUNNING))
        self._want(message.job, AHEAD)

    def _want(self, job: str, count: int) -> None:
        place = self._next[job]
        count = min(count, len(self.shots[job].numbers) - place)
        if count > 0:
            self.say(FrameWanted(job, place, count))
            self._next[job] = place + count

    def _Follow(self, message: Follow) -> None:
        self.say(JobState(message.job, RUNNING))
        self._next[message.job] = len(self._kept[message.job])
        self._want(message.job, AHEAD)

    def _FrameGiven(self, message: FrameGiven) -> None:
        frame = message.frame
        self.frames.append(frame)
        assert frame.number == self.shots[message.job].plan()[message.place].number
        used = replace(frame.settings)
        self.say(FramePainted(message.job, message.place, frame.number, paint(frame), used, 1.0, self.seconds(frame)))

    def _FrameMissing(self, message: FrameMissing) -> None:
        self.say(JobState(message.job, FAILED, failure=message.failure))

    def _FrameKept(self, message: FrameKept) -> None:
        shot = self.shots[message.job]
        self.kept.append(shot.plan()[message.place].number)
        self._kept[message.job].add(message.place)
        self._want(message.job, 1)
        if max(self._kept[message.job]) == len(shot.numbers) - 1:
            self.say(JobState(message.job, DONE))

    def _Cancel(self, message: Cancel) -> None:
        self.say(JobState(message.job, CANCELLED, failure=Failure.of(Cancelled())))


def render(session: Session, **arguments: Any) -> tuple[ShotTask, Server]:
    task, server = start(session, **arguments), Server(session)
    server.run(task)
    assert task.state is TaskState.DONE, task.error
    return task, server


def numbers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def pixels(path: Path) -> np.ndarray:
    """A picture's file, float (H, W, 3) of 0…1, as Blender reads it."""
    image = bpy.data.images.load(str(path))
    image.colorspace_settings.name = "Non-Color"
    flat = np.empty(image.size[0] * image.size[1] * 4, np.float32)
    image.pixels.foreach_get(flat)
    found = flat.reshape(image.size[1], image.size[0], 4)[::-1, :, :3]
    bpy.data.images.remove(image)
    return found
