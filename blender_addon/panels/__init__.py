"""The sidebar. Panels only draw: they change nothing and ask nobody."""

from __future__ import annotations

import bpy

from . import animate, live, passes, preview, sidebar

CLASSES = (*sidebar.CLASSES, *animate.CLASSES, *passes.CLASSES, *live.CLASSES)


def register() -> None:
    preview.register()
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
    preview.unregister()
