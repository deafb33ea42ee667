"""The Paintover tab of the 3D viewport's sidebar."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import bpy

from .. import preferences, properties, server_process, textures
from ..bridge.errors import Cancelled, PaintoverError
from ..bridge.parameters import CONTROLS, PARAMETERS
from ..link import LinkState
from ..session import session
from ..tasks import Task
from . import preview

if TYPE_CHECKING:
    from bpy.types import Context


class _Tab:
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Paintover"


class PAINTOVER_PT_main(_Tab, bpy.types.Panel):
    bl_label = "Paintover"

    def draw(self, context: Context) -> None:
        layout = self.layout
        settings = context.scene.paintover
        draw_connection(layout)
        column = layout.column()
        column.active = session.online
        column.prop(settings, "prompt", text="", icon="BRUSH_DATA", placeholder="What to paint")
        column.prop(settings, "negative_prompt", text="", icon="REMOVE", placeholder="What to leave out")
        layout.separator()
        buttons = layout.column(align=True)
        buttons.scale_y = 1.3
        buttons.operator("paintover.texture", icon="TEXTURE")
        buttons.operator("paintover.render_view", icon="CAMERA_DATA")
        if any(textures.is_painted(ob) for ob in context.selected_objects):
            layout.operator("paintover.revert", icon="LOOP_BACK")
        for task in session.active:
            draw_task(layout, task)
        if not session.active and session.tasks:
            draw_outcome(layout, session.tasks[-1])


def draw_connection(layout: Any) -> None:
    """The state of the link, what to do about it, and the last error."""
    row = layout.row(align=True)
    if session.online:
        row.label(text="Connected", icon="CHECKMARK")
        row.operator("paintover.disconnect", text="", icon="X")
    elif session.link.state is LinkState.CONNECTING:
        row.label(text="Connecting…", icon="SORTTIME")
        row.operator("paintover.disconnect", text="", icon="X")
    elif session.awaited:
        row.label(text="Starting the server…", icon="SORTTIME")
    elif session.setup and not session.setup.ended:
        row.progress(factor=session.setup.fraction, text=session.setup.stage)
        row.operator("paintover.cancel_setup", text="", icon="X")
    else:
        row.operator("paintover.connect", icon="LINKED")
        if not server_process.program(preferences.get().command):
            row.operator("paintover.setup_server", icon="IMPORT")
        elif not server_process.running():
            row.operator("paintover.start_server", text="Start Server", icon="PLAY")
    if session.error:
        draw_error(layout, session.error)
    elif session.setup and session.setup.error and not isinstance(session.setup.error, Cancelled):
        draw_error(layout, session.setup.error)


def draw_error(layout: Any, error: PaintoverError) -> None:
    """An error's words and its next step, wrapped to the panel."""
    box = layout.box()
    for number, line in enumerate(textwrap.wrap(error.message, 42)):
        box.label(text=line, icon="ERROR" if number == 0 else "BLANK1")
    for line in textwrap.wrap(error.hint, 42):
        box.label(text=line, icon="BLANK1")


def draw_task(layout: Any, task: Task) -> None:
    """A running task: what it does, how far it is, what it looks like, and a way to stop it."""
    box = layout.box()
    row = box.row(align=True)
    row.progress(factor=task.fraction, text=task.stage)
    row.operator("paintover.cancel", text="", icon="X")
    if task.preview is not None:
        box.template_icon(preview.icon(task.job, task.preview), scale=8)


def draw_outcome(layout: Any, task: Task) -> None:
    """How the last task ended."""
    if task.error and not isinstance(task.error, Cancelled):
        draw_error(layout, task.error)
        return
    layout.label(text=f"{task.label}: {task.stage.lower()}", icon="CHECKMARK")
    for note in task.notes:
        for number, line in enumerate(textwrap.wrap(note, 42)):
            layout.label(text=line, icon="INFO" if number == 0 else "BLANK1")


class _Group(_Tab):
    bl_parent_id = "PAINTOVER_PT_main"
    bl_options = frozenset({"DEFAULT_CLOSED"})
    groups: tuple[str, ...] = ()

    def draw(self, context: Context) -> None:
        layout = self.layout  # type: ignore[attr-defined]
        layout.use_property_split = True
        layout.use_property_decorate = False
        for parameter in PARAMETERS:
            if parameter.group in self.groups:
                layout.prop(context.scene.paintover, parameter.name)


class PAINTOVER_PT_controls(_Tab, bpy.types.Panel):
    bl_label = "Controls"
    bl_parent_id = "PAINTOVER_PT_main"

    def draw(self, context: Context) -> None:
        settings = context.scene.paintover
        model = properties.model(settings.model)
        for control in CONTROLS:
            name = f"control_{control}"
            row = self.layout.split(factor=0.36)
            # What the model lacks is greyed out; without a server nothing is known, so nothing is.
            row.active = model is None or control in model.controls
            row.prop(settings, name)
            part = row.row(align=True)
            part.active = getattr(settings, name)
            part.prop(settings, f"{name}_scale", text="", slider=True)
            part.prop(settings, f"{name}_start", text="")
            part.prop(settings, f"{name}_end", text="")


class PAINTOVER_PT_texture(_Group, bpy.types.Panel):
    bl_label = "Texture"
    groups = ("texture",)

    def draw(self, context: Context) -> None:
        layout = self.layout
        settings = context.scene.paintover
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.prop(settings, "cameras")
        row = layout.row()
        row.active = settings.cameras == "automatic"
        row.prop(settings, "views")
        layout.prop(settings, "texture_size")
        layout.prop(settings, "shading", expand=True)
        if settings.shading == "UNLIT" and context.scene.view_settings.view_transform != "Standard":
            layout.label(text=f"{context.scene.view_settings.view_transform} changes its colours;", icon="INFO")
            layout.label(text="the view transform Standard shows them as painted", icon="BLANK1")
        layout.operator("paintover.export_passes", icon="EXPORT")


class PAINTOVER_PT_image(_Group, bpy.types.Panel):
    bl_label = "Model and Sampling"
    groups = ("model", "image")


CLASSES = (PAINTOVER_PT_main, PAINTOVER_PT_controls, PAINTOVER_PT_texture, PAINTOVER_PT_image)
