"""Brings what is sculpted apart from the mesh into it, between strokes: see passes/sculpting.py."""

from __future__ import annotations

import time

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
        self.due = False
        """Whether something was sculpted that is not in the mesh yet."""
        self._cost = 0.0
        """Seconds that it took the last time."""
        self._last = 0.0
        """When something was sculpted last."""

    def bring(self, scene: bpy.types.Scene, layer: bpy.types.ViewLayer) -> bool:
        """Have the mesh be what the strokes up to now have made of it. To be called again and again in the main thread,
        not while Blender draws. Returns whether there was something to do.

        Blender stands still for it, some tenths of a second with 100,000 faces: so the artist must have paused for as
        long as it took the last time, and who makes one quick stroke after the other is not held up.
        """
        self._changes.only = layer.depsgraph.as_pointer() if layer.depsgraph else 0
        everything, _, changed = self._changes.take()
        changed |= self._changes.take_strokes()
        ob = layer.objects.active
        if ob is None or not sculpting.kept_apart(ob):
            self._of, self.due, self._cost = 0, False, 0.0
            sculpting.forget()
            return False
        uid = ob.session_uid
        begun = time.monotonic()
        if everything or uid != self._of or uid in changed or sculpting.wants(ob):
            self.due, self._of, self._last = True, uid, begun
        if self.due and _editing():
            self._last = begun
            return False
        if not self.due or begun - self._last < self._cost:
            return False
        self.due = False
        bpy.ops.ed.flush_edits()
        layer.update()
        if sculpting.multires(ob):
            sculpting.read(scene, ob)
            layer.update()
        self._changes.take()  # that was no stroke
        self._changes.take_strokes()
        self._cost = time.monotonic() - begun
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
