"""Paint a shot: the server asks for frames, they are read behind the scenes, and what is painted is written to disk."""

from __future__ import annotations

import contextlib
import random
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import bpy
import numpy as np

from .. import folders
from ..bridge.errors import (
    Cancelled,
    ConnectionLost,
    LinkError,
    NothingToContinue,
    PaintoverError,
    SceneError,
    SenderGone,
    ServerFailure,
    UnknownJob,
    WrongProtocol,
    WrongToken,
)
from ..bridge.messages import (
    CANCELLED,
    DONE,
    Cancel,
    Failure,
    Follow,
    FrameGiven,
    FrameKept,
    FrameMissing,
    FramePainted,
    FrameWanted,
    JobState,
    Progress,
    Shot,
    Submit,
)
from ..bridge.parameters import Settings
from ..bridge.shot import interval_of
from ..link import Link
from ..passes import gpu_route
from ..steps import GO_ON, WAIT, Steps, in_thread
from ..tasks import Task, TaskState, find_scene
from . import newest, timeline
from .files import Folder
from .moments import Offstage
from .pace import Pace
from .parts import Part
from .rest import Rest

PREVIEW = 256
"""Longer side of the frame that the panel shows, in pixels."""
PATIENCE = 600.0
"""Seconds for which background mode tries to connect again."""
TRIES = 3
"""How often a job is begun anew that ended with nothing painted."""


