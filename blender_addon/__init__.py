"""Paintover for Blender: paints over the scene through a diffusion server. Everything that touches bpy lives here."""

from __future__ import annotations

import bpy

from . import operators, overlay, panels, preferences, properties, pump, server_process
from .passes import gpu_route
from .session import session

PARTS = (preferences, properties, overlay, operators, panels)


def register() -> None:
    for part in PARTS:
        part.register()
    bpy.app.handlers.load_post.append(pump.file_opened)
    bpy.app.handlers.save_pre.append(pump.file_is_saved)


def unregister() -> None:
    bpy.app.handlers.save_pre.remove(pump.file_is_saved)
    bpy.app.handlers.load_post.remove(pump.file_opened)
    pump.stop()
    session.close()
    gpu_route.forget()
    server_process.leave()
    for part in reversed(PARTS):
        part.unregister()
