"""The one door to Blender's main thread: a single timer that lets the session work for a few milliseconds, and a render
by the engine do what belongs there."""

from __future__ import annotations

import contextlib
import traceback
from typing import Any

import bpy

from . import away, main_thread
from .bridge.errors import PaintoverError
from .session import session

LIVE_INTERVAL = 0.008
BUSY_INTERVAL = 0.02
IDLE_INTERVAL = 0.25


def start() -> None:
    """Have the timer running. In background there are no timers: operators drain the session themselves."""
    if not bpy.app.background and not bpy.app.timers.is_registered(_tick):
        bpy.app.timers.register(_tick, first_interval=0.0, persistent=True)


@bpy.app.handlers.persistent
def file_opened(*_: Any) -> None:
    """After another file was opened (not before: that may fail): the server may have something for it."""
    session.leave_file()
    away.identify_all(opened=True)
    with contextlib.suppress(PaintoverError):  # the connection has just ended: the next tick says so
        session.refresh()


@bpy.app.handlers.persistent
def undone(*_: Any) -> None:
    """After an undo or a redo."""
    if session.live:
        session.live.undone()


@bpy.app.handlers.persistent
def file_is_saved(*_: Any) -> None:
    """Before it is, maybe under another name."""
    away.identify_all()


def stop() -> None:
    """Unregister the timer: one that is left behind makes some Blenders hang at exit."""
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)


def _tick() -> float:
    try:
        main_thread.serve()
        changed = session.tick()
    except Exception:  # noqa: BLE001 - one that escapes here would end the timer, and freeze every task
        traceback.print_exc()
        changed = True
    if changed:
        _redraw()
    if session.live or bpy.app.is_job_running("RENDER"):
        return LIVE_INTERVAL
    return BUSY_INTERVAL if session.busy else IDLE_INTERVAL  # a render that begins asks from its own thread


def _redraw() -> None:
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type in {"IMAGE_EDITOR", "PREFERENCES"}:
                area.tag_redraw()
            elif area.type == "VIEW_3D":
                # The sidebar alone: drawing the scene takes long, and Blender does that itself when it changes.
                for region in area.regions:
                    if region.type == "UI":
                        region.tag_redraw()
