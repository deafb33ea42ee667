"""What Blender has evaluated anew, so that nothing else is read again."""

from __future__ import annotations

import weakref
from typing import Any

import bpy
from bpy.app.handlers import persistent

from .sculpting import kept_apart

UNSEEN = {"CAMERA", "LIGHT", "LIGHT_PROBE", "SPEAKER"}
"""Objects that are not drawn and place nothing: that they moved changes no picture but through the camera."""
UNSEEN_DATA = (bpy.types.Camera, bpy.types.Light, bpy.types.World, bpy.types.Speaker, bpy.types.LightProbe)


class Changes:
    """What changed since `take` was called last. Starts with everything."""

    def __init__(self) -> None:
        self._all = True
        self._any = True
        self._geometry: set[int] = set()
        self._strokes: set[int] = set()
        self.only = 0
        """Address of the only depsgraph that counts; 0 for all."""
        _watchers.add(self)
        _install()

    def take(self) -> tuple[bool, bool, set[int]]:
        """Whether all is to be read again; whether anything that shows has changed, places included; and the session
        uids of the objects and data whose geometry has, and of images that have."""
        taken = self._all, self._any, self._geometry
        self._all = self._any = False
        self._geometry = set()
        return taken

    def take_strokes(self) -> set[int]:
        """Session uids of objects that are sculpted apart from their mesh (see sculpting.py) and were since this was
        called last."""
        taken, self._strokes = self._strokes, set()
        return taken

    def drop(self) -> None:
        """All that is known is void: another file, an undo, a lost context."""
        self._all = self._any = True

    def add(self, updates: list[tuple[int, bool, bool]], strokes: set[int], depsgraph: int) -> None:
        if self.only and depsgraph != self.only:
            return
        self._strokes |= strokes
        self._any = self._any or any(shows for _, _, shows in updates)
        self._geometry.update(uid for uid, geometry, _ in updates if geometry)

    def close(self) -> None:
        """Listen no longer."""
        _watchers.discard(self)
        if not _watchers:
            _remove()


_watchers: weakref.WeakSet[Changes] = weakref.WeakSet()


def _shows(block: bpy.types.ID) -> bool:
    if isinstance(block, bpy.types.Object):
        return block.type not in UNSEEN
    return not isinstance(block, UNSEEN_DATA)


def _paints_or_sculpts(block: bpy.types.ID) -> bool:
    """Whether it may have changed without its geometry being evaluated: images, and what a stroke in Sculpt Mode is
    at."""
    return isinstance(block, bpy.types.Image) or (isinstance(block, bpy.types.Object) and block.mode == "SCULPT")


def _is_stroke(block: bpy.types.ID, update: bpy.types.DepsgraphUpdate) -> bool:
    """Whether it is a stroke that has not reached the mesh: then nothing can be seen of it yet."""
    if not isinstance(block, bpy.types.Object) or block.mode != "SCULPT":
        return False
    return not (update.is_updated_geometry or update.is_updated_transform) and kept_apart(block.original)


@persistent
def _evaluated(_: Any, depsgraph: bpy.types.Depsgraph | None = None) -> None:
    if depsgraph is None:
        return
    updates = [(one.id, one) for one in depsgraph.updates]
    strokes = {block.original.session_uid for block, one in updates if _is_stroke(block, one)}
    read = [
        (block.original.session_uid, one.is_updated_geometry or _paints_or_sculpts(block), _shows(block))
        for block, one in updates
        if not _is_stroke(block, one)
    ]
    for watcher in _watchers:
        watcher.add(read, strokes, depsgraph.as_pointer())


@persistent
def _replaced(*_: Any) -> None:
    for watcher in _watchers:
        watcher.drop()


def _handlers() -> list[tuple[list[Any], Any]]:
    on = bpy.app.handlers
    evaluated, replaced = (on.depsgraph_update_post, on.frame_change_post), (on.load_post, on.undo_post, on.redo_post)
    return [(one, _evaluated) for one in evaluated] + [(one, _replaced) for one in replaced]


def _install() -> None:
    for handlers, function in _handlers():
        if function not in handlers:
            handlers.append(function)


def _remove() -> None:
    for handlers, function in _handlers():
        if function in handlers:
            handlers.remove(function)
