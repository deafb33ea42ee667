"""What tests see of a scene: by the card's route, by any, and by rays; its edges by either route."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import bpy
import numpy as np
from mathutils import Vector

from paintover import cameras, passes
from paintover.bridge.parameters import EdgeStyle
from paintover.bridge.scene import Camera, Passes
from paintover.passes import cycles, gpu_route
from paintover.passes.draw import Frame
from paintover.passes.live import Live

SIZE = 48, 32
ROUTES = (gpu_route, cycles)
NO_LINES = EdgeStyle(silhouette=False, crease=False, border=False, mark=False, intersection=False)


def camera_of(scene: bpy.types.Scene, size: tuple[int, int] = SIZE) -> Any:
    return cameras.from_object(scene, scene.camera, *size)


def look(drawn: Live) -> Frame:
    return drawn.frame(camera_of(bpy.context.scene))


def render(scene: bpy.types.Scene, **options: Any) -> Passes:
    size = scene.render.resolution_x, scene.render.resolution_y
    return passes.render(scene, cameras.from_object(scene, scene.camera, *size), **options)


def cast(scene: bpy.types.Scene, camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth, object name and world normal of every pixel by ray casts."""
    depsgraph = bpy.context.evaluated_depsgraph_get()
    origins, directions = camera.rays()
    to_world = np.linalg.inv(camera.view)
    depth = np.full(origins.shape[:2], np.inf)
    name = np.full(origins.shape[:2], "", object)
    normal = np.zeros(origins.shape)
    for i, j in np.ndindex(*depth.shape):
        origin = to_world[:3, :3] @ origins[i, j] + to_world[:3, 3]
        direction = to_world[:3, :3] @ directions[i, j]
        hit, place, n, _, ob, _ = scene.ray_cast(depsgraph, Vector(origin), Vector(direction))
        if hit:
            depth[i, j] = -(camera.view @ (*place, 1))[2]
            name[i, j], normal[i, j] = ob.name, n
    return depth, name, normal


def edges(scene: bpy.types.Scene, style: EdgeStyle | None = None, size: int = 64, route: Any = gpu_route) -> np.ndarray:
    camera = cameras.from_object(scene, scene.camera, size, size)
    edge: np.ndarray = route.render(scene, [camera], edges=style)[0].edge
    return edge


def length(edge: np.ndarray) -> float:
    """Pixels of lines, a pixel half covered counted half."""
    return float(edge.sum() / 255)


def only(*kinds: str, **others: Any) -> EdgeStyle:
    return replace(NO_LINES, **dict.fromkeys(kinds, True), **others)