class ShotTask(Task):
    """Writes the painted frames into the scene's folder. What lies there already, and is what would be painted, is
    kept."""

    label = "Render Shot"
    reconnects = True
    needs_file = True

    def __init__(self, settings: Settings, scene: bpy.types.Scene, *, again: bool = False) -> None:
        """`again`: paint all frames, whatever lies in the folder. Raises NoCamera, SceneError, NoGpu, RenderFailed."""
        self.folder = folder_of(scene)
        self.folder.check()
        self._again = again
        seed = settings.seed
        if seed < 0:
            found = None if again else kept_seed(scene, self.folder)
            looked = None if again else newest.seed_of(scene)
            seed = next((one for one in (found, looked) if one is not None), random.randrange(2**31))
        self._seed_chosen = settings.seed < 0
        self._begin(replace(settings, seed=seed), scene, timeline.numbers(scene))

    def _begin(
        self, settings: Settings, scene: bpy.types.Scene, numbers: list[int], fixed: tuple[str, ...] = ()
    ) -> None:
        """`fixed`: settings that do not animate."""
        self.notes: list[str] = []
        self._look = Offstage(scene, settings, self.note, fixed)
        self._parts = [
            part_of(scene, self._look, settings, shown)
            for shown in timeline.parts(numbers, lambda number: timeline.camera_at(scene, number))
        ]
        self._part: Part | None = None
        self._surveyed = False
        self._link: Link | None = None
        self._submitted = self._over = self._spent = False
        self._continues = ""
        self._tries = 0
        self._alone_since = 0.0
        self.pace = Pace(len(numbers), interval_of(settings))
        notes = self.notes
        super().__init__(settings, scene)
        self.notes = notes
        self._rest = Rest(self.job, self._send)

    # ------------------------------------------------------------ out

    def prepare(self) -> Steps[None]:
        if not self._surveyed:
            yield from self._survey()
            self._surveyed = True
            self.pace.start(self.pace.total - sum(len(part.todo) for part in self._parts))
        yield "Sending to the server"
        self._part = next((part for part in self._parts if part.todo), None)

    def _survey(self) -> Steps[None]:
        if self._again:
            return
        for part in self._parts:
            yield from part.survey(self.folder, self._say)

    def _say(self, stage: str) -> None:
        self.stage = stage

    def request(self) -> Shot:
        assert self._part is not None
        part, first = self._part, self._part.first
        self._continues = part.continues(self.folder) if first else ""
        numbers, width, height = part.footage.numbers, self._look.width, self._look.height
        if not self._continues:
            return Shot(self.settings, numbers, width, height)
        return Shot(self.settings, numbers, width, height, continues=self._continues, first=first)

    def offer(self, link: Link) -> None:
        self._link = link
        if self._part is None:
            self._finish()
            return
        if self._spent:
            self.job = uuid.uuid4().hex
            self._rest = Rest(self.job, self._send)
        self._spent = True
        message = Submit(self.job, self.request(), self.origin())
        self.state, self.stage = TaskState.WAITING, "Waiting for the server"
        self._over = self._submitted = False
        try:
            link.send(message)
            self._submitted = True
        except ConnectionLost as error:
            self.lose(error)

    def take_up(self, link: Link) -> None:
        self._lost, self._alone_since = None, 0.0
        if self.sent and self._submitted:
            self._arrived.clear()  # what is still wanted, or not kept, comes again
            link.send(Follow(self.job))
        elif self.sent:
            self.offer(link)

    def lose(self, error: PaintoverError) -> None:
        """The session connects again. What was wanted is wanted again then, and what is painted waits on the server."""
        self._alone_since = self._alone_since or time.monotonic()
        hopeless = isinstance(error, WrongToken | WrongProtocol) or not isinstance(error, LinkError)
        if hopeless or (bpy.app.background and time.monotonic() - self._alone_since > PATIENCE):
            self.fail(error)
        elif self.sent:
            self.stage = "Connection lost: connecting again"

    # ------------------------------------------------------------ back

    def receive(self, message: Any) -> None:
        if not self._submitted:  # of a job before: this one's has not begun
            return
        if isinstance(message, Progress):
            if not self.ended and not self.pace.painted:
                self.stage = message.stage
            return
        super().receive(message)

    def apply(self, result: Any) -> Steps[None] | None:
        if isinstance(result, FrameWanted):
            return self._give(result)
        if isinstance(result, FramePainted):
            return self._take(result)
        return None

    def _give(self, wanted: FrameWanted) -> Steps[None]:
        part = self._part
        assert part is not None
        self.pace.begin()
        for place in range(wanted.place, min(wanted.place + wanted.count, len(part.footage.places))):
            if bpy.app.is_job_running("RENDER"):
                yield from self._wait_for_render()
                return
            try:
                frame = yield from part.frame(place)
            except PaintoverError as error:
                self._send(FrameMissing(self.job, place, Failure.of(error)))
                return
            self._send(FrameGiven(self.job, place, frame))
            yield GO_ON

    def _wait_for_render(self) -> Steps[None]:
        """Have the server do something else while Blender renders: what it renders may wait for that server."""
        self._rest.begin()
        self.stage = "Waiting for Blender's render"
        while bpy.app.is_job_running("RENDER"):
            yield WAIT

    def _take(self, painted: FramePainted) -> Steps[None]:
        part = self._part
        assert part is not None
        if painted.place in part.todo:
            yield from self.keep(part, painted)
            part.todo.discard(painted.place)
            self._tries = 0
            self.pace.count()
            self.finished = self.pace.done
            self.fraction = self.pace.done / self.pace.total
            self.stage = self.words()
        step = max(1, max(painted.image.shape) // PREVIEW)
        self.preview = np.ascontiguousarray(painted.image[::step, ::step])
        newest.keep(self._scene, painted.image)
        self._send(FrameKept(self.job, painted.place))
        if part.enough(painted.place) and not self._over and painted.place + 1 < len(part.footage.places):
            self._over = True
            self._send(Cancel(self.job))

    def keep(self, part: Part, painted: FramePainted) -> Steps[None]:
        """Put a painted frame where it belongs. Raises RenderFailed."""
        request = {
            "frame": painted.number,
            "place": painted.place,
            "key": part.footage.places[painted.place].key,
            "fingerprint": part.prints.get(painted.number, ""),
            "job": self.job,
            "shot_seed": self.settings.seed,
            "seed_chosen": self._seed_chosen,
            "fresh": painted.fresh,
            "seconds": painted.seconds,
            "settings": asdict(painted.settings),
        }
        yield from in_thread(lambda: self.folder.write(painted.number, painted.image, request))

    def _send(self, message: Any) -> None:
        assert self._link is not None
        with contextlib.suppress(ConnectionLost):  # the session knows it soon; the server asks and sends again
            self._link.send(message)

    # ------------------------------------------------------------ ends

    def _change(self, message: JobState) -> None:
        failure = message.failure.error() if message.failure else None
        if message.state == DONE or (message.state == CANCELLED and self._over):
            self._next()
        elif self._rest.takes(message) or (failure and self._again_after(failure)):
            pass
        else:
            self._submitted = self._submitted and not failure  # the server has ended it
            stage = self.stage
            super()._change(message)
            if self.state is TaskState.RUNNING:
                self.stage = stage if self.pace.painted else "Starting"

    def refused(self, error: PaintoverError) -> None:
        if not self._again_after(error):
            super().refused(error)

    def _again_after(self, error: PaintoverError) -> bool:
        """Begin the part anew where that may help; returns whether it does."""
        if not isinstance(error, UnknownJob | NothingToContinue | SenderGone) or self._tries >= TRIES:
            return False
        self._tries += 1
        if self._continues and not isinstance(error, SenderGone):
            part = self._part
            assert part is not None
            added = len(part.footage.places) - len(part.todo)
            part.todo = set(range(len(part.footage.places)))  # one look for all of it
            self.pace.done -= added
        self._restart()
        return True

    def _next(self) -> None:
        """The job is over: on with what is still to be painted."""
        part = self._part
        assert part is not None
        part.footage.forget()
        if part.todo and not self._over:
            self._tries += 1
            if self._tries >= TRIES:
                self._submitted = False
                self.fail(ServerFailure(reason=f"frame {part.number(part.first)} was not painted"))
                return
        self._restart()

    def _restart(self) -> None:
        self.state, self._submitted = TaskState.PREPARING, False
        self._arrived.clear()
        self._applying = None
        self._steps = self.prepare()

    def _finish(self) -> None:
        self.state, self.stage, self.fraction = TaskState.DONE, "Done", 1.0
        self.note(self.outcome())
        self.release()

    def words(self) -> str:
        """How far it is."""
        return self.pace.words()

    def outcome(self) -> str:
        """What there is now, in a sentence."""
        kept = self.pace.total - self.pace.painted
        there = f", {kept} of them from before" if kept else ""
        return f"{self.pace.total} frames{there}, in {self.folder.path}"

    def fail(self, error: PaintoverError) -> None:
        if self.sent and self._submitted:
            self._submitted = False
            self._send(Cancel(self.job))
        super().fail(error)

    def cancel(self, link: Link) -> None:
        if self.sent and self._submitted and not self._rest.resting and self._alone_since == 0.0:
            super().cancel(link)
        else:
            self.fail(Cancelled())

    def release(self) -> None:
        for part in self._parts:
            part.footage.forget()
        if bpy.app.background:  # with a window, Blender does so by itself
            with contextlib.suppress(SceneError):
                for layer in find_scene(self._scene).view_layers:
                    layer.update()


def kept_seed(scene: bpy.types.Scene, folder: Folder) -> int | None:
    """The seed that the frames in the folder were painted with, if it was chosen for them."""
    for number in timeline.numbers(scene):
        request = folder.request(number) or {}
        if request.get("seed_chosen") and isinstance(request.get("shot_seed"), int):
            return int(request["shot_seed"])
    return None


def part_of(scene: bpy.types.Scene, look: Offstage, settings: Settings, numbers: Sequence[int]) -> Part:
    """The frames between two cuts, as `look` reads them."""
    uid = scene.session_uid
    return Part(numbers, interval_of(settings), lambda number: look.read(find_scene(uid), number), gpu_route.draw)


def folder_of(scene: bpy.types.Scene) -> Folder:
    """Where the scene's painted frames are. Raises SceneError."""
    path = folders.chosen(scene.paintover.shot_folder, "its frames", "Animate > Output")
    return Folder(path, bpy.path.clean_name(scene.name), scene.paintover.shot_format)
