"""Paint a shot from the timeline, look at it first, and lay its frames out as a strip or a video."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bpy

from .. import away, properties
from ..animate import cutting_room
from ..animate.look_first import LookTask
from ..animate.task import ShotTask, folder_of
from ..bridge.errors import ConnectionLost, PaintoverError
from ..bridge.messages import Cancel
from ..session import session
from .common import needs_renderer, needs_server, refuse, run

if TYPE_CHECKING:
    from bpy.types import Context

    from ..tasks import Task


CODECS = [(name, cutting_room.CODECS[name][0], cutting_room.CODECS[name][3]) for name in cutting_room.codecs()]


def running() -> ShotTask | None:
    """The shot that is being painted."""
    return next((task for task in session.active if isinstance(task, ShotTask)), None)


class _Paints(bpy.types.Operator):
    """Esc stops it in a window, wherever the mouse is; the panel's cross does, too."""

    bl_options = {"REGISTER"}  # it writes files: nothing of the scene is changed

    @classmethod
    def poll(cls, context: Context) -> bool:
        if not needs_server(cls) or not needs_renderer(cls):
            return False
        if running():
            cls.poll_message_set("A shot is being painted already")
            return False
        return True

    def task(self, context: Context) -> ShotTask:
        raise NotImplementedError

    def invoke(self, context: Context, event: bpy.types.Event) -> set[Any]:
        result = self.execute(context)
        if result == {"FINISHED"} and (task := running()) and not bpy.app.background:
            self._job: Task = task
            self._timer = context.window_manager.event_timer_add(0.25, window=context.window)
            context.window_manager.modal_handler_add(self)
            return {"RUNNING_MODAL"}
        return result

    def modal(self, context: Context, event: bpy.types.Event) -> set[Any]:
        if event.type == "ESC" and event.value == "PRESS":
            if not self._job.ended:
                session.cancel(self._job.job)
            self._leave(context)
            return {"CANCELLED"}
        if self._job.ended:
            self._leave(context)
            return {"FINISHED"}
        if event.type == "TIMER":
            context.workspace.status_text_set(f"{self._job.label}: {self._job.stage}. Esc stops.")
        return {"PASS_THROUGH"}

    def cancel(self, context: Context) -> None:
        self._leave(context)

    def _leave(self, context: Context) -> None:
        context.window_manager.event_timer_remove(self._timer)
        if context.workspace:
            context.workspace.status_text_set(None)

    def execute(self, context: Context) -> set[Any]:
        try:
            task = self.task(context)
            let_go(context.scene)
        except PaintoverError as error:
            return refuse(self, error)
        return run(self, task)


def let_go(scene: bpy.types.Scene) -> None:
    """Have the server end shots of this scene whose Blender has ended: they would be waited for."""
    for job in away.forsaken(session.jobs or (), scene, [task.job for task in session.active]):
        try:
            session.link.send(Cancel(job.job))
        except ConnectionLost:
            return


class PAINTOVER_OT_render_shot(_Paints):
    """Paint the frames of the timeline into the output folder. Frames that are there and have not changed are kept, so
    this also goes on with a shot that was stopped. Esc stops"""

    bl_idname = "paintover.render_shot"
    bl_label = "Render Shot"

    again: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="From Scratch", description="Paint all frames anew, also those that are there", options={"SKIP_SAVE"}
    )

    @classmethod
    def description(cls, context: Context, properties: Any) -> str:
        if properties.again:
            return "Paint all frames anew, also those that are there and have not changed. Esc stops"
        return str(cls.bl_description)

    def task(self, context: Context) -> ShotTask:
        return ShotTask(properties.snapshot(context.scene), context.scene, again=self.again)


class PAINTOVER_OT_look_first(_Paints):
    """Paint every n-th frame small and with few steps, show them as a contact sheet, and say roughly what the whole
    shot will take. Nothing is written. Esc stops"""

    bl_idname = "paintover.look_first"
    bl_label = "Look First"

    def task(self, context: Context) -> ShotTask:
        return LookTask(properties.snapshot(context.scene), context.scene)


