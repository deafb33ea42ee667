"""Take over a job that another session of Blender started, or resume one that was stopped."""

from __future__ import annotations

from typing import Any

import bpy

from . import dressing, images, png
from .bridge.errors import PaintoverError, ServerFailure
from .bridge.messages import (
    Generate,
    Handover,
    ImageResult,
    JobSummary,
    PaintedUVs,
    Resume,
    TakeOver,
    Texture,
    TextureResult,
    ViewPainted,
)
from .bridge.parameters import Settings
from .link import Link
from .steps import Steps, in_thread
from .tasks import Task, TaskState, find_scene


class TakeOverTask(Task):
    """Follows a job by its name. What it is for comes from the server: names, which are looked up in this file."""

    label = "Take Over"

    def __init__(self, summary: JobSummary, scene: bpy.types.Scene, *, resume: bool = False) -> None:
        super().__init__(Settings(), scene)
        self.job = summary.job
        self._resume = resume
        self._handover: Handover | None = None
        self._handed_over = False
        """The handover has arrived, applied or not."""
        self._uvs: dict[int, PaintedUVs] = {}
        self._views: set[str] = set()
        if resume:
            self.label = "Resume"

    def prepare(self) -> Steps[None]:
        yield from ()

    def request(self) -> Generate | Texture:
        raise ServerFailure(reason="a job that is taken over is not submitted again")

    def offer(self, link: Link) -> None:
        link.send(Resume(self.job) if self._resume else TakeOver(self.job))
        self.state, self.stage = TaskState.WAITING, "Asking the server"

    def take_up(self, link: Link) -> None:
        self._lost = None
        if self.sent:
            link.send(TakeOver(self.job))

    def apply(self, result: Any) -> Steps[None] | None:
        if isinstance(result, Handover):
            self._handover, self.settings = result, result.settings
        elif isinstance(result, PaintedUVs):
            self._uvs[result.object_id] = result
        elif isinstance(result, ViewPainted):
            self.preview = result.image
            self._views.add(result.view)  # one may come again after a lost connection
            self.finished = len(self._views)
        elif self._handover is not None:
            return self._show(result, self._handover)
        return None

    def receive(self, message: Any) -> None:
        # This connection may have followed the job before, for a file that was closed since: what was still on its way
        # then comes first, and once more behind the handover.
        if self._handed_over or isinstance(message, Handover) or getattr(message, "failure", None):
            self._handed_over |= isinstance(message, Handover)
            super().receive(message)

    def _show(self, result: ImageResult | TextureResult, handover: Handover) -> Steps[None]:
        picture = yield from in_thread(lambda: png.encode(result.image))
        if isinstance(result, ImageResult):
            images.show(f"Paintover {handover.origin.camera}".strip(), picture, result.settings)
        else:
            self._dress(result, picture, handover)

    def _dress(self, result: TextureResult, picture: bytes, handover: Handover) -> None:
        scene = find_scene(self._scene)
        target = next((target for target in handover.origin.targets if target.name == result.name), None)
        ob = scene.objects.get(result.name)
        painted = self._uvs.get(result.object_id)
        if target is None or painted is None or ob is None or ob.type != "MESH":
            self.notes.append(dressing.keep(result, picture, f"This scene has no mesh object {result.name}."))
            return
        made_before = target.uv_layer in ob.data.uv_layers
        try:
            layer = dressing.fitting_layer(scene, ob, target, painted)
            self.notes += dressing.dress(ob, result, picture, layer, handover.origin.lit)
        except PaintoverError as error:  # Edit Mode, another mesh: the picture must not be lost for that
            self.notes.append(dressing.keep(result, picture, str(error)))
            return
        if not made_before:
            self.notes.append(f"{ob.name}: its UV layer “{layer}” was made again.")

    def release(self) -> None:
        self._uvs.clear()
