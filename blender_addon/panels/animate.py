"""The Animate panel of the Paintover tab: the range, the words, what holds a shot still, and where its frames go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bpy

from ..animate.look_first import LookTask
from ..animate.timeline import PROMPT
from ..bridge.parameters import PARAMETERS
from ..operators.animate import running
from .sidebar import PAINTOVER_PT_main, Tab, draw_text

if TYPE_CHECKING:
    from bpy.types import Context

    from ..animate.task import ShotTask


class PAINTOVER_PT_animate(Tab, bpy.types.Panel):
    bl_label = "Animate"
    bl_parent_id = PAINTOVER_PT_main.__name__
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: Context) -> None:
        layout, scene = self.layout, context.scene
        settings = scene.paintover
        row = layout.row(align=True)
        row.prop(scene, "frame_start", text="Start")
        row.prop(scene, "frame_end", text="End")
        row.prop(scene, "frame_step", text="Step")
        layout.prop(settings, "shot_backwards")
        row = layout.row(align=True)
        row.prop(settings, "shot_folder", text="")
        row.prop(settings, "shot_format", text="")
        row.operator("paintover.open_shot_folder", text="", icon="FILE_FOLDER")
        # What runs has no button: Blender would leave one that was pressed grey for as long as the mouse rests on it.
        task = running()
        row = layout.row(align=True)
        if isinstance(task, LookTask):
            draw_progress(row, task)
        else:
            row.operator("paintover.look_first", icon="IMAGE_ALPHA")
            row.prop(settings, "look_every")
        row = layout.row(align=True)
        row.scale_y = 1.3
        if task and not isinstance(task, LookTask):
            draw_progress(row, task)
        else:
            row.operator("paintover.render_shot", icon="RENDER_ANIMATION")
            row.operator("paintover.render_shot", text="", icon="FILE_REFRESH").again = True
        row = layout.row(align=True)
        row.operator("paintover.shot_to_sequencer", text="To Sequencer", icon="SEQUENCE")
        row.operator_menu_enum("paintover.shot_to_video", "codec", text="To Video", icon="FILE_MOVIE")


def draw_progress(row: Any, task: ShotTask) -> None:
    row.progress(factor=task.fraction, text=f"{task.label}: {task.fraction:.0%}")


class PAINTOVER_UL_weighted(bpy.types.UIList):
    """Texts with weights that can be keyframed."""

    def draw_item(
        self, context: Context, layout: Any, data: Any, item: Any, icon: Any, active: Any, name: Any, index: int
    ) -> None:
        row = layout.split(factor=0.65)
        lora = name == "lora_index"
        row.prop(item, "text", text="", emboss=False, placeholder="Name of a LoRA" if lora else "What to paint")
        row.prop(item, "weight", text="", slider=True)


def draw_list(layout: Any, settings: Any, kind: str, words: str) -> None:
    row = layout.row()
    row.template_list(PAINTOVER_UL_weighted.__name__, kind, settings, f"{kind}s", settings, f"{kind}_index", rows=3)
    column = row.column(align=True)
    column.operator(f"paintover.{kind}_add", text="", icon="ADD")
    column.operator(f"paintover.{kind}_remove", text="", icon="REMOVE")
    draw_text(layout, words, "INFO")


class PAINTOVER_PT_animate_prompts(Tab, bpy.types.Panel):
    bl_label = "Prompts over Time"
    bl_parent_id = PAINTOVER_PT_animate.__name__

    def draw(self, context: Context) -> None:
        words = f"These are blended with the prompt above. A marker named “{PROMPT} red brick” takes its place."
        draw_list(self.layout, context.scene.paintover, "prompt", words)


class PAINTOVER_PT_animate_loras(Tab, bpy.types.Panel):
    bl_label = "LoRAs over Time"
    bl_parent_id = PAINTOVER_PT_animate.__name__
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: Context) -> None:
        words = "These come in addition to those under Model and Sampling."
        draw_list(self.layout, context.scene.paintover, "lora", words)


class PAINTOVER_PT_animate_hold(Tab, bpy.types.Panel):
    bl_label = "What Holds It Still"
    bl_parent_id = PAINTOVER_PT_animate.__name__
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: Context) -> None:
        layout, settings = self.layout, context.scene.paintover
        layout.use_property_split = True
        for parameter in PARAMETERS:
            if parameter.group == "animate":
                row = layout.row()
                row.active = parameter.name != "animate_deflicker" or settings.animate_hold < 1
                row.prop(settings, parameter.name)


CLASSES = (
    PAINTOVER_UL_weighted,
    PAINTOVER_PT_animate,
    PAINTOVER_PT_animate_prompts,
    PAINTOVER_PT_animate_loras,
    PAINTOVER_PT_animate_hold,
)
