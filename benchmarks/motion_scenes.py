"""Scenes for the `motion` benchmark, with the equation of every surface point's motion in numpy. Runs inside Blender.

python -m benchmarks.motion_scenes NAME FILE.npz
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Vector

from .shots_render import link as drawn_link
from .shots_scenes import animate, film

FRAMES, NOW, THEN = 17, 9, 1
SIZE = 256
PIXELS = 3000
Move = Callable[[np.ndarray, int], np.ndarray]
"""World points (N, 3) at frame NOW -> where they are at another frame."""


def share(frame: int) -> float:
    return (frame - 1) / (FRAMES - 1)


def turned(points: np.ndarray, angle: float) -> np.ndarray:
    """About the z axis."""
    c, s = math.cos(angle), math.sin(angle)
    return points @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1.0]])


def rigid(start: tuple[float, ...], offset: tuple[float, ...], angle: float) -> Move:
    """From `start` by `offset` over the shot, turning by `angle` about its own z axis."""

    def move(points: np.ndarray, frame: int) -> np.ndarray:
        here, there = (np.array(start) + share(one) * np.array(offset) for one in (NOW, frame))
        return turned(points - here, (share(frame) - share(NOW)) * angle) + there

    return move


def still(points: np.ndarray, frame: int) -> np.ndarray:
    return points


def _ball(location: tuple[float, ...], radius: float) -> bpy.types.Object:
    bpy.ops.mesh.primitive_uv_sphere_add(segments=96, ring_count=48, radius=radius, location=location)
    bpy.ops.object.shade_smooth()
    return bpy.context.object


def _box(location: tuple[float, ...], size: float) -> bpy.types.Object:
    bpy.ops.mesh.primitive_cube_add(size=size, location=location)
    return bpy.context.object


def _ground() -> bpy.types.Object:
    bpy.ops.mesh.primitive_plane_add(size=16, location=(0, 0, -1))
    return bpy.context.object


def camera(scene: bpy.types.Scene) -> dict[str, Move]:
    """Nothing moves but the camera."""
    moves = {ob.name: still for ob in (_ball((-1.2, 0, 0.2), 1.2), _box((1.2, 0.4, 0), 1.6), _ground())}
    film(scene, FRAMES, lambda t: ((-1.5 + 3 * t, -7 + 0.6 * t, 2.5), (0, 0, 0.2)))
    return moves


def rigid_things(scene: bpy.types.Scene) -> dict[str, Move]:
    """Things move and turn in front of each other, the camera, too."""
    moves = {_ground().name: still}
    for make, start, size, offset, angle in (
        (_ball, (-1.6, 0.8, 0.2), 1.1, (1.6, 0.2, 0.3), 1.0),
        (_box, (1.4, -1.0, 0.0), 1.4, (-2.0, 0.2, 0.1), -1.2),
    ):
        moves[animate(make(start, size), FRAMES, offset, (0, 0, angle)).name] = rigid(start, offset, angle)
    film(scene, FRAMES, lambda t: ((0.6 * t, -7, 2.5), (0, 0, 0.2)))
    return moves


def deforming(scene: bpy.types.Scene) -> dict[str, Move]:
    """A sheet that a shape key raises into a hill, and one that shears."""
    moves = {_ground().name: still}
    for name, x, shape in (("Hill", -1.4, "hill"), ("Shear", 1.4, "shear")):
        bpy.ops.mesh.primitive_grid_add(x_subdivisions=100, y_subdivisions=100, size=2.4, location=(x, 0, 0.2))
        sheet = bpy.context.object
        sheet.name = name
        bpy.ops.object.shade_smooth()
        sheet.shape_key_add(name="Basis")
        key = sheet.shape_key_add(name="Raised")
        for point in key.data:
            if shape == "hill":
                point.co.z += 1.2 * math.exp(-2 * (point.co.x**2 + point.co.y**2))
            else:
                point.co.x += 0.4 * point.co.y
                point.co.z += 0.3 * point.co.y
        for frame in (1, FRAMES):
            key.value = share(frame)
            key.keyframe_insert("value", frame=frame)
        for curve in sheet.data.shape_keys.animation_data.action.fcurves:
            for point in curve.keyframe_points:
                point.interpolation = "LINEAR"
        moves[name] = _hill(x) if shape == "hill" else _shear(x)
    film(scene, FRAMES, lambda t: ((-0.5 + t, -6.5, 4.0), (0, 0, 0.2)))
    return moves


def _hill(x: float) -> Move:
    def move(points: np.ndarray, frame: int) -> np.ndarray:
        local = points - (x, 0, 0.2)
        rise = 1.2 * np.exp(-2 * (local[:, 0] ** 2 + local[:, 1] ** 2))  # x and y of a point stay
        return points + np.stack([0 * rise, 0 * rise, (share(frame) - share(NOW)) * rise], -1)

    return move


def _shear(x: float) -> Move:
    def move(points: np.ndarray, frame: int) -> np.ndarray:
        y = points[:, 1]  # stays
        along = share(frame) - share(NOW)
        return points + np.stack([0.4 * along * y, 0 * y, 0.3 * along * y], -1)

    return move


def armature(scene: bpy.types.Scene) -> dict[str, Move]:
    """An arm of two halves, each held by its bone, of which the upper one turns."""
    moves = {_ground().name: still}
    bpy.ops.mesh.primitive_cylinder_add(vertices=64, radius=0.5, depth=3, location=(0, 0, 1))
    arm = bpy.context.object
    bpy.ops.object.armature_add(location=(0, 0, -0.5))
    rig = bpy.context.object
    bpy.ops.object.mode_set(mode="EDIT")
    bone = rig.data.edit_bones[0]
    bone.head, bone.tail = (0, 0, 0), (0, 0, 1.5)
    name = bone.name
    bpy.ops.object.mode_set(mode="OBJECT")
    group = arm.vertex_groups.new(name=name)
    group.add([vertex.index for vertex in arm.data.vertices], 1.0, "REPLACE")
    arm.modifiers.new("Armature", "ARMATURE").object = rig
    pose = rig.pose.bones[name]
    pose.rotation_mode = "XYZ"
    for frame in (1, FRAMES):
        pose.rotation_euler.z = 0.9 * share(frame)  # its own z axis is the world's −y (it points up)
        pose.keyframe_insert("rotation_euler", frame=frame)
    for curve in rig.animation_data.action.fcurves:
        for point in curve.keyframe_points:
            point.interpolation = "LINEAR"
    axis, foot = np.array(rig.data.bones[name].matrix_local.to_3x3())[:, 2], np.array((0, 0, -0.5))

    def move(points: np.ndarray, frame: int) -> np.ndarray:
        angle = 0.9 * (share(frame) - share(NOW))
        return _about(axis, angle, points - foot) + foot

    moves[arm.name] = move
    film(scene, FRAMES, lambda t: ((-1 + 2 * t, -7, 2.5), (0, 0, 0.8)))
    return moves


def _about(axis: np.ndarray, angle: float, points: np.ndarray) -> np.ndarray:
    """Turned about an axis through the origin (Rodrigues)."""
    along = points @ axis
    c, s = math.cos(angle), math.sin(angle)
    return points * c + np.cross(axis, points) * s + np.outer(along, axis) * (1 - c)


SCENES = {"camera": camera, "rigid": rigid_things, "deforming": deforming, "armature": armature}


def render(name: str, path: Path) -> None:
    from paintover import cameras
    from paintover.passes import gpu_route
    from paintover.passes.assemble import assemble
    from paintover.passes.draw import Before
    from paintover.passes.live import Live

    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    moves = SCENES[name](scene)
    found: dict[str, Any] = {}
    with Live(scene) as live:
        moments = {}
        for frame in (NOW, THEN):  # THEN last: rays are cast in it
            scene.frame_set(frame)
            moments[frame] = live.read(), cameras.from_object(scene, scene.camera, SIZE, SIZE)
        for when, frame in (("now", NOW), ("then", THEN)):
            stage, camera = moments[frame]
            drawn = gpu_route.draw(stage, camera)
            seen = assemble(camera, drawn.depth, drawn.normal, drawn.object_id, drawn.edge, drawn.names)
            found |= {f"{when}_view": camera.view, f"{when}_projection": camera.projection}
            found |= {f"{when}_{array}": getattr(seen, array) for array in ("depth", "normal", "edge", "object_id")}
            if when == "now":
                now = seen
        found["link"] = drawn_link(gpu_route.draw, Before, *moments[NOW], *moments[THEN])
        found |= truth(scene, now, moments[THEN][1], moves)
    np.savez(path, **found)


def truth(scene: bpy.types.Scene, now: Any, then: Any, moves: dict[str, Move]) -> dict[str, np.ndarray]:
    """Of random pixels of frame NOW: where their points are in frame THEN, and if they are seen there."""
    rng = np.random.default_rng(0)
    row, column = np.nonzero(np.isfinite(now.depth))
    chosen = rng.permutation(len(row))[:PIXELS]
    row, column = row[chosen], column[chosen]
    points = now.camera.unproject(now.depth)[row, column]
    names = np.array([now.names[str(one)] for one in now.object_id[row, column]], object)
    there = np.empty_like(points)
    for name, move in moves.items():
        there[names == name] = move(points[names == name], THEN)
    place, depth = then.project(there)
    inside = (depth > 0) & (place >= 0).all(1) & (place < (then.width, then.height)).all(1)
    seen = [
        inside[i] and _reaches(scene, then, place[i], there[i], names[i], depth[i]) for i in range(len(row))
    ]  # fmt: skip
    return {"pixels": np.stack([row, column], -1), "true_place": place, "true_seen": np.array(seen)}


def _reaches(
    scene: bpy.types.Scene, camera: Any, pixel: np.ndarray, point: np.ndarray, name: str, depth: float
) -> bool:
    """Whether the ray through a place of the picture meets that object near the point's depth."""
    p = camera.projection
    ndc = np.array([pixel[0] / camera.width * 2 - 1, 1 - pixel[1] / camera.height * 2])
    way = np.append((ndc + p[:2, 2]) / (p[0, 0], p[1, 1]), -1.0) @ camera.view[:3, :3]
    hit, place, normal, _, ob, _ = scene.ray_cast(
        bpy.context.evaluated_depsgraph_get(), Vector(camera.position), Vector(way)
    )
    if not hit or ob.name != name:
        return False
    # On the surface, the point lies in the plane of what was met: within a pixel's size, plus what it may bend.
    footprint = 2 / p[0, 0] / camera.width * depth
    return bool(abs((point - np.array(place)) @ np.array(normal)) <= 0.5 * footprint)


def main() -> None:
    import build_addon

    stage = tempfile.TemporaryDirectory(prefix="paintover-stage-")
    build_addon.stage(Path(stage.name))
    sys.path.insert(0, stage.name)
    render(sys.argv[1], Path(sys.argv[2]))


if __name__ == "__main__":
    main()
