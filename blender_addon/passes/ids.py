"""Numbers for objects and materials, so that passes can tell them apart.

Blender's own pass index is often 0 or shared. Inside `numbered` every object and material has one of its own; after
it, each has its old one again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import bpy
import numpy as np

from ..bridge.errors import SceneError

LARGEST = 32767
"""Blender's largest pass index."""


def object_ids() -> dict[str, int]:
    """Full name -> id (1…) of every object of the file. The same until objects are added, removed or renamed."""
    objects = bpy.data.objects
    if len(objects) > LARGEST:
        raise SceneError(
            reason=f"the file has {len(objects):,} objects, and passes can tell {LARGEST:,} apart",
            hint="Join objects, or purge unused ones: File > Clean Up.",
        )
    return {ob.name_full: number for number, ob in enumerate(objects, 1)}


@contextmanager
def numbered(ids: dict[str, int]) -> Iterator[None]:
    """Give every object its id of `ids`, and every material any number of its own, as pass index."""
    materials = {material.name_full: 1 + i % LARGEST for i, material in enumerate(bpy.data.materials)}
    old_objects, old_materials = _indices(bpy.data.objects), _indices(bpy.data.materials)
    try:
        _set_indices(bpy.data.objects, ids)
        _set_indices(bpy.data.materials, materials)
        yield
    finally:
        _set_indices(bpy.data.objects, old_objects)
        _set_indices(bpy.data.materials, old_materials)


def _indices(blocks: bpy.types.bpy_prop_collection) -> dict[str, int]:
    return {block.name_full: block.pass_index for block in blocks}


def _set_indices(blocks: bpy.types.bpy_prop_collection, wanted: dict[str, int]) -> None:
    # In bulk: setting them one by one would have every viewport evaluate every object again.
    values = [wanted.get(block.name_full, block.pass_index) for block in blocks]
    blocks.foreach_set("pass_index", np.array(values, np.int32))
