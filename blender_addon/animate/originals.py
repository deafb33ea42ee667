"""The artist's own data while other frames are evaluated: Blender writes what curves and drivers give into it, and what
was set by hand since would be lost."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import bpy

COLLECTIONS = (
    "objects", "shape_keys", "armatures", "cameras", "lights", "materials", "node_groups", "worlds", "meshes", "curves",
    "lattices", "metaballs", "particles", "textures", "speakers", "hair_curves", "volumes", "cache_files",
)  # fmt: skip
"""Whose data-blocks can be animated, without scenes: of those, a copy is evaluated."""
UNREADABLE = (AttributeError, KeyError, IndexError, TypeError, ValueError, SyntaxError, RuntimeError)
"""What a path raises that leads nowhere any more."""


@contextmanager
def kept() -> Iterator[None]:
    """Whatever is animated has its values back afterwards. Nothing may be added or removed meanwhile."""
    values = [(owner, name, _value(owner, name)) for owner, name in _animated()]
    try:
        yield
    finally:
        for owner, name, value in values:
            with contextlib.suppress(*UNREADABLE):
                if _value(owner, name) != value:
                    _set(owner, name, value)


def _animated() -> Iterator[tuple[Any, Any]]:
    """Every property that curves or drivers set: its owner, and its name; of a custom property [its name]."""
    for collection in COLLECTIONS:
        for block in getattr(bpy.data, collection, ()):
            for owner in (block, getattr(block, "node_tree", None)):
                animation = getattr(owner, "animation_data", None)
                if animation is not None:
                    for path in paths(animation):
                        with contextlib.suppress(*UNREADABLE):
                            found = _resolved(owner, path)
                            _value(*found)
                            yield found


def paths(animation: bpy.types.AnimData | None) -> set[str]:
    """RNA paths that an ID's curves and drivers write to."""
    if animation is None:
        return set()
    curves = [*animation.drivers, *_curves(animation.action, getattr(animation, "action_slot", None))]
    for track in animation.nla_tracks:
        for strip in track.strips:
            curves += _curves(strip.action, getattr(strip, "action_slot", None))
    return {curve.data_path for curve in curves}


def _curves(action: bpy.types.Action | None, slot: Any) -> list[bpy.types.FCurve]:
    if action is None:
        return []
    if hasattr(action, "fcurves"):  # up to 4.5
        return list(action.fcurves)
    bags = [strip.channelbag(slot) for layer in action.layers for strip in layer.strips if slot]
    return [curve for bag in bags if bag for curve in bag.fcurves]


def _resolved(block: bpy.types.ID, path: str) -> tuple[Any, Any]:
    if path.endswith("]"):
        head, _, key = path.rpartition("[")
        return (block.path_resolve(head) if head else block), [ast.literal_eval(key[:-1])]
    head, _, name = path.rpartition(".")
    return (block.path_resolve(head) if head else block), name


def _value(owner: Any, name: Any) -> Any:
    value = owner[name[0]] if isinstance(name, list) else getattr(owner, name)
    return tuple(value) if hasattr(value, "__len__") and not isinstance(value, str) else value


def _set(owner: Any, name: Any, value: Any) -> None:
    if isinstance(name, list):
        owner[name[0]] = value
    else:
        setattr(owner, name, value)
