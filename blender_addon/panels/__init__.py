"""The sidebar. Panels only draw: they change nothing and ask nobody."""

from __future__ import annotations

import bpy

from . import preview, sidebar


def register() -> None:
    preview.register()
    for cls in sidebar.CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(sidebar.CLASSES):
        bpy.utils.unregister_class(cls)
    preview.unregister()
