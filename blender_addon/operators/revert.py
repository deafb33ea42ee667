"""Bring back what painted objects wore before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bpy

from .. import textures
from ..bridge.errors import PaintoverError
from .common import refuse

if TYPE_CHECKING:
    from bpy.types import Context


class PAINTOVER_OT_revert(bpy.types.Operator):
    """Give the selected objects their old materials back, and remove what Paintover added to them"""

    bl_idname = "paintover.revert"
    bl_label = "Revert Selected Objects"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        if not any(textures.is_painted(ob) for ob in context.selected_objects):
            cls.poll_message_set("None of the selected objects was painted by Paintover")
            return False
        return True

    def execute(self, context: Context) -> set[Any]:
        try:
            count = textures.revert_all(context.selected_objects)
        except PaintoverError as error:
            return refuse(self, error)
        self.report({"INFO"}, f"Reverted {count} object{'s' if count > 1 else ''}")
        return {"FINISHED"}


CLASSES = (PAINTOVER_OT_revert,)
