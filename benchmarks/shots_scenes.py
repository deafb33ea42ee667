"""Shots for the `flicker` and `noise` benchmarks: cameras and objects that move as an animator would move them. Frames
count from 1. Runs inside Blender."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import bpy
from mathutils import Vector

from .passes_parts import added, cube, floor, smooth, sphere

Build = Callable[[bpy.types.Scene, int], None]
SHOTS: dict[str, Build] = {}


def shot(build: Build) -> Build:
    SHOTS[build.__name__] = build
    return build


def film(
    scene: bpy.types.Scene, frames: int, path: Callable[[float], tuple[Sequence[float], Sequence[float]]],
    lens: float = 50.0,
) -> None:  # fmt: skip
    """The scene's camera on a path: from 0 … 1 to where it stands and where it looks."""
    data = bpy.data.cameras.new("Camera")
    ob = bpy.data.objects.new("Camera", data)
    scene.collection.objects.link(ob)
    scene.camera, data.lens = ob, lens
    for frame in range(1, frames + 1):
        place, target = path((frame - 1) / max(1, frames - 1))
        ob.location = place
        ob.rotation_euler = (Vector(target) - Vector(place)).to_track_quat("-Z", "Y").to_euler()
        ob.keyframe_insert("location", frame=frame)
        ob.keyframe_insert("rotation_euler", frame=frame)


def animate(
    ob: bpy.types.Object, frames: int, offset: Sequence[float] = (0, 0, 0), turn: Sequence[float] = (0, 0, 0)
) -> bpy.types.Object:
    """Move and turn the object evenly over the shot."""
    start, angles = Vector(ob.location), Vector(ob.rotation_euler)
    for frame in (1, frames):
        share = (frame - 1) / max(1, frames - 1)
        ob.location = start + Vector(offset) * share
        ob.rotation_euler = angles + Vector(turn) * share
        ob.keyframe_insert("location", frame=frame)
        ob.keyframe_insert("rotation_euler", frame=frame)
    for curve in _curves(ob):
        for key in curve.keyframe_points:
            key.interpolation = "LINEAR"
    return ob


def _curves(ob: bpy.types.Object) -> list[bpy.types.FCurve]:
    action = ob.animation_data.action
    if hasattr(action, "fcurves"):
        return list(action.fcurves)
    return [curve for layer in action.layers for strip in layer.strips for bag in strip.channelbags
            for curve in bag.fcurves]  # fmt: skip


def torus(location: Sequence[float], large: float, small: float, rotation: Sequence[float] = (0, 0, 0)) -> None:
    bpy.ops.mesh.primitive_torus_add(
        location=location, rotation=rotation, major_radius=large, minor_radius=small, major_segments=96,
        minor_segments=48,
    )  # fmt: skip
    smooth(added())


@shot
def orbit(scene: bpy.types.Scene, frames: int) -> None:
    """The camera goes 40° around things that stand still."""
    sphere((-1.3, 0, 0.2), 1.1)
    cube((1.2, -0.3, 0.0), 1.7).rotation_euler.z = 0.5
    torus((0.3, 1.6, 0.6), 1.1, 0.4, (1.1, 0.2, 0))
    angle = math.radians(40)
    film(
        scene, frames,
        lambda t: ((7 * math.sin(angle * (t - 0.5)), -7 * math.cos(angle * (t - 0.5)), 2.2), (0, 0.3, 0.2)),
    )  # fmt: skip


@shot
def passing(scene: bpy.types.Scene, frames: int) -> None:
    """Things move and turn in front of each other, above a floor, while the camera goes along."""
    animate(cube((-2.4, -1.2, 0.0), 1.4), frames, (3.6, 0.2, 0), (0, 0, 1.2))
    animate(sphere((1.6, 0.8, 0.2), 1.2), frames, (-1.6, 0.4, 0), (0, 0.9, 0))
    bpy.ops.mesh.primitive_monkey_add(location=(-0.6, 1.9, 0.8), size=2.2)
    subdivided = added().modifiers.new("Subdivision", "SUBSURF")
    subdivided.levels = subdivided.render_levels = 2
    smooth(added())
    animate(added(), frames, (0, -0.2, 0.2), (0, 0, 0.7))
    floor(8.0, -0.9)
    film(scene, frames, lambda t: ((-0.8 + 1.6 * t, -7.5, 2.8), (-0.3 + 0.6 * t, 0.3, 0.1)))


