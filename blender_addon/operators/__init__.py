"""What the buttons do. Each operator checks what it needs, starts a task and returns at once; in background mode it
waits for the task, since no timer fires there."""

from __future__ import annotations

import bpy

from . import animate, away, connect, export_passes, fix_range, live, paint, revert, setup

CLASSES = (
    *connect.CLASSES,
    *setup.CLASSES,
    *paint.CLASSES,
    *away.CLASSES,
    *export_passes.CLASSES,
    *fix_range.CLASSES,
    *revert.CLASSES,
    *live.CLASSES,
    *animate.CLASSES,
)


def register() -> None:
    for cls in CLASSES:
        # Blender shows a docstring with its line breaks, and wraps what is longer than a tooltip once more.
        cls.bl_description = " ".join((cls.__doc__ or "").split())
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
