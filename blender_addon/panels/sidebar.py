"""The Paintover tab of the 3D viewport's sidebar."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import bpy

from .. import preferences, properties, server_process, textures
from ..bridge.errors import Cancelled, PaintoverError
from ..bridge.messages import CANCELLED, DONE, ENDED, FAILED, JobSummary
from ..bridge.parameters import CONTROLS, PARAMETERS
from ..link import LinkState
from ..session import session
from ..tasks import Task
from . import preview

if TYPE_CHECKING:
    from bpy.types import Context


OFFERED = 3
"""Jobs from before that are shown at a time."""


class Tab:
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Paintover"


class PAINTOVER_PT_main(Tab, bpy.types.Panel):
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
            draw_painted(layout, context.space_data.shading)
        preview.keep({task.job for task in session.active})
        for task in session.active:
            draw_task(layout, task)
        if not session.active and session.tasks:
            draw_outcome(layout, session.tasks[-1])
        for offer in session.offers(context.scene)[:OFFERED]:
            draw_offer(layout, offer)


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
        row.operator("paintover.stop_server", text="", icon="X")
    elif session.setup and not session.setup.ended:
        row.progress(factor=session.setup.fraction, text=session.setup.stage)
        row.operator("paintover.cancel_setup", text="", icon="X")
    else:
        row.operator("paintover.connect", icon="LINKED")
        if not server_process.program(preferences.get().command):
            row.operator("paintover.setup_server", icon="IMPORT")
        elif not server_process.running():
            row.operator("paintover.start_server", text="Start Server", icon="PLAY")
    if session.complaint:
        draw_error(layout, session.complaint, hide=True)


def draw_error(layout: Any, error: PaintoverError, *, hide: bool = False) -> None:
    """An error's words and its next step, wrapped to the panel; with `hide`, a way to take it away."""
    box = layout.box()
    row = box.row()
    draw_text(row, error.message, "ERROR", beside=25 if hide else 0)
    if hide:
        row.operator("paintover.hide_error", text="", icon="X", emboss=False)
    draw_text(box, error.hint, "BLANK1")


def draw_text(layout: Any, text: str, icon: str, *, beside: int = 0) -> None:
    """Text of any length, wrapped to the sidebar's width, less what stands beside it: a label would cut it off."""
    region = bpy.context.region  # None where there is no window, and then there is no scale either
    pixels = region.width / bpy.context.preferences.system.ui_scale if region else 300
    characters = max(16, int((pixels - 95 - beside) / 6.3))  # without the margins, the tabs and the icon
    column = layout.column(align=True)
    column.scale_y = 0.8
    for number, line in enumerate(textwrap.wrap(text, characters)):
        column.label(text=line, icon=icon if number == 0 else "BLANK1")


def draw_painted(layout: Any, shading: Any) -> None:
    """What can be done with painted objects: see them, and take it back."""
    if shading.type == "WIREFRAME" or (shading.type == "SOLID" and shading.color_type != "TEXTURE"):
        box = layout.box()
        draw_text(box, f"{shading.type.capitalize()} view does not show the painting.", "INFO")
        show = box.operator("wm.context_set_enum", text="Show Material Preview", icon="SHADING_TEXTURE")
        show.data_path, show.value = "space_data.shading.type", "MATERIAL"
    layout.operator("paintover.revert", icon="LOOP_BACK")


def draw_task(layout: Any, task: Task) -> None:
    """A running task: what it does, how far it is, what it looks like, and a way to stop it."""
    box = layout.box()
    box.label(text=task.stage)
    row = box.row(align=True)
    row.progress(factor=task.fraction, text=f"{task.fraction:.0%}")
    row.operator("paintover.cancel", text="", icon="X").job = task.job
    if task.preview is not None:
        box.template_icon(preview.icon(task.job, task.preview), scale=8)


def draw_outcome(layout: Any, task: Task) -> None:
    """How the last task ended."""
    if task.error and not isinstance(task.error, Cancelled):
        draw_error(layout, task.error)
        return
    icon = "CANCEL" if task.error else "CHECKMARK"
    layout.label(text=f"{task.label}: {task.stage.lower()}", icon=icon)
    for note in task.notes:
        draw_text(layout, note, "INFO")


def draw_offer(layout: Any, offer: JobSummary) -> None:
    """A job of this scene that it has not got: what became of it, and what can be done about it."""
    stopped = offer.state in (CANCELLED, FAILED)
    words = {
        DONE: "Finished while you were away:",
        CANCELLED: f"Stopped with {offer.painted} of {offer.views} views finished:",
        FAILED: f"Failed with {offer.painted} of {offer.views} views finished:",
    }.get(offer.state, "Being painted for this scene:")
    box = layout.box()
    draw_text(box, words, "TIME" if offer.state in ENDED else "SORTTIME")
    what = offer.prompt or ", ".join(offer.objects) or "no prompt"
    draw_text(box, textwrap.shorten(what, 60, placeholder="…"), "BLANK1")
    row = box.row(align=True)
    row.operator("paintover.resume" if stopped else "paintover.take_over").job = offer.job
    if offer.state in ENDED:
        row.operator("paintover.dismiss").job = offer.job


class _Group(Tab):
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


class PAINTOVER_PT_controls(Tab, bpy.types.Panel):
    bl_label = "Controls"
    bl_parent_id = "PAINTOVER_PT_main"

    def draw(self, context: Context) -> None:
        settings = context.scene.paintover
        model = properties.model(settings.model)
        titles = self.layout.split(factor=0.36)
        titles.label(text="")
        part = titles.row(align=True)
        for title in ("Scale", "Start", "End"):
            part.label(text=title)
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
        layout.prop(settings, "method")
        layout.prop(settings, "cameras")
        row = layout.row()
        row.active = settings.cameras == "automatic"
        row.prop(settings, "views")
        layout.prop(settings, "texture_size")
        layout.prop(settings, "shading", expand=True)
        if settings.shading == "UNLIT" and context.scene.view_settings.view_transform != "Standard":
            used = context.scene.view_settings.view_transform
            draw_text(layout, f"{used} changes its colours; the view transform Standard shows them as painted.", "INFO")


class PAINTOVER_PT_edges(_Group, bpy.types.Panel):
    bl_label = "Edges"
    groups = ("edge",)


class PAINTOVER_PT_image(_Group, bpy.types.Panel):
    bl_label = "Model and Sampling"
    groups = ("model", "image")


CLASSES = (PAINTOVER_PT_main, PAINTOVER_PT_controls, PAINTOVER_PT_texture, PAINTOVER_PT_edges, PAINTOVER_PT_image)