class PAINTOVER_OT_shot_to_sequencer(bpy.types.Operator):
    """Lay the painted frames out as a strip in the scene's Video Sequencer, each at its place in time"""

    bl_idname = "paintover.shot_to_sequencer"
    bl_label = "Frames to Sequencer"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: Context) -> set[Any]:
        scene = context.scene
        try:
            folder = folder_of(scene)
            names, missing = cutting_room.held(scene, folder)
            strip = cutting_room.place(scene, folder, names)
        except PaintoverError as error:
            return refuse(self, error)
        if missing:
            self.report({"WARNING"}, f"{missing} frames are missing: those before them are held")
        self.report({"INFO"}, f"“{strip}” is in the Video Sequencer, at frame {scene.frame_start}")
        return {"FINISHED"}


class PAINTOVER_OT_shot_to_video(bpy.types.Operator):
    """Write the painted frames as a video beside them"""

    bl_idname = "paintover.shot_to_video"
    bl_label = "Frames to Video"
    bl_options = {"REGISTER"}

    codec: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Codec",
        description="How the video is written",
        items=CODECS,
    )

    @classmethod
    def poll(cls, context: Context) -> bool:
        return needs_renderer(cls)

    def execute(self, context: Context) -> set[Any]:
        try:
            folder = folder_of(context.scene)
            names, missing = cutting_room.held(context.scene, folder)
            path = cutting_room.video(context.scene, folder, names, self.codec)
        except PaintoverError as error:
            return refuse(self, error)
        if missing:
            self.report({"WARNING"}, f"{missing} frames are missing: those before them are held")
        self.report({"INFO"}, f"Saved {path}")
        return {"FINISHED"}


class _Adds:
    """To one of the lists over time."""

    bl_options = frozenset({"REGISTER", "UNDO"})
    list: str

    def execute(self, context: Context) -> set[Any]:
        settings = context.scene.paintover
        found = getattr(settings, f"{self.list}s")
        found.add()
        setattr(settings, f"{self.list}_index", len(found) - 1)
        return {"FINISHED"}


class _Removes:
    """What is chosen in one of the lists over time."""

    bl_options = frozenset({"REGISTER", "UNDO"})
    list: str

    @classmethod
    def poll(cls, context: Context) -> bool:
        return len(getattr(context.scene.paintover, f"{cls.list}s")) > 0

    def execute(self, context: Context) -> set[Any]:
        settings, index = context.scene.paintover, f"{self.list}_index"
        found = getattr(settings, f"{self.list}s")
        found.remove(min(getattr(settings, index), len(found) - 1))
        setattr(settings, index, max(0, getattr(settings, index) - 1))
        return {"FINISHED"}


class PAINTOVER_OT_prompt_add(_Adds, bpy.types.Operator):
    """Add a prompt to blend with the others. Keyframe its weight to go from one to another"""

    bl_idname = "paintover.prompt_add"
    bl_label = "Add Prompt"
    list = "prompt"


class PAINTOVER_OT_prompt_remove(_Removes, bpy.types.Operator):
    """Remove the prompt that is chosen in the list"""

    bl_idname = "paintover.prompt_remove"
    bl_label = "Remove Prompt"
    list = "prompt"


class PAINTOVER_OT_lora_add(_Adds, bpy.types.Operator):
    """Add a LoRA whose weight can be keyframed"""

    bl_idname = "paintover.lora_add"
    bl_label = "Add LoRA"
    list = "lora"


class PAINTOVER_OT_lora_remove(_Removes, bpy.types.Operator):
    """Remove the LoRA that is chosen in the list"""

    bl_idname = "paintover.lora_remove"
    bl_label = "Remove LoRA"
    list = "lora"


class PAINTOVER_OT_open_shot_folder(bpy.types.Operator):
    """Open the folder with the painted frames"""

    bl_idname = "paintover.open_shot_folder"
    bl_label = "Open Folder"
    bl_options = {"REGISTER"}

    def execute(self, context: Context) -> set[Any]:
        try:
            folder = folder_of(context.scene)
            folder.check()
        except PaintoverError as error:
            return refuse(self, error)
        return bpy.ops.wm.path_open(filepath=str(folder.path))


CLASSES = (
    PAINTOVER_OT_render_shot,
    PAINTOVER_OT_look_first,
    PAINTOVER_OT_shot_to_sequencer,
    PAINTOVER_OT_shot_to_video,
    PAINTOVER_OT_prompt_add,
    PAINTOVER_OT_prompt_remove,
    PAINTOVER_OT_lora_add,
    PAINTOVER_OT_lora_remove,
    PAINTOVER_OT_open_shot_folder,
)
