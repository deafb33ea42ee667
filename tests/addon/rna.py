"""All that RNA exposes of a data-block, as plain values by path."""

from __future__ import annotations

from typing import Any

import bpy

PLAIN = {"BOOLEAN", "INT", "FLOAT", "STRING", "ENUM"}
LEFT_OUT = {
    "rna_type",
    "users",  # 4.2 does not take back those that a copied scene gave its objects
    "is_evaluated",
    "depsgraph",
    "use_nodes",  # deprecated from 5.0 on, and says so when it is read
    "bl_system_properties",
    "uv_sculpt",  # reading its brush crashes 4.2
    "storage_type",  # how an attribute lies in memory: reading it is enough to change that
}
MOST = 20000
"""Elements of a collection (vertices, keyframes) that are looked at."""


def walk(block: bpy.types.bpy_struct, path: str, inside: tuple[Any, ...] = ()) -> dict[str, Any]:
    """Path -> value of every property of a struct and of what it owns. Other data-blocks are named, not entered, and
    neither is what the struct is inside of."""
    found: dict[str, Any] = {}
    key = block.as_pointer(), type(block)
    if key in inside:
        return found
    inside = (*inside, key)
    for prop in block.bl_rna.properties:
        name = prop.identifier
        if name in LEFT_OUT:
            continue
        try:
            value = getattr(block, name)
        except (AttributeError, RuntimeError, TypeError, ValueError):  # some cannot be read outside their context
            continue
        here = f"{path}.{name}"
        if prop.type in PLAIN:
            found[here] = _plain(value)
        elif prop.type == "POINTER":
            found |= _pointed(value, here, inside, owned=name in {"node_tree", "compositing_node_group"})
        else:
            found[f"{here}.length"] = len(value)
            for index, one in zip(range(MOST), value, strict=False):
                found |= _pointed(one, f"{here}[{index}]", inside)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, set):
        return sorted(value)
    return repr([list(row) if hasattr(row, "__len__") else row for row in value])


def _pointed(value: Any, path: str, inside: tuple[Any, ...], owned: bool = False) -> dict[str, Any]:
    if value is None or (isinstance(value, bpy.types.ID) and not owned):
        return {path: value and value.name_full}
    return walk(value, path, inside)
