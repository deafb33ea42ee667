"""The Passes panel of the Paintover tab: the depth hint's range, a look at the passes, and their export."""

from __future__ import annotations

from typing import TYPE_CHECKING

import bpy

from ..bridge.parameters import PARAMETERS

if TYPE_CHECKING:
    from bpy.types import Context


class PAINTOVER_PT_passes(bpy.types.Panel):
    bl_label = "Passes"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Paintover"
    bl_parent_id = "PAINTOVER_PT_main"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: Context) -> None:
        layout = self.layout
        settings, overlay = context.scene.paintover, context.window_manager.paintover_overlay
        layout.use_property_split = True
        layout.use_property_decorate = False
        column = layout.column(heading="Depth")
        for parameter in PARAMETERS:
            if parameter.group == "depth":
                row = column.row()
                row.active = parameter.name == "depth_range" or settings.depth_range == "fixed"
                row.prop(settings, parameter.name)
        column.operator("paintover.fix_range", icon="TRACKING_FORWARDS_SINGLE")
        layout.separator()
        column = layout.column()
        column.prop(overlay, "show", icon="OVERLAY")
        column = column.column()
        column.active = overlay.show
        column.prop(overlay, "what")
        column.prop(overlay, "opacity")
        layout.separator()
        layout.operator("paintover.export_passes", icon="EXPORT")


CLASSES = (PAINTOVER_PT_passes,)
