"""The truth about what a camera sees, ray by ray: Blender's own ray cast, and the mesh that was hit. Runs in Blender."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import bpy
import numpy as np
from mathutils import Vector

REACH = 1e-5
"""A ray that starts on the near end may miss a surface there by rounding; nothing is tested this close to an end."""


@dataclass
class Surface:
    """A mesh of one frame as plain arrays: triangles are looked up by polygon."""

    positions: np.ndarray
    triangles: np.ndarray
    corners: np.ndarray
    normals: np.ndarray
    first: np.ndarray
    """Of every polygon: its first triangle. Polygon p has triangles first[p]:first[p + 1]."""


@dataclass
class Moment:
    """One frame: the camera, every object's mesh, and every instance's matrix."""

    camera: Any
    surfaces: dict[str, Surface] = field(default_factory=dict)
    instances: dict[str, list[tuple[tuple[object, ...], np.ndarray]]] = field(default_factory=dict)
    """Object -> key and matrix of all its instances."""


@dataclass
class Truth:
    """What is known of n pixels. Arrays of n; NaN where a thing is not known."""

    pixels: np.ndarray
    """int (n, 2): row and column."""
    hit: np.ndarray
    depth: np.ndarray
    name: np.ndarray
    normal: np.ndarray
    """(n, 3): camera space; of faces that are smooth, interpolated as for shading."""
    smooth: np.ndarray
    motion: np.ndarray
    border: np.ndarray
    """Whether a silhouette is within a pixel."""


def moment(scene: bpy.types.Scene, camera: Any) -> Moment:
    """Read the current frame, as the view layer evaluates it."""
    depsgraph = bpy.context.evaluated_depsgraph_get()
    found = Moment(camera)
    foreign: set[str] = set()
    for one in depsgraph.object_instances:
        ob = one.object
        if ob.type != "MESH" or not one.show_self:
            continue
        name = ob.original.name
        key = (one.parent.original.name, *one.persistent_id) if one.is_instance else ()
        found.instances.setdefault(name, []).append((key, np.array(one.matrix_world, np.float64)))
        surface = _surface(ob)
        if surface is None:
            foreign.add(name)
        elif name not in found.surfaces:
            found.surfaces[name] = surface
        elif found.surfaces[name].positions.shape != surface.positions.shape:
            foreign.add(name)  # an object and instances that Geometry Nodes make of other geometry
    for name in foreign:
        found.surfaces.pop(name, None)
    return found


def _surface(ob: bpy.types.Object) -> Surface | None:
    mesh = ob.to_mesh()
    try:
        if mesh is None or not len(mesh.polygons):
            return None
        count = len(mesh.loop_triangles)
        polygons = np.array([triangle.polygon_index for triangle in mesh.loop_triangles])
        return Surface(
            positions=np.array([vertex.co for vertex in mesh.vertices], np.float64),
            triangles=np.array([triangle.vertices for triangle in mesh.loop_triangles]).reshape(count, 3),
            corners=np.array([triangle.loops for triangle in mesh.loop_triangles]).reshape(count, 3),
            normals=np.array([one.vector for one in mesh.corner_normals], np.float64),
            first=np.searchsorted(polygons, np.arange(len(mesh.polygons) + 1)),
        )
    finally:
        ob.to_mesh_clear()


def cast(scene: bpy.types.Scene, now: Moment, before: Moment | None, pixels: np.ndarray) -> Truth:
    """The truth at pixel centres, int (n, 2)."""
    rays = Rays(scene, now)
    truth = Truth(
        pixels=pixels,
        hit=np.zeros(len(pixels), bool),
        depth=np.full(len(pixels), np.inf),
        name=np.full(len(pixels), "", object),
        normal=np.full((len(pixels), 3), np.nan),
        smooth=np.zeros(len(pixels), bool),
        motion=np.full((len(pixels), 2), np.nan),
        border=np.zeros(len(pixels), bool),
    )
    around = [(y, x) for y in (-1.0, 0.0, 1.0) for x in (-1.0, 0.0, 1.0) if x or y]
    for i, (row, column) in enumerate(pixels.tolist()):
        hit = rays.at(column + 0.5, row + 0.5)
        near = [rays.at(column + 0.5 + x, row + 0.5 + y) for y, x in around]
        truth.border[i] = any(_apart(hit, other, now.camera) for other in near)
        if hit is None or hit.held_out:
            continue
        truth.hit[i], truth.depth[i], truth.name[i] = True, hit.depth, hit.name
        _on_surface(truth, i, hit, now, before)
    return truth


@dataclass
class Hit:
    depth: float
    place: np.ndarray
    normal: np.ndarray
    name: str
    polygon: int
    matrix: np.ndarray
    held_out: bool


class Rays:
    """Casts rays through the camera's image, from its near to its far end."""

    def __init__(self, scene: bpy.types.Scene, now: Moment) -> None:
        self._scene, self._camera = scene, now.camera
        self._depsgraph = bpy.context.evaluated_depsgraph_get()
        self._to_world = np.linalg.inv(now.camera.view)
        p = now.camera.projection
        ends = ((p[2, 3] + 1) / p[2, 2], (p[2, 3] - 1) / p[2, 2])
        if not now.camera.orthographic:
            ends = (p[2, 3] / (p[2, 2] - 1), p[2, 3] / (p[2, 2] + 1))
        self._near, self._far = (abs(end) for end in ends)

    def at(self, x: float, y: float) -> Hit | None:
        camera, p = self._camera, self._camera.projection
        ndc = np.array([x / camera.width * 2 - 1, 1 - y / camera.height * 2])
        axes = np.linalg.inv(p[:2, :2])
        origin = np.append(axes @ (ndc * p[3, 3] - p[:2, 3]), 0.0)
        direction = np.append(axes @ (ndc * -p[3, 2] + p[:2, 2]), -1.0)
        start = self._to_world @ np.append(origin + self._near * direction, 1.0)
        way = self._to_world[:3, :3] @ direction
        found, place, normal, polygon, ob, matrix = self._scene.ray_cast(
            self._depsgraph, Vector(start[:3]), Vector(way), distance=(self._far - self._near) * np.linalg.norm(way)
        )
        if not found:
            return None
        place = np.array(place, np.float64)
        depth = -(camera.view @ np.append(place, 1.0))[2]
        held_out = ob.is_holdout or ob.original.holdout_get(view_layer=bpy.context.view_layer)
        return Hit(depth, place, np.array(normal), ob.name, polygon, np.array(matrix, np.float64), held_out)


