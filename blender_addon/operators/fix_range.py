"""Give the depth hint one range for a whole shot, so that a painted animation does not pump."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import bpy

from .. import cameras, passes
from ..bridge.errors import RenderFailed
from ..bridge.hints import ShotRange
from .common import needs_renderer
from .frames import OverFrames

if TYPE_CHECKING:
    from bpy.types import Context

SIZE = 256
"""Longer side in pixels of what is measured."""


class PAINTOVER_OT_fix_range(OverFrames, bpy.types.Operator):
    """Measure what the scene's camera sees in all frames of the scene's range, and have the depth hint of every image
    go from the nearest to the farthest of that"""

    bl_idname = "paintover.fix_range"
    bl_label = "Fix Range for Shot"
    bl_options = {"REGISTER", "UNDO"}
    verb = "measures the shot"

    @classmethod
    def poll(cls, context: Context) -> bool:
        if context.scene.camera is None:
            cls.poll_message_set("The scene has no camera")
            return False
        return needs_renderer(cls)

    def execute(self, context: Context) -> set[Any]:
        self._range = ShotRange()
        return self.begin(context, self._measure(context.scene), modal=True)

    def _measure(self, scene: bpy.types.Scene) -> Iterator[None]:
        for frame in range(scene.frame_start, scene.frame_end + 1, scene.frame_step):
            scene.frame_set(frame)
            self._range.add(passes.render(scene, cameras.from_scene(scene, SIZE)).depth)
            yield

    def done(self, scene: bpy.types.Scene) -> None:
        limits = self._range.limits()
        if limits is None:
            raise RenderFailed(
                reason="the camera sees nothing in any frame", hint="Aim the camera, or set Near and Far by hand."
            )
        settings = scene.paintover
        settings.depth_near, settings.depth_far = limits
        settings.depth_range = "fixed"
        near, far = settings.depth_near, settings.depth_far
        self.report({"INFO"}, f"The depth hint goes from {near:.4g} to {far:.4g} Blender units in every frame")


CLASSES = (PAINTOVER_OT_fix_range,)