@shot
def bending(scene: bpy.types.Scene, frames: int) -> None:
    """A bone bends an arm, a ball swells, a cloth of waves runs, and the camera comes nearer."""
    bpy.ops.mesh.primitive_cylinder_add(vertices=48, radius=0.45, depth=4, location=(-1.4, 0, 1))
    arm = added()
    smooth(arm)
    cuts = arm.modifiers.new("Cuts", "SUBSURF")
    cuts.subdivision_type, cuts.levels, cuts.render_levels = "SIMPLE", 4, 4
    bpy.ops.object.armature_add(location=(-1.4, 0, -1))
    rig = added()
    bpy.ops.object.mode_set(mode="EDIT")
    lower = rig.data.edit_bones[0]
    lower.tail = (0, 0, 2)
    upper = rig.data.edit_bones.new("Upper")
    upper.head, upper.tail, upper.parent = (0, 0, 2), (0, 0, 4), lower
    names = lower.name, "Upper"
    bpy.ops.object.mode_set(mode="OBJECT")
    groups = [arm.vertex_groups.new(name=name) for name in names]
    for vertex in arm.data.vertices:
        share = min(1.0, max(0.0, 0.5 + vertex.co.z))
        groups[1].add([vertex.index], share, "REPLACE")
        groups[0].add([vertex.index], 1 - share, "REPLACE")
    arm.modifiers.new("Armature", "ARMATURE").object = rig
    arm.modifiers.move(1, 0)
    bone = rig.pose.bones["Upper"]
    bone.rotation_mode = "XYZ"
    for frame, turn in ((1, -0.3), (frames, 0.9)):
        bone.rotation_euler.z = turn
        bone.keyframe_insert("rotation_euler", frame=frame)
    ball = sphere((1.1, -0.4, 0.0), 0.8)
    ball.shape_key_add(name="Basis")
    swollen = ball.shape_key_add(name="Swollen")
    for point in swollen.data:
        point.co = point.co * (1.0 + 0.35 * math.sin(3 * point.co.z))
    for frame, value in ((1, 0.0), (frames, 1.0)):
        swollen.value = value
        swollen.keyframe_insert("value", frame=frame)
    bpy.ops.mesh.primitive_grid_add(x_subdivisions=80, y_subdivisions=80, size=3.4, location=(0.9, 2.0, 0.9))
    added().rotation_euler.x = 0.9
    smooth(added())
    wave = added().modifiers.new("Wave", "WAVE")
    wave.height, wave.width, wave.speed, wave.time_offset = 0.25, 1.0, 0.03, -60
    film(scene, frames, lambda t: ((0.4, -8.0 + 1.2 * t, 2.4 - 0.3 * t), (0.1, 0.3, 0.8)))


@shot
def panning(scene: bpy.types.Scene, frames: int) -> None:
    """The camera turns on the spot past a row of things."""
    for i in range(5):
        x = -4.4 + 2.2 * i
        if i % 2:
            cube((x, 0.6 * (i % 3), 0), 1.5).rotation_euler.z = 0.4 * i
        else:
            sphere((x, 0.5 * (i % 3), 0.1), 0.95)
    film(scene, frames, lambda t: ((0, -7, 1.6), (-2.2 + 4.4 * t, 0, 0.2)))


@shot
def turning(scene: bpy.types.Scene, frames: int) -> None:
    """Things that turn on the spot by a third of a circle before a camera that stands still."""
    bpy.ops.mesh.primitive_monkey_add(location=(-1.2, 0, 0.3), size=2.6)
    subdivided = added().modifiers.new("Subdivision", "SUBSURF")
    subdivided.levels = subdivided.render_levels = 2
    smooth(added())
    animate(added(), frames, turn=(0, 0, 2.0))
    animate(cube((1.6, 0.2, 0.1), 1.7), frames, turn=(0.3, 0, -2.0))
    film(scene, frames, lambda t: ((0.2, -7.0, 1.8), (0, 0, 0.2)))


@shot
def crowd(scene: bpy.types.Scene, frames: int) -> None:
    """Many small things of one object run through each other, seen from above."""
    ball = sphere((0, 0, -20), 0.42, 48)
    for i in range(16):
        copy = bpy.data.objects.new(f"Copy {i}", ball.data)
        copy.location = (1.3 * (i % 4) - 2.0, 1.3 * (i // 4) - 2.0, 0.1 * (i % 3))
        scene.collection.objects.link(copy)
        animate(copy, frames, (1.2 * math.cos(i), 1.2 * math.sin(i), 0.2), (0.4, 0.8, 0))
    floor(9.0, -0.5)
    film(scene, frames, lambda t: ((1.0 - 2 * t, -6.5, 5.0), (0, 0, 0)))


FIRST = ("orbit", "passing", "bending")
"""The shots of a short run."""


@shot
def still(scene: bpy.types.Scene, frames: int) -> None:
    """For noise: rigid things turn and move a little before a moving camera; scales stay within 10 %."""
    animate(sphere((-1.2, 0, 0.2), 1.2), frames, (0.3, 0.05, 0.1), (0, 0.3, 0))
    animate(cube((1.3, -0.2, 0.1), 1.7), frames, (-0.2, 0.1, 0.1), (0, 0, 0.12))
    floor(40.0, -0.9)
    film(scene, frames, lambda t: ((-0.5 + 1.0 * t, -8.0, 2.6), (-0.2 + 0.3 * t, 0.3, 0.1)))