def _apart(one: Hit | None, other: Hit | None, camera: Any) -> bool:
    """Whether a silhouette runs between two neighbouring hits."""
    if one is None or other is None:
        return (one is None) != (other is None)
    if one.name != other.name or not np.array_equal(one.matrix, other.matrix):
        return True
    pixel = 2 / camera.projection[0, 0] / camera.width * (1 if camera.orthographic else max(one.depth, other.depth))
    gap = other.place - one.place
    return min(abs(gap @ one.normal), abs(gap @ other.normal)) > pixel


def _on_surface(truth: Truth, i: int, hit: Hit, now: Moment, before: Moment | None) -> None:
    """Normal and motion from the triangle that was hit."""
    surface = now.surfaces.get(hit.name)
    if surface is None or hit.polygon + 1 >= len(surface.first):
        return
    local = np.linalg.solve(hit.matrix, np.append(hit.place, 1.0))[:3]
    found = _triangle(surface, hit.polygon, local)
    if found is None:
        return
    triangle, weights = found
    corners = surface.normals[surface.corners[triangle]]
    normal = now.camera.view[:3, :3] @ (weights @ corners @ np.linalg.inv(hit.matrix[:3, :3]))
    normal /= np.linalg.norm(normal)
    a, b, c = surface.positions[surface.triangles[triangle]]
    facet = now.camera.view[:3, :3] @ (np.cross(b - a, c - a) @ np.linalg.inv(hit.matrix[:3, :3]))
    ray = (0, 0, -1) if now.camera.orthographic else (now.camera.view @ np.append(hit.place, 1.0))[:3]
    truth.normal[i] = normal if facet @ ray < 0 else -normal
    truth.smooth[i] = np.ptp(corners, axis=0).max() > 1e-5
    if before is None or (old := before.surfaces.get(hit.name)) is None or len(old.positions) != len(surface.positions):
        return
    key = min(now.instances[hit.name], key=lambda one: np.abs(one[1] - hit.matrix).max())[0]
    matrix = dict(before.instances[hit.name]).get(key)
    if matrix is None:
        return
    there = matrix @ np.append(weights @ old.positions[surface.triangles[triangle]], 1.0)
    pixel, _ = before.camera.project(there[None, :3])
    row, column = truth.pixels[i]
    truth.motion[i] = pixel[0] - (column + 0.5, row + 0.5)


def _triangle(surface: Surface, polygon: int, point: np.ndarray) -> tuple[int, np.ndarray] | None:
    """The triangle of a polygon that holds the point, and the point's barycentric weights there."""
    best: tuple[float, int, np.ndarray] | None = None
    for triangle in range(surface.first[polygon], surface.first[polygon + 1]):
        a, b, c = surface.positions[surface.triangles[triangle]]
        sides = np.stack([b - a, c - a], 1)
        solution, *_ = np.linalg.lstsq(sides, point - a, rcond=None)
        weights = np.array([1 - solution.sum(), *solution])
        off = float(np.linalg.norm(weights @ np.stack([a, b, c]) - point))
        outside = max(0.0, -weights.min()) + off
        if best is None or outside < best[0]:
            best = outside, triangle, weights
    return None if best is None or best[0] > 1e-2 else (best[1], best[2])
