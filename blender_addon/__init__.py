"""Paintover for Blender: paints over the scene through a diffusion server. Everything that touches bpy lives here."""

from __future__ import annotations

import bpy

from . import operators, overlay, panels, preferences, properties, pump, render_engine, server_process
from .passes import gpu_route
from .session import session

HANDLERS = (
    (bpy.app.handlers.load_post, pump.file_opened),
    (bpy.app.handlers.save_pre, pump.file_is_saved),
    (bpy.app.handlers.undo_post, pump.undone),
    (bpy.app.handlers.redo_post, pump.undone),
)
PARTS = (preferences, properties, overlay, operators, render_engine, panels)


def register() -> None:
    for part in PARTS:
        part.register()
    for handlers, function in HANDLERS:
        handlers.append(function)
    pump.start()


def unregister() -> None:
    for handlers, function in HANDLERS:
        handlers.remove(function)
    pump.stop()
    session.close()
    gpu_route.forget()
    server_process.leave()
    for part in reversed(PARTS):
        part.unregister()
