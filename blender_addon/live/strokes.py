"""Brings what is sculpted apart from the mesh into it, between strokes: see passes/sculpting.py."""

from __future__ import annotations

import bpy

from ..passes import sculpting
from ..passes.changes import Changes

EDITING = ("SCULPT_OT_", "PAINT_OT_", "TRANSFORM_OT_", "MESH_OT_", "OBJECT_OT_")
"""Beginnings of the names of operators that go on while the mouse is held, and change what is sculpted."""


class Strokes:
    """Knows when a stroke has ended. For whoever draws a view layer live."""

    def __init__(self) -> None:
        self._changes = Changes()
        self._of = 0
        """Session uid of the object that was looked at last."""
        self._due = False

    def bring(self, scene: bpy.types.Scene, layer: bpy.types.ViewLayer) -> bool:
        """Have the mesh be what the strokes up to now have made of it. To be called again and again in the main thread,
        not while Blender draws. Returns whether there was something to do."""
        self._changes.only = layer.depsgraph.as_pointer() if layer.depsgraph else 0
        everything, _, changed = self._changes.take()
        changed |= self._changes.take_strokes()
        ob = layer.objects.active
        if ob is None or not sculpting.kept_apart(ob):
            self._of = 0
            sculpting.forget()
            return False
        uid = ob.session_uid
        if everything or uid != self._of or uid in changed or sculpting.wants(ob):
            self._due, self._of = True, uid
        if not self._due or _editing():
            return False
        self._due = False
        bpy.ops.ed.flush_edits()
        layer.update()
        if sculpting.multires(ob):
            sculpting.read(scene, ob)
            layer.update()
        self._changes.take()  # that was no stroke
        self._changes.take_strokes()
        return True

    def close(self) -> None:
        self._changes.close()
        sculpting.forget()


def _editing() -> bool:
    """Whether a stroke, or something like it, goes on."""
    return any(
        operator.bl_idname.startswith(EDITING)
        for window in bpy.context.window_manager.windows
        for operator in window.modal_operators
    )
