"""Evaluated meshes as the graphics card wants them: vertices, normals, triangles sorted by material slot."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import bpy
import numpy as np

from .wire import Wire, read_marks


@dataclass(frozen=True, eq=False)
class Geometry:
    """One evaluated mesh in its object's own space. Hashed by identity: an unchanged mesh is the same Geometry."""

    positions: np.ndarray
    """float32 (V, 3)."""
    normals: np.ndarray
    """float32 (V, 3): Blender's own, of faces, vertices or corners, with custom ones. May be 0 on broken faces."""
    uvs: np.ndarray | None
    """float32 (V, 2), if asked for."""
    mask_uvs: np.ndarray | None
    """float32 (V, 2): where its materials' masks are looked up, if they have any."""
    triangles: np.ndarray
    """int32 (T, 3): vertices."""
    parts: tuple[tuple[int, int, int], ...]
    """Material slot, first triangle and number of triangles of every slot that has any."""
    wire: Wire
    """Its edges."""

    def follows(self, before: Geometry) -> bool:
        """Whether its vertices are those of `before`, moved."""
        return (
            self.positions.shape == before.positions.shape
            and self.parts == before.parts
            and np.array_equal(self.triangles, before.triangles)
        )


def read(ob: bpy.types.Object, uv_layer: str | None = None, mask_layer: str | None = None) -> Geometry | None:
    """The evaluated object's mesh, or None if it has no faces.

    With `uv_layer` the UVs are read too: of the layer of that name, or of the one that renders where there is no such
    layer (0 where there is none at all). Likewise with `mask_layer`. Triangles with a corner
    that is not a number are left out.
    """
    # A stroke in Sculpt Mode changes the original, which is not evaluated as long as nothing is made of it.
    shown = ob.original if ob.mode == "SCULPT" and not ob.modifiers else ob
    mesh = shown.to_mesh()  # not ob.data: in Edit Mode, and under GPU subdivision, that is not what is shown
    try:
        if mesh is None or not len(mesh.polygons):
            return None
        return _read(mesh, uv_layer, mask_layer)
    finally:
        shown.to_mesh_clear()


def _read(mesh: bpy.types.Mesh, uv_layer: str | None, mask_layer: str | None) -> Geometry:
    positions = _get(mesh.attributes["position"].data, "vector", len(mesh.vertices), 3)
    triangles = _raw(mesh.loop_triangles, "loops", len(mesh.loop_triangles), 3)  # of corners
    vertices = _get(mesh.attributes[".corner_vert"].data, "value", len(mesh.loops), dtype=np.int32)
    uvs = mask_uvs = None
    corners, points = triangles, positions
    of_corners = not (uv_layer is None and mask_layer is None and mesh.normals_domain == "POINT")
    if not of_corners:
        # One normal a vertex: corners share theirs, and the graphics card transforms a quarter of the vertices.
        triangles = vertices[triangles]
        normals = _get(mesh.vertex_normals, "vector", len(mesh.vertices), 3)
    else:
        normals = _get(mesh.corner_normals, "vector", len(mesh.loops), 3)
        positions = positions[vertices]
        if uv_layer is not None:
            uvs = _uvs(mesh, uv_layer)
        if mask_layer is not None:
            mask_uvs = _uvs(mesh, mask_layer)
    slots = _slots(mesh)
    if not np.isfinite(positions.sum(dtype=np.float64)):
        sound = np.isfinite(positions).all(1)[triangles].all(1)
        triangles, corners, slots = triangles[sound], corners[sound], slots if slots is None else slots[sound]
        positions, points = (np.nan_to_num(p, nan=0.0, posinf=0.0, neginf=0.0) for p in (positions, points))
    edges = _get(mesh.attributes[".corner_edge"].data, "value", len(mesh.loops), dtype=np.int32)
    starts = _raw(mesh.polygons, "loop_start", len(mesh.polygons))
    wire = Wire(points, vertices, edges, starts, corners, slots, normals, of_corners, read_marks(mesh))
    return Geometry(positions, normals, uvs, mask_uvs, *_sorted(triangles, slots), wire)


def _uvs(mesh: bpy.types.Mesh, name: str) -> np.ndarray:
    layers = mesh.uv_layers
    layer = layers.get(name) or next((one for one in layers if one.active_render), None)
    if layer is None:
        return np.zeros((len(mesh.loops), 2), np.float32)
    return _get(layer.uv, "vector", len(mesh.loops), 2)


def _slots(mesh: bpy.types.Mesh) -> np.ndarray | None:
    """int32 (T,): material slot of every triangle; None if all are 0."""
    if "material_index" not in mesh.attributes:
        return None
    slots = _get(mesh.attributes["material_index"].data, "value", len(mesh.polygons), dtype=np.int32)
    if not slots.any():
        return None
    starts = _raw(mesh.polygons, "loop_start", len(mesh.polygons))
    corners = np.diff(starts, append=len(mesh.loops))
    return np.repeat(slots, corners - 2)  # a polygon of n corners is n − 2 triangles


def _sorted(triangles: np.ndarray, slots: np.ndarray | None) -> tuple[np.ndarray, tuple[tuple[int, int, int], ...]]:
    """Triangles by material slot, and where every slot's are: slot, first, count."""
    if slots is None:
        return triangles, ((0, 0, len(triangles)),)
    order = np.argsort(slots, kind="stable")
    found, first, counts = np.unique(slots[order], return_index=True, return_counts=True)
    return triangles[order], tuple(zip(found.tolist(), first.tolist(), counts.tolist(), strict=True))


def _get(blocks: bpy.types.bpy_prop_collection, name: str, *shape: int, dtype: type = np.float32) -> np.ndarray:
    flat: np.ndarray = np.empty(int(np.prod(shape)), dtype)
    blocks.foreach_get(name, flat)
    return flat.reshape(shape)


def _raw(blocks: bpy.types.bpy_prop_collection, name: str, *shape: int) -> np.ndarray:
    """`_get` of int32 that lie in one array, from Blender's memory: foreach_get calls a function for each of them,
    which for a large mesh takes longer than all the rest. Where they turn out to lie otherwise, it is `_get`.
    """
    count, size = shape[0], 4 * int(np.prod(shape[1:]))
    array: np.ndarray = np.empty(shape, np.int32)
    if not count:
        return array
    first, last = blocks[0].as_pointer(), blocks[count - 1].as_pointer()
    if last - first != size * (count - 1):
        return _get(blocks, name, *shape, dtype=np.int32)
    ctypes.memmove(array.ctypes.data, first, size * count)
    same = all(np.array_equal(array[i], getattr(blocks[i], name)) for i in (0, count // 2, count - 1))
    return array if same else _get(blocks, name, *shape, dtype=np.int32)
