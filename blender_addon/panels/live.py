"""The live part of the Paintover tab, from the parameter table: what is used all the time first, the rest by group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bpy

from ..bridge.live import LIVE, LIVE_BY_NAME, SLOTS, TRIGGERS_BY_ADDRESS
from ..bridge.live_messages import FROZEN, OFF, RUNNING
from ..operators.live import last_recording
from ..passes.sculpting import kept_apart
from ..properties import live_name
from ..session import session
from .sidebar import PAINTOVER_PT_main, Tab, draw_error, draw_text

if TYPE_CHECKING:
    from bpy.types import Context

FIRST = ("steps", "strength", "feedback_amount", "smooth", "seed_travel", "blackout")
"""Shown at once, in this order."""
SWITCHES = ("play", "freeze")
ICONS = {RUNNING: "REC", FROZEN: "FREEZE", OFF: "RADIOBUT_OFF"}


class PAINTOVER_PT_live(Tab, bpy.types.Panel):
    bl_label = "Live"
    bl_parent_id = PAINTOVER_PT_main.__name__

    def draw(self, context: Context) -> None:
        layout, settings, live = self.layout, context.scene.paintover, session.live
        row = layout.row(align=True)
        row.scale_y = 1.3
        text = "Stop Live" if live else "Go Live"
        row.operator("paintover.live_toggle", text=text, icon="VIEW3D", depress=bool(live))
        row = layout.row()
        row.prop(settings, "live_camera", expand=True)
        if live:
            draw_state(layout, live)
            if context.object and kept_apart(context.object):
                layout.label(text="Strokes show when they end", icon="INFO")
            row = layout.row(align=True)
            row.prop(settings, "play", toggle=True, icon="PLAY")
            row.prop(settings, "freeze", toggle=True, icon="FREEZE")
            trigger(row, "reset", icon="LOOP_BACK")
            column = layout.column(align=True)
            for name in FIRST:
                column.prop(settings, live_name(LIVE_BY_NAME[name]), slider=True)


def trigger(layout: Any, address: str, icon: str) -> None:
    """A button for something that the stage does once."""
    layout.operator("paintover.live_trigger", text=TRIGGERS_BY_ADDRESS[address].label, icon=icon).address = address


def draw_state(layout: Any, live: Any) -> None:
    """How the stage does, and what is wrong."""
    state = live.status.state if session.online else "reconnecting"
    rate = f"{live.rate:.1f}" if live.rate else "–"  # nothing changes, so nothing is painted
    words = f"{state.capitalize()}   {rate} fps   {1000 * live.latency:.0f} ms"
    layout.label(text=words, icon=ICONS.get(state, "SORTTIME"))
    if 0 < live.status.progress < 1:
        layout.progress(factor=live.status.progress, text=live.status.text or f"{live.status.progress:.0%}")
    elif live.status.text:
        draw_text(layout, live.status.text, "INFO")
    if live.error:
        draw_error(layout, live.error)


class PAINTOVER_PT_live_record(Tab, bpy.types.Panel):
    bl_label = "Record"
    bl_parent_id = PAINTOVER_PT_live.__name__
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: Context) -> None:
        layout = self.layout
        recording = session.live.recording if session.live else None
        row = layout.row(align=True)
        row.operator("paintover.live_snapshot", icon="IMAGE_DATA")
        text = f"Stop ({recording.frames} frames)" if recording else "Record"
        row.operator("paintover.live_record", text=text, icon="REC", depress=bool(recording))
        layout.operator("paintover.live_to_mesh", icon="TPAINT_HLT")
        if last_recording():
            layout.operator("paintover.live_to_timeline", icon="SEQUENCE")
        row = layout.row(align=True)
        row.prop(context.scene.paintover, "live_folder", text="")
        row.operator("paintover.live_open_folder", text="", icon="FILE_FOLDER")


class _Group(Tab):
    """The rows of a group that only the stage has."""

    bl_parent_id = PAINTOVER_PT_live.__name__
    bl_options = frozenset({"DEFAULT_CLOSED"})
    groups: tuple[str, ...] = ()

    def draw(self, context: Context) -> None:
        layout = self.layout  # type: ignore[attr-defined]
        layout.use_property_split = True
        layout.use_property_decorate = False
        for row in LIVE:
            if row.group in self.groups and row.name not in (*SWITCHES, *FIRST):
                layout.prop(context.scene.paintover, live_name(row))


class PAINTOVER_PT_live_prompts(_Group, bpy.types.Panel):
    bl_label = "Prompt Blend"

    def draw(self, context: Context) -> None:
        settings = context.scene.paintover
        used = [n for n in range(1, SLOTS + 1) if getattr(settings, f"prompt_{n}") or getattr(settings, _weight(n))]
        for number in range(1, min(SLOTS, max(used, default=0) + 1) + 1):
            row = self.layout.split(factor=0.65, align=True)
            row.prop(settings, f"prompt_{number}", text="", placeholder=LIVE_BY_NAME[f"prompt_{number}"].label)
            row.prop(settings, _weight(number), text="", slider=True)
        self.layout.prop(settings, "prompt_transition")


def _weight(number: int) -> str:
    return f"prompt_{number}_weight"


class PAINTOVER_PT_live_model(_Group, bpy.types.Panel):
    bl_label = "Live Model and Sampling"
    groups = ("model", "image")


class PAINTOVER_PT_live_feedback(_Group, bpy.types.Panel):
    bl_label = "Feedback"
    groups = ("feedback",)


class PAINTOVER_PT_live_output(_Group, bpy.types.Panel):
    bl_label = "Output"
    groups = ("stage",)

    def draw(self, context: Context) -> None:
        super().draw(context)
        self.layout.operator("paintover.live_fit", icon="FULLSCREEN_ENTER")


class PAINTOVER_PT_live_tempo(_Group, bpy.types.Panel):
    bl_label = "Tempo"
    groups = ("tempo",)

    def draw(self, context: Context) -> None:
        super().draw(context)
        trigger(self.layout, "tempo/tap", icon="TIME")


class PAINTOVER_PT_live_camera(_Group, bpy.types.Panel):
    bl_label = "Camera and Timeline"
    groups = ("blender",)


CLASSES = (
    PAINTOVER_PT_live,
    PAINTOVER_PT_live_record,
    PAINTOVER_PT_live_prompts,
    PAINTOVER_PT_live_model,
    PAINTOVER_PT_live_feedback,
    PAINTOVER_PT_live_output,
    PAINTOVER_PT_live_tempo,
    PAINTOVER_PT_live_camera,
)
