"""What Sculpt Mode keeps apart from the mesh: with Dynamic Topology a mesh of its own, with a Multires modifier grids.

Neither can be read while a stroke goes on. Between two strokes Blender brings both into the mesh when it is told to, as
it does itself before it saves (`ed.flush_edits`). Even then it evaluates the modifier without what is sculpted as long
as the object is in Sculpt Mode; so that is read off a copy of the object, in a scene that is there for a moment only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import bpy

from . import geometry
from .geometry import Geometry

Variant = tuple[str | None, str | None]
"""UV layer and layer of masks that are read along."""

_asked: dict[int, set[Variant]] = {}
"""Session uid of an object that is sculpted on grids -> what was asked for of it."""
_read: dict[int, tuple[int, dict[Variant, Geometry | None]]] = {}
"""Likewise: the number of the reading, and what was read."""
_readings = 0


def multires(ob: bpy.types.Object) -> bpy.types.MultiresModifier | None:
    """The modifier on whose grids an original object is sculpted now."""
    if ob.mode != "SCULPT" or ob.use_dynamic_topology_sculpting:
        return None
    modifier = next((one for one in ob.modifiers if one.type == "MULTIRES" and one.show_viewport), None)
    if modifier is None or not modifier.sculpt_levels or modifier.use_sculpt_base_mesh:
        return None
    return modifier


def kept_apart(ob: bpy.types.Object) -> bool:
    """Whether strokes on an original object do not reach its mesh by themselves."""
    return ob.mode == "SCULPT" and (ob.use_dynamic_topology_sculpting or multires(ob) is not None)


def known(ob: bpy.types.Object, variant: Variant) -> tuple[int, Geometry | None] | None:
    """What was read last of an original object that is sculpted on grids, and the reading's number. None for others,
    and before it was read."""
    if multires(ob) is None:
        return None
    _asked.setdefault(ob.session_uid, set()).add(variant)
    number, variants = _read.get(ob.session_uid, (0, {}))
    return (number, variants[variant]) if variant in variants else None


def wants(ob: bpy.types.Object) -> bool:
    """Whether something was asked for that was not read."""
    variants = _read.get(ob.session_uid, (0, {}))[1]
    return not _asked.get(ob.session_uid, set()) <= set(variants)


def read(scene: bpy.types.Scene, ob: bpy.types.Object) -> None:
    """Read an original object that is sculpted on grids, after `ed.flush_edits`. Not while Blender draws."""
    global _readings
    _readings += 1
    variants = _asked.get(ob.session_uid, set()) or {(None, None)}
    with _outside_sculpt_mode(scene, ob) as shown:
        _read[ob.session_uid] = _readings, {variant: geometry.read(shown, *variant) for variant in variants}


def forget() -> None:
    """Nothing is sculpted on grids."""
    _asked.clear()
    _read.clear()


@contextmanager
def _outside_sculpt_mode(scene: bpy.types.Scene, ob: bpy.types.Object) -> Iterator[bpy.types.Object]:
    """An evaluated copy of the object, in Object Mode, at the level and with the modifiers that Sculpt Mode shows."""
    modifier = multires(ob)
    assert modifier is not None
    stage = bpy.data.scenes.new("Paintover Sculpting")
    copy = ob.copy()  # of the object: they share the mesh
    try:
        copy.hide_viewport = False
        after = False
        for one in copy.modifiers:
            if after:
                one.show_viewport = False  # Sculpt Mode does not show what comes after the grids
            elif one.name == modifier.name:
                one.levels, after = modifier.sculpt_levels, True
        stage.frame_current, stage.frame_subframe = scene.frame_current, scene.frame_subframe
        stage.collection.objects.link(copy)
        layer = stage.view_layers[0]
        layer.update()
        yield copy.evaluated_get(layer.depsgraph)
    finally:
        bpy.data.scenes.remove(stage)
        bpy.data.objects.remove(copy)
