"""What an artist asks for, from the scene to the result: prepared on the main thread in small steps, painted by the
server, applied when it comes back. A task holds names and numbers, never pointers to Blender's data."""

from __future__ import annotations

import abc
import contextlib
import enum
import traceback
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import bpy
import numpy as np

from . import away, cameras, images, passes, png
from .bridge.errors import Cancelled, ConnectionLost, PaintoverError, SceneError
from .bridge.messages import (
    CANCELLED,
    DONE,
    FAILED,
    QUEUED,
    RUNNING,
    Cancel,
    Follow,
    Generate,
    ImageResult,
    JobState,
    MeshesMissing,
    Preview,
    Progress,
    Shot,
    Submit,
    Texture,
)
from .bridge.origin import Origin
from .bridge.parameters import Settings
from .bridge.wire import check_size
from .link import Link
from .steps import GO_ON, Steps, in_thread


class TaskState(enum.Enum):
    PREPARING = "Preparing"
    OFFERED = "Sending"
    WAITING = "Waiting"
    RUNNING = "Painting"
    DONE = "Done"
    CANCELLED = "Cancelled"
    FAILED = "Failed"


ENDED = (TaskState.DONE, TaskState.CANCELLED, TaskState.FAILED)
FROM_SERVER = {
    QUEUED: TaskState.WAITING,
    RUNNING: TaskState.RUNNING,
    DONE: TaskState.DONE,
    CANCELLED: TaskState.CANCELLED,
    FAILED: TaskState.FAILED,
}


class Task(abc.ABC):
    """A request on its way. Subclasses say how it is prepared and what becomes of its results."""

    label = ""
    reconnects = False
    """Whether a connection that ends is made again for it, without anybody's doing."""
    needs_file = False
    """Whether the server needs this Blender for it to the end."""

    def __init__(self, settings: Settings, scene: bpy.types.Scene) -> None:
        self.job = uuid.uuid4().hex
        self.settings = settings
        self._scene = scene.session_uid
        """The scene that it belongs to."""
        self.state = TaskState.PREPARING
        self.stage = ""
        self.fraction = 0.0
        self.finished = 0
        """Views that are painted."""
        self.preview: np.ndarray | None = None
        self.error: PaintoverError | None = None
        self.notes: list[str] = []
        """What the artist should know: a UV layer that was made, texels that several places share."""
        self._steps = self.prepare()
        self._arrived: deque[Any] = deque()
        """Results, and job states behind them, that are still to be applied."""
        self._applying: Steps[None] | None = None
        self._lost: PaintoverError | None = None
        """How the connection ended, while what has arrived before is still being applied."""

    # ------------------------------------------------------------ what subclasses do

    @abc.abstractmethod
    def prepare(self) -> Steps[None]:
        """Collect the request from the scene, in steps of one view at the most."""

    @abc.abstractmethod
    def request(self) -> Generate | Texture | Shot:
        """The finished request, once `prepare` is through."""

    @abc.abstractmethod
    def apply(self, result: Any) -> Steps[None] | None:
        """Put a result of the job into Blender; returns the steps of it if it takes any."""

    def note(self, text: str) -> None:
        """Tell the artist something, once."""
        if text not in self.notes:
            self.notes.append(text)

    def origin(self) -> Origin:
        """Where it comes from, for a later session that looks for its own."""
        scene = find_scene(self._scene)
        away.identify(scene)
        return away.origin(scene)

    def release(self) -> None:  # noqa: B027 - most tasks hold little
        """It is over: let go of what is large."""

    def undo_preparation(self) -> None:  # noqa: B027 - most tasks change nothing
        """Take back what `prepare` changed, after a failure or cancel with no result."""

    # ------------------------------------------------------------ on the way there

    @property
    def preparing(self) -> bool:
        return self.state is TaskState.PREPARING

    @property
    def sent(self) -> bool:
        """Whether the server has it, and goes on with it whatever happens here."""
        return self.state in (TaskState.WAITING, TaskState.RUNNING)

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def working(self) -> bool:
        """Whether there is something to do here: to prepare, or to apply."""
        return self.preparing or (self._applying is not None and not self.ended)

    def advance(self, link: Link) -> bool:
        """Do the next step. Returns whether another one may follow in the same tick."""
        steps = self._steps if self.preparing else self._applying
        if steps is None:  # the step before has ended it
            return False
        try:
            stage = next(steps)
        except StopIteration:
            if self.preparing:
                self.offer(link)
            else:
                self._applying = None
                if self._lost:
                    self.lose(self._lost)
            return False
        self.stage = stage or self.stage
        return stage == GO_ON

    def offer(self, link: Link) -> None:
        message = Submit(self.job, self.request(), self.origin())
        check_size(message)
        link.send(message)
        self.state, self.stage = TaskState.WAITING, "Waiting for the server"

    def wants(self, missing: MeshesMissing) -> bool:
        """Whether this answer of the server is for this task."""
        return False

    def upload(self, link: Link, missing: MeshesMissing) -> None:  # noqa: B027 - most tasks have no meshes
        """Send the meshes that the server lacks."""

    # ------------------------------------------------------------ on the way back

    def receive(self, message: Any) -> None:
        """Take a message of this task's job. After its end there is nothing more to take."""
        if self.ended:
            return
        if isinstance(message, Progress):
            self.stage, self.fraction = message.stage, message.fraction
        elif isinstance(message, Preview):
            self.preview = message.image
        elif isinstance(message, JobState) and self._applying is None:
            self._change(message)
        else:
            self._arrived.append(message)
            self._applying = self._applying or self._apply_arrived()

    def _apply_arrived(self) -> Steps[None]:
        """One message after another: a state comes into force once the results before it are applied."""
        while self._arrived:
            message = self._arrived.popleft()
            if isinstance(message, JobState):
                self._change(message)
            elif steps := self.apply(message):
                yield from steps
            yield GO_ON

    def _change(self, message: JobState) -> None:
        if message.failure:
            self.fail(message.failure.error())
            return
        self.state = FROM_SERVER[message.state]
        if self.state is TaskState.WAITING:
            self.stage = f"Waiting: {message.position} before it" if message.position else "Waiting for the server"
        elif self.state is TaskState.DONE:
            with contextlib.suppress(SceneError):  # it was deleted meanwhile
                away.mark(find_scene(self._scene), self.job)
            self.complete()

    def complete(self) -> None:
        """All of it is done."""
        self.state, self.stage, self.fraction = TaskState.DONE, "Done", 1.0
        self.release()
        if not bpy.app.background:  # a timer applied the result: it is a step of its own for the user
            bpy.ops.ed.undo_push(message=f"Paintover: {self.label}")

    def lose(self, error: PaintoverError) -> None:
        """The connection is gone. A job that the server has goes on there, and is taken up after the next Connect;
        in background mode nobody would press it."""
        if self._applying:  # it has arrived, so it is not lost: first it is applied, step by step
            self._lost = error
            return
        self._lost = None
        if self.ended:
            return
        if self.sent and not bpy.app.background:
            self.stage = "Connection lost: connect again"
        else:
            self.fail(error)

    def take_up(self, link: Link) -> None:
        """There is a connection again: ask for what the job has reported meanwhile."""
        self._lost = None
        if self.sent:
            link.send(Follow(self.job))

    def cancel(self, link: Link) -> None:
        """Stop it. Before it was sent it ends at once, later when the server says so."""
        if self.state in (TaskState.PREPARING, TaskState.OFFERED):
            self.fail(Cancelled())
        else:
            self.stage = "Cancelling"
            try:
                link.send(Cancel(self.job))
            except ConnectionLost as error:
                self.fail(error)

    def refused(self, error: PaintoverError) -> None:
        """The server cannot answer a message about it."""
        self.fail(error)

    def fail(self, error: PaintoverError) -> None:
        """End without (more) results."""
        if self.ended:
            return
        self.state = TaskState.CANCELLED if isinstance(error, Cancelled) else TaskState.FAILED
        self.error, self.stage = error, self.state.value
        self._arrived.clear()
        self._applying = None
        self._take_back(self._steps.close)  # lets the passes put the scene back if it stopped between two views
        self._take_back(self.undo_preparation)
        self.release()

    def _take_back(self, undo: Callable[[], None]) -> None:
        """What goes wrong in it is said, and keeps nothing else from its end."""
        try:
            undo()
        except Exception as reason:  # noqa: BLE001 - it ends in any case, and other tasks go on
            if not isinstance(reason, ReferenceError):  # the file it was prepared in is no longer open
                traceback.print_exc()
            self.note("What it had prepared could not be taken back.")


