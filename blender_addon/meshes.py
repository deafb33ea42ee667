"""Evaluated meshes of objects as they render, with all their copies, in world space."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import bpy
import numpy as np

from .bridge.errors import EmptyMesh, SceneError, ZeroScale
from .bridge.scene import MeshData
from .passes.ids import object_ids
from .passes.offstage import layer_name, offstage
from .steps import GO_ON, Steps, in_thread

NO_SURFACE = {"ARMATURE", "CAMERA", "EMPTY", "LATTICE", "LIGHT", "LIGHT_PROBE", "SPEAKER"}
DIRECTIONS = np.array([(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1), (1, -1, 0.5), (1, 0.5, -1)], np.float32)
"""In which the extent of a shape is measured."""
SHAPE = 1 + 4 * len(DIRECTIONS)
TINY = 1e-9
"""A scale this much smaller than the largest one is zero."""


@dataclass
class _Surface:
    """One evaluated mesh in its object's own space, as Blender holds it."""

    positions: np.ndarray  # float32 (V, 3)
    triangles: np.ndarray  # int32 (T, 3): vertices
    corners: np.ndarray  # int32 (T, 3)
    polygons: np.ndarray  # int32 (T,)
    normals: np.ndarray  # float32 (C, 3): of corners
    uvs: np.ndarray  # float32 (C, 2): of corners
    materials: np.ndarray  # int32 (P,): of polygons


def collect(
    scene: bpy.types.Scene,
    objects: Sequence[bpy.types.Object],
    uv_layers: Mapping[str, str],
    *,
    view_layer: str | None = None,
) -> list[MeshData]:
    """The surface of every object at the current frame: what Cycles would render of it, all modifiers included.

    An object's copies (collection instances, Geometry Nodes, Array) are in its mesh; linked duplicates are objects
    of their own. `uv_layers` names the UV layer by object name. Object ids are those of `passes`.

    Raises EmptyMesh, ZeroScale, BadMesh (coordinates that are not numbers), or SceneError for an object that does
    not render or that lacks its UV layer.
    """
    reader = Reader(objects, uv_layers)
    with offstage(scene, view_layer, with_cycles=False) as stage:
        stage.scene.render.resolution_x = stage.scene.render.resolution_y = 8
        stage.render(lambda _, depsgraph: reader.read(depsgraph))
    return reader.join()


def shown_steps(
    scene: Callable[[], bpy.types.Scene], objects: Sequence[bpy.types.Object]
) -> Steps[list[MeshData] | None]:
    """The objects' surfaces as the viewport shows them, without UVs, in steps of one object: for placing cameras.

    None if that is not what renders: an object is not shown, or a modifier acts in the one and not in the other.
    """
    if any(modifier.show_viewport != modifier.show_render for ob in objects for modifier in ob.modifiers):
        return None
    reader = Reader(objects, {})
    for name in list(reader.copies):
        yield GO_ON
        layer = scene().view_layers[layer_name(scene())]
        layer.update()
        reader.read(layer.depsgraph, name)
        if not reader.copies[name]:
            return None
    return (yield from in_thread(reader.join))


def arrangement(depsgraph: bpy.types.Depsgraph, *, shapes: bool = True) -> np.ndarray:
    """Where every surface of the scene is, and what is characteristic of its shape: float64 (copies, 16 + SHAPE), to be
    compared by `unchanged`. Without shapes it is the bounding box instead, and no object's data is asked for: where a
    window has modifiers done by the graphics card, that would do them again, all in one go."""
    seen: dict[int, np.ndarray] = {}
    places, of_places = [], []
    for instance in depsgraph.object_instances:
        ob = instance.object
        if ob.type in NO_SURFACE or not instance.show_self:
            continue
        if not shapes:
            shape = np.resize(ob.bound_box, SHAPE)
        elif (key := ob.data.as_pointer()) in seen:
            shape = seen[key]
        else:
            shape = seen[key] = _shape(ob.data)
        places.append([*(matrix := instance.matrix_world)[0], *matrix[1], *matrix[2], *matrix[3]])
        of_places.append(shape)
    return np.concatenate([np.reshape(places, (-1, 16)), np.reshape(of_places, (-1, SHAPE))], axis=1)


