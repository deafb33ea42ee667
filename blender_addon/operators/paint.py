"""Paint the selected objects, or the camera's view."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bpy

from .. import properties
from ..bridge.errors import PaintoverError
from ..tasks import ViewTask
from ..texture_task import TextureTask
from .common import needs_renderer, needs_server, refuse, run

if TYPE_CHECKING:
    from bpy.types import Context


class PAINTOVER_OT_texture(bpy.types.Operator):
    """Paint the textures of the selected objects from the prompt. Their old materials are kept: Revert brings them
    back"""

    bl_idname = "paintover.texture"
    bl_label = "Paint Selected Objects"
    bl_options = {"REGISTER"}  # the result, when it comes, is a step of its own to undo

    @classmethod
    def poll(cls, context: Context) -> bool:
        if not needs_server(cls) or not needs_renderer(cls):
            return False
        if not any(ob.type == "MESH" for ob in context.selected_objects):
            cls.poll_message_set("Select the mesh objects to paint")
            return False
        return True

    def execute(self, context: Context) -> set[Any]:
        try:
            settings = properties.snapshot(context.scene)
            lit = context.scene.paintover.shading == "LIT"
            task = TextureTask(settings, context.scene, context.selected_objects, lit)
        except PaintoverError as error:
            return refuse(self, error)
        return run(self, task)


class PAINTOVER_OT_render_view(bpy.types.Operator):
    """Paint what the scene's camera sees as an image"""

    bl_idname = "paintover.render_view"
    bl_label = "Paint Camera View"
    bl_options = {"REGISTER"}  # the result, when it comes, is a step of its own to undo

    @classmethod
    def poll(cls, context: Context) -> bool:
        return needs_server(cls) and needs_renderer(cls)

    def execute(self, context: Context) -> set[Any]:
        try:
            task = ViewTask(properties.snapshot(context.scene), context.scene)
        except PaintoverError as error:
            return refuse(self, error)
        return run(self, task)


CLASSES = (PAINTOVER_OT_texture, PAINTOVER_OT_render_view)