def find_scene(uid: int) -> bpy.types.Scene:
    """The scene that a task was started in, by its session uid, or SceneError: between two ticks the user may have
    opened another file."""
    scene = next((scene for scene in bpy.data.scenes if scene.session_uid == uid), None)
    if scene is None:
        raise SceneError(reason="the scene that it was started in is gone", hint="Run it again in the scene to paint.")
    return scene


class ViewTask(Task):
    """Paint what a camera sees as an image."""

    label = "Paint View"

    def __init__(self, settings: Settings, scene: bpy.types.Scene) -> None:
        self._camera = cameras.from_scene(scene, settings.size).name
        self._request: Generate | None = None
        self.image = ""
        """Name of the image that was painted."""
        super().__init__(settings, scene)

    def prepare(self) -> Steps[None]:
        yield f"Rendering passes of {self._camera}"
        scene = find_scene(self._scene)
        camera = cameras.from_scene(scene, self.settings.size)  # in the tick of the render: both at the same frame
        seen = passes.render(scene, camera, color=self.settings.strength < 1, edges=self.settings.edges, say=self.note)
        image = None if seen.color is None else np.ascontiguousarray(seen.color[..., :3])
        self._request = Generate(self.settings, camera.width, camera.height, seen, image)

    def origin(self) -> Origin:
        return replace(super().origin(), camera=self._camera)

    def release(self) -> None:
        self._request = None

    def request(self) -> Generate:
        assert self._request is not None
        return self._request

    def apply(self, result: Any) -> Steps[None]:
        if isinstance(result, ImageResult):
            picture = yield from in_thread(lambda: png.encode(result.image))
            self.image = images.show(f"Paintover {self._camera}", picture, result.settings)