def unchanged(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether two `arrangement`s are the same, but for the last digits: a modifier may add up in any order."""
    return before.shape == after.shape and np.allclose(before, after, rtol=1e-5, atol=1e-7, equal_nan=True)


def _shape(data: bpy.types.ID) -> np.ndarray:
    """Number, extent, centre and spread of the points (meshes, hair, point clouds), in whatever order they are."""
    position = data.attributes.get("position") if hasattr(data, "attributes") else None
    if position is None or not len(position.data):
        return np.zeros(SHAPE)
    along = DIRECTIONS @ _get(position.data, "vector", len(position.data), 3).T  # rows, so that numpy is fast
    square = [row @ row / len(row) for row in along]
    return np.concatenate([[along.shape[1]], along.min(1), along.max(1), along.mean(1), square], dtype=np.float64)


class Reader:
    """Reads objects and all their copies off a depsgraph (`read`), and makes meshes of what it read (`join`)."""

    def __init__(self, objects: Sequence[bpy.types.Object], uv_layers: Mapping[str, str]) -> None:
        ids = object_ids()
        self.copies: dict[str, list[tuple[np.ndarray, _Surface]]] = {ob.name_full: [] for ob in objects}
        """Full name -> matrix and surface of every copy."""
        self._layers = {ob.name_full: uv_layers.get(ob.name, "") for ob in objects}
        self._hidden = {ob.name_full: ob.hide_render for ob in objects}
        self._ids = {ob.name_full: ids[ob.name_full] for ob in objects}

    def read(self, depsgraph: bpy.types.Depsgraph, only: str | None = None) -> None:
        """Read all objects, or the one of that full name."""
        known: dict[int, _Surface | None] = {}
        for instance in depsgraph.object_instances:
            name = instance.object.original.name_full
            if name not in self.copies or only not in (None, name) or not instance.show_self:
                continue
            key = instance.object.data.as_pointer()
            if key not in known:
                known[key] = _read(instance.object, self._layers[name], depsgraph)
            if surface := known[key]:
                self.copies[name].append((np.array(instance.matrix_world, np.float64), surface))

    def join(self) -> list[MeshData]:
        """A mesh for every object. Touches no bpy, so it may run in a thread. Raises as `collect` does."""
        return [_join(name, self._ids[name], self._hidden[name], copies) for name, copies in self.copies.items()]


def _read(evaluated: bpy.types.Object, uv_layer: str, depsgraph: bpy.types.Depsgraph) -> _Surface | None:
    """The object's evaluated mesh, or None if it has no faces. Without a UV layer its UVs are 0."""
    mesh = evaluated.to_mesh()
    try:
        if mesh is None or not len(mesh.polygons):
            return None
        if uv_layer and uv_layer not in mesh.uv_layers:
            raise SceneError(
                reason=f"the modifiers of {evaluated.original.name!r} lose its UV layer {uv_layer!r}",
                hint="Store the UVs in Geometry Nodes with Store Named Attribute, or apply the modifiers.",
            )
        corners, triangles = len(mesh.loops), len(mesh.loop_triangles)
        uvs = np.zeros((corners, 2), np.float32)
        if uv_layer:
            uvs = _get(mesh.uv_layers[uv_layer].uv, "vector", corners, 2)
        return _Surface(
            positions=_get(mesh.vertices, "co", len(mesh.vertices), 3),
            triangles=_get(mesh.loop_triangles, "vertices", triangles, 3, dtype=np.int32),
            corners=_get(mesh.loop_triangles, "loops", triangles, 3, dtype=np.int32),
            polygons=_get(mesh.loop_triangles, "polygon_index", triangles, dtype=np.int32),
            normals=_get(mesh.corner_normals, "vector", corners, 3),
            uvs=uvs,
            materials=_get(mesh.polygons, "material_index", len(mesh.polygons), dtype=np.int32),
        )
    finally:
        evaluated.to_mesh_clear()


def _get(blocks: bpy.types.bpy_prop_collection, name: str, *shape: int, dtype: type = np.float32) -> np.ndarray:
    flat: np.ndarray = np.empty(int(np.prod(shape)), dtype)
    blocks.foreach_get(name, flat)
    return flat.reshape(shape)


def _join(name: str, number: int, hidden: bool, copies: list[tuple[np.ndarray, _Surface]]) -> MeshData:
    """All copies as one mesh in world space."""
    if not copies:
        if hidden:
            raise SceneError(reason=f"{name!r} is hidden in renders", hint="Switch on its camera icon in the Outliner.")
        raise EmptyMesh(name=name)
    placed = [_place(matrix, surface) for matrix, surface in copies if not _flat(matrix)]
    if not placed:
        raise ZeroScale(name=name)
    first = np.cumsum([0] + [len(one[0]) for one in placed])
    positions, triangles, normals, uvs, materials = zip(*placed, strict=True)
    data = MeshData(
        name=name,
        object_id=number,
        positions=np.concatenate(positions),
        triangles=np.concatenate([one + start for one, start in zip(triangles, first, strict=False)]).astype(np.int32),
        normals=np.concatenate(normals),
        uvs=np.concatenate(uvs),
        materials=np.concatenate(materials),
    )
    data.check_values()
    return data


def _flat(matrix: np.ndarray) -> bool:
    scales = np.linalg.svd(matrix[:3, :3], compute_uv=False)
    return bool(scales[2] <= TINY * scales[0])


def _place(matrix: np.ndarray, surface: _Surface) -> tuple[np.ndarray, ...]:
    """The surface in world space: MeshData's positions, triangles, normals, uvs and materials.

    A mirroring matrix turns triangles around, so that they still face outward.
    """
    normals = surface.normals @ np.linalg.inv(matrix[:3, :3])
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    normals = np.divide(normals, length, out=np.zeros_like(normals), where=length > 0).astype(np.float32)
    positions = (surface.positions @ matrix[:3, :3].T + matrix[:3, 3]).astype(np.float32)
    turn = slice(None, None, -1) if np.linalg.det(matrix[:3, :3]) < 0 else slice(None)
    corners = surface.corners[:, turn]
    return (
        positions,
        surface.triangles[:, turn],
        normals[corners],
        surface.uvs[corners],
        surface.materials[surface.polygons],
    )
