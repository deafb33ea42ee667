"""Go live, and keep what live paints: as an image, as a sequence, on the timeline, on the objects."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy

from .. import images, png, properties, pump
from ..bridge.errors import PaintoverError, RenderFailed
from ..bridge.live import TRIGGERS_BY_ADDRESS
from ..bridge.live_messages import LiveTrigger
from ..live import mesh_paint, record
from ..live.painter import LiveView
from ..live.view import canvas, sized
from ..session import session
from .common import needs_server, refuse, run

if TYPE_CHECKING:
    from bpy.types import Context

class PAINTOVER_OT_live_toggle(bpy.types.Operator):
    """Paint over this viewport as you orbit, sculpt or play the timeline"""

    bl_idname = "paintover.live_toggle"
    bl_label = "Live"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        return bool(session.live) or needs_server(cls)

    def execute(self, context: Context) -> set[Any]:
        if session.live:
            session.end_live()
            return {"FINISHED"}
        area = context.area if context.area and context.area.type == "VIEW_3D" else None
        try:
            session.start_live(LiveView(context.scene, area))
        except PaintoverError as error:
            return refuse(self, error)
        pump.start()
        return {"FINISHED"}


class PAINTOVER_OT_live_trigger(bpy.types.Operator):
    """Have the stage do something once"""

    bl_idname = "paintover.live_trigger"
    bl_label = "Trigger"
    bl_options = {"INTERNAL"}

    address: bpy.props.StringProperty(name="Address", options={"SKIP_SAVE"})  # type: ignore[valid-type]

    @classmethod
    def description(cls, context: Context, properties: Any) -> str:
        trigger = TRIGGERS_BY_ADDRESS.get(properties.address)
        return trigger.description if trigger else ""

    @classmethod
    def poll(cls, context: Context) -> bool:
        if session.live is None:
            cls.poll_message_set("Press Live first")
            return False
        return needs_server(cls)

    def execute(self, context: Context) -> set[Any]:
        try:
            session.link.send(LiveTrigger(self.address))
        except PaintoverError as error:
            return refuse(self, error)
        return {"FINISHED"}


class PAINTOVER_OT_live_fit(bpy.types.Operator):
    """Give the painted frames the proportions of this viewport, with about as many pixels as now"""

    bl_idname = "paintover.live_fit"
    bl_label = "Fit to Viewport"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        return context.area is not None and context.area.type == "VIEW_3D"

    def execute(self, context: Context) -> set[Any]:
        settings, region = context.scene.paintover, canvas(context.area)
        size = sized(settings.output_width, settings.output_height, max(region.width, 1), max(region.height, 1))
        properties.show_live(context.scene, dict(zip(properties.LIVE_SIZE, size, strict=True)))
        return {"FINISHED"}


class _NeedsPainting(bpy.types.Operator):
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        if session.live is None or session.live.picture is None:
            cls.poll_message_set("Nothing was painted live yet: press Live first")
            return False
        return True


class PAINTOVER_OT_live_snapshot(_NeedsPainting):
    """Keep the newest painting as an image, and save it to the folder"""

    bl_idname = "paintover.live_snapshot"
    bl_label = "Snapshot"

    def execute(self, context: Context) -> set[Any]:
        assert session.live is not None
        assert session.live.picture is not None
        scene = context.scene
        stamp = time.strftime("%Y-%m-%d %H-%M-%S")
        picture = png.encode(session.live.picture)
        name = images.show(f"Paintover Live {stamp}", picture, properties.snapshot(scene))
        try:
            path = record.snapshot(scene, picture, stamp)
        except PaintoverError as error:
            self.report({"WARNING"}, f"Kept as the image “{name}” alone: {error}")
        else:
            self.report({"INFO"}, f"Saved {path}")
        return {"FINISHED"}


class PAINTOVER_OT_live_record(bpy.types.Operator):
    """Save every painting as a frame of an image sequence, from now on; again to stop"""

    bl_idname = "paintover.live_record"
    bl_label = "Record"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        if session.live is None:
            cls.poll_message_set("Press Live first")
            return False
        return True

    def execute(self, context: Context) -> set[Any]:
        assert session.live is not None
        if recording := session.live.stop_recording():
            if recording.error:
                return refuse(self, recording.error)
            left = f"; {recording.left_out} were left out: the disk is too slow" if recording.left_out else ""
            self.report({"INFO"}, f"Saved {recording.frames} frames in {recording.path}{left}")
            return {"FINISHED"}
        try:
            session.live.recording = record.Recording(context.scene)
        except PaintoverError as error:
            return refuse(self, error)
        return {"FINISHED"}


class PAINTOVER_OT_live_to_timeline(bpy.types.Operator):
    """Put the last recording into the scene's Video Sequencer, where it began on the timeline"""

    bl_idname = "paintover.live_to_timeline"
    bl_label = "Recording to Timeline"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        if record.Recording.last is None:
            cls.poll_message_set("Nothing was recorded yet")
            return False
        return True

    def execute(self, context: Context) -> set[Any]:
        last = record.Recording.last
        assert last is not None
        try:
            strip = record.place(context.scene, last.path, last.files(), last.first_frame)
        except PaintoverError as error:
            return refuse(self, error)
        self.report({"INFO"}, f"“{strip}” is in the Video Sequencer, at frame {last.first_frame}")
        return {"FINISHED"}


class PAINTOVER_OT_live_to_mesh(_NeedsPainting):
    """Paint the newest painting onto the selected objects, as far as it shows them. Their old materials are kept:
    Revert brings them back"""

    bl_idname = "paintover.live_to_mesh"
    bl_label = "Paint onto Objects"
    bl_options = {"REGISTER"}  # the result, when it comes, is a step of its own to undo

    @classmethod
    def poll(cls, context: Context) -> bool:
        if not super().poll(context):
            return False
        if not any(ob.type == "MESH" for ob in context.selected_objects):
            cls.poll_message_set("Select the mesh objects to paint")
            return False
        return True

    def execute(self, context: Context) -> set[Any]:
        live, scene = session.live, context.scene
        assert live is not None
        assert live.picture is not None
        assert live.known is not None
        try:
            task = mesh_paint.MeshPaintTask(scene, context.selected_objects, live.known, live.picture)
        except PaintoverError as error:
            return refuse(self, error)
        return run(self, task)


class PAINTOVER_OT_live_folder(bpy.types.Operator):
    """Open the folder with snapshots and recordings"""

    bl_idname = "paintover.live_open_folder"
    bl_label = "Open Folder"
    bl_options = {"REGISTER"}

    def execute(self, context: Context) -> set[Any]:
        try:
            path: Path = record.folder(context.scene)
            path.mkdir(parents=True, exist_ok=True)
        except PaintoverError as error:
            return refuse(self, error)
        except OSError as reason:
            words = f"{reason.filename} cannot be made ({reason.strerror})."
            return refuse(self, RenderFailed(words, hint="Choose another folder."))
        return bpy.ops.wm.path_open(filepath=str(path))


CLASSES = (
    PAINTOVER_OT_live_toggle,
    PAINTOVER_OT_live_trigger,
    PAINTOVER_OT_live_fit,
    PAINTOVER_OT_live_snapshot,
    PAINTOVER_OT_live_record,
    PAINTOVER_OT_live_to_timeline,
    PAINTOVER_OT_live_to_mesh,
    PAINTOVER_OT_live_folder,
)
