"""The truth about what a camera sees, ray by ray: Blender's own ray cast, and the mesh it hit. Runs in Blender."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix, Vector


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
    matrices: dict[str, dict[tuple[object, ...], np.ndarray]] = field(default_factory=dict)
    """The same by key, of the objects that were asked for."""


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
    count = len(pixels)
    truth = Truth(
        pixels=pixels,
        hit=np.zeros(count, bool),
        depth=np.full(count, np.inf),
        name=np.full(count, "", object),
        normal=np.full((count, 3), np.nan),
        smooth=np.zeros(count, bool),
        motion=np.full((count, 2), np.nan),
        border=np.zeros(count, bool),
    )
    # Of every pixel its centre first, then its neighbours'.
    around = np.array([(0, 0)] + [(x, y) for y in (-1, 0, 1) for x in (-1, 0, 1) if x or y], np.float64)
    rays = Rays(scene, now, pixels[:, None, ::-1] + 0.5 + around)
    for i in range(count):
        hit, *near = (rays.cast(i, j) for j in range(len(around)))
        truth.border[i] = any(_apart(hit, other, now.camera) for other in near)
        if hit is None or hit.held_out:
            continue
        truth.hit[i], truth.depth[i], truth.name[i] = True, hit.depth, hit.name
        _on_surface(truth, i, hit, rays.origins[i, 0], rays.directions[i, 0], now, before)
    return truth


@dataclass
class Hit:
    depth: float
    place: np.ndarray
    normal: np.ndarray
    name: str
    polygon: int
    matrix: Matrix
    held_out: bool


class Rays:
    """Casts rays through the camera's image, from its near to its far end."""

    def __init__(self, scene: bpy.types.Scene, now: Moment, places: np.ndarray) -> None:
        """`places`: (…, 2) in pixels, x and y."""
        camera, p = now.camera, now.camera.projection
        self._scene, self._camera = scene, camera
        self._depsgraph = bpy.context.evaluated_depsgraph_get()
        if camera.orthographic:
            near, far = (p[2, 3] + 1) / p[2, 2], (p[2, 3] - 1) / p[2, 2]
        else:
            near, far = p[2, 3] / (p[2, 2] - 1), p[2, 3] / (p[2, 2] + 1)
        ndc = places / (camera.width, camera.height) * (2, -2) + (-1, 1)
        axes, to_world = np.linalg.inv(p[:2, :2]), np.linalg.inv(camera.view)
        flat = np.zeros((*places.shape[:-1], 1))
        origins = np.concatenate([(ndc * p[3, 3] - p[:2, 3]) @ axes.T, flat], -1)
        directions = np.concatenate([(ndc * -p[3, 2] + p[:2, 2]) @ axes.T, flat - 1], -1)
        self.origins = (origins + near * directions) @ to_world[:3, :3].T + to_world[:3, 3]
        """float64 (…, 3): world space, on the near end."""
        self.directions = directions @ to_world[:3, :3].T
        """float64 (…, 3): a depth of 1."""
        self._reach = (far - near) * np.linalg.norm(self.directions, axis=-1)

    def cast(self, *at: int) -> Hit | None:
        """What the ray of that index hits."""
        found, place, normal, polygon, ob, matrix = self._scene.ray_cast(
            self._depsgraph, Vector(self.origins[at]), Vector(self.directions[at]), distance=self._reach[at]
        )
        if not found:
            return None
        where = np.array(place, np.float64)
        depth = -(self._camera.view[2, :3] @ where + self._camera.view[2, 3])
        held_out = ob.is_holdout or ob.original.holdout_get(view_layer=bpy.context.view_layer)
        return Hit(depth, where, np.array(normal, np.float64), ob.name, polygon, matrix.copy(), held_out)


def _apart(one: Hit | None, other: Hit | None, camera: Any) -> bool:
    """Whether a silhouette runs between two neighbouring hits."""
    if one is None or other is None:
        return (one is None) != (other is None)
    if one.name != other.name or one.matrix != other.matrix:
        return True
    pixel = 2 / camera.projection[0, 0] / camera.width * (1 if camera.orthographic else max(one.depth, other.depth))
    gap = other.place - one.place
    return min(abs(gap @ one.normal), abs(gap @ other.normal)) > pixel


def _on_surface(
    truth: Truth, i: int, hit: Hit, origin: np.ndarray, direction: np.ndarray, now: Moment, before: Moment | None
) -> None:
    """Depth, normal and motion from the triangle that was hit, in double precision."""
    surface = now.surfaces.get(hit.name)
    if surface is None or hit.polygon + 1 >= len(surface.first):
        return
    matrix = np.array(hit.matrix, np.float64)
    to_local = np.linalg.inv(matrix)
    start, way = to_local[:3, :3] @ origin + to_local[:3, 3], to_local[:3, :3] @ direction
    found = _triangle(surface, hit.polygon, start, way, to_local[:3, :3] @ hit.place + to_local[:3, 3])
    if found is None:
        return
    triangle, weights = found
    a, b, c = surface.positions[surface.triangles[triangle]]
    local = weights @ (a, b, c)
    in_camera = now.camera.view @ matrix
    truth.depth[i] = -(in_camera[2, :3] @ local + in_camera[2, 3])
    corners = surface.normals[surface.corners[triangle]]
    turn = now.camera.view[:3, :3] @ to_local[:3, :3].T
    normal = turn @ (weights @ corners)
    facet = np.cross(b - a, c - a)
    normal *= -np.sign(facet @ way) / np.linalg.norm(normal)  # toward the camera
    truth.normal[i] = normal
    truth.smooth[i] = np.ptp(corners, axis=0).max() > 1e-5
    old = before.surfaces.get(hit.name) if before else None
    if before is None or old is None or not np.array_equal(old.triangles, surface.triangles):
        return
    key = min(now.instances[hit.name], key=lambda one: np.abs(one[1] - matrix).max())[0]
    matrix_before = before.matrices.setdefault(hit.name, dict(before.instances.get(hit.name, []))).get(key)
    if matrix_before is None:
        return
    there = matrix_before @ np.append(weights @ old.positions[surface.triangles[triangle]], 1.0)
    pixel, _ = before.camera.project(there[None, :3])
    row, column = truth.pixels[i]
    truth.motion[i] = pixel[0] - (column + 0.5, row + 0.5)


def _triangle(
    surface: Surface, polygon: int, start: np.ndarray, way: np.ndarray, near: np.ndarray
) -> tuple[int, np.ndarray] | None:
    """The triangle of a polygon that the ray meets near a point, and the meeting's barycentric weights there."""
    best: tuple[float, int, np.ndarray] | None = None
    for triangle in range(surface.first[polygon], surface.first[polygon + 1]):
        a, b, c = surface.positions[surface.triangles[triangle]]
        sides = np.stack([b - a, c - a, -way], 1)
        if abs(np.linalg.det(sides)) < 1e-30:
            continue
        one, two, _ = np.linalg.solve(sides, start - a)
        weights = np.array([1 - one - two, one, two])
        size = np.abs(sides[:, :2]).max()
        outside = max(0.0, -weights.min()) + np.abs(weights @ (a, b, c) - near).max() / size
        if best is None or outside < best[0]:
            best = outside, triangle, weights
    return None if best is None or best[0] > 1e-2 else (best[1], best[2])
