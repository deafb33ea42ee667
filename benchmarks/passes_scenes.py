"""Scenes for the `passes` benchmark and its tests: each uses what a way of drawing can get wrong. All move between
frames 1 and 2; passes are of frame 2. Runs inside Blender."""

from __future__ import annotations

import math
from collections.abc import Callable

import bpy
import numpy as np
from mathutils import Matrix

from .passes_parts import (
    added,
    camera,
    collection_of,
    cube,
    floor,
    instance,
    instances_on_points,
    move,
    place,
    smooth,
    sphere,
)

Build = Callable[[bpy.types.Scene], None]
SCENES: dict[str, Build] = {}


def scene_of(build: Build) -> Build:
    SCENES[build.__name__] = build
    return build


@scene_of
def primitives(scene: bpy.types.Scene) -> None:
    move(sphere((-2, 0, 0.3)))
    move(cube((0.3, -1, 0)), turn=0.1)
    bpy.ops.mesh.primitive_torus_add(location=(2.5, 0.5, 0.2), major_segments=96, minor_segments=48)
    smooth(added())
    move(added(), turn=-0.05)
    bpy.ops.mesh.primitive_cone_add(vertices=24, location=(0.5, 2.5, 1))
    bpy.ops.mesh.primitive_monkey_add(location=(-1, 2.5, 1.6))
    floor()
    camera(scene)


@scene_of
def modifiers(scene: bpy.types.Scene) -> None:
    bpy.ops.mesh.primitive_monkey_add(location=(-2.5, 0, 0.5))
    monkey = move(added())
    smooth(monkey)
    subdivision = monkey.modifiers.new("Subdivision", "SUBSURF")
    subdivision.levels = subdivision.render_levels = 2
    row = move(cube((-0.8, -2, -0.4), 0.6))
    row.modifiers.new("Array", "ARRAY").count = 5
    row.modifiers.new("Bevel", "BEVEL").width = 0.06
    cutter = sphere((1.9, -0.2, 0.9), 0.9, 32)
    cutter.hide_render = True
    cutter.hide_set(True)
    block = cube((1.5, 0.3, 0.3), 1.8)
    boolean = block.modifiers.new("Boolean", "BOOLEAN")
    boolean.object, boolean.operation = cutter, "DIFFERENCE"
    move(block)
    half = sphere((0.4, 3, 0.8), 0.7, 24)
    half.modifiers.new("Mirror", "MIRROR").use_axis = (True, False, False)
    half.data.transform(Matrix.Translation((0.9, 0, 0)))
    solid = half.modifiers.new("Displace", "DISPLACE")
    solid.strength, solid.mid_level = 0.2, 0.5
    floor()
    camera(scene)


@scene_of
def collection_instances(scene: bpy.types.Scene) -> None:
    ball, block = sphere((0, 0, 0), 0.7), cube((0.8, 0.4, 0.5), 0.7)
    inner = collection_of(ball, block)
    middle = bpy.data.collections.new("Nested")
    for i in range(3):
        nested = instance(scene, inner, place(i * 1.6 - 1.6, 0, 0, 0.5 * i, (0.7, 0.7, 0.9)))
        scene.collection.objects.unlink(nested)
        middle.objects.link(nested)
    for i in range(3):
        move(instance(scene, middle, place(0, i * 2.2 - 1.0, 0.4 * i, 0.3 * i)), turn=0.03 * i)
    move(instance(scene, inner, place(3.3, -1.5, 0, 1.0, (1, -1, 1))))
    floor()
    camera(scene)


@scene_of
def geometry_node_instances(scene: bpy.types.Scene) -> None:
    block = move(cube((3.2, -1.5, 0.3), 0.7))
    bpy.ops.mesh.primitive_grid_add(x_subdivisions=8, y_subdivisions=8, size=5, location=(0, 0, -0.3))
    move(added(), turn=0.02)
    instances_on_points(added(), block, 0.5)
    bpy.ops.mesh.primitive_circle_add(vertices=9, radius=1.6, location=(0, 0.5, 1.4))
    move(added(), turn=0.04)
    instances_on_points(added(), None, 0.4)
    floor()
    camera(scene)


@scene_of
def particle_instances(scene: bpy.types.Scene) -> None:
    bpy.ops.mesh.primitive_torus_add(location=(7, 9, 0), major_radius=0.6, minor_radius=0.3)
    ring = added()
    bpy.ops.mesh.primitive_grid_add(x_subdivisions=10, y_subdivisions=10, size=6, location=(0, 0, -0.5))
    emitter = added()
    emitter.modifiers.new("Particles", "PARTICLE_SYSTEM")
    settings = emitter.particle_systems[0].settings
    settings.count, settings.frame_start, settings.frame_end, settings.lifetime = 60, -20, -10, 100
    settings.physics_type, settings.normal_factor = "NEWTON", 0.4
    settings.effector_weights.gravity = 0.0
    settings.render_type, settings.instance_object, settings.particle_size = "OBJECT", ring, 0.5
    settings.size_random, settings.use_rotations, settings.rotation_factor_random = 0.6, True, 0.7
    floor()
    camera(scene)


@scene_of
def curves_text_metaballs(scene: bpy.types.Scene) -> None:
    bpy.ops.curve.primitive_bezier_circle_add(location=(-2.2, 0, 0.6), rotation=(0.6, 0.2, 0))
    added().data.bevel_depth, added().data.bevel_resolution, added().data.resolution_u = 0.3, 6, 24
    move(added())
    bpy.ops.object.text_add(location=(-0.9, -1.5, -0.4), rotation=(1.2, 0, 0.2))
    added().data.body, added().data.extrude, added().data.bevel_depth = "Paint", 0.15, 0.02
    move(added())
    bpy.ops.object.metaball_add(type="BALL", location=(1.9, 0, 0.6))
    added().data.resolution = added().data.render_resolution = 0.12
    bpy.ops.object.metaball_add(type="BALL", location=(2.9, 0.4, 0.9))
    bpy.ops.surface.primitive_nurbs_surface_torus_add(location=(0, 3, 1.2), rotation=(0.9, 0, 0))
    move(added())
    parts = collection_of(added())
    instance(scene, parts, place(2.5, 2, 0.2, 0.4, (0.5, 0.5, 0.5)))
    instance(scene, parts, Matrix())
    floor()
    camera(scene)


@scene_of
def deforming(scene: bpy.types.Scene) -> None:
    """An arm that a bone bends, a ball that a shape key swells, and a cloth of waves."""
    bpy.ops.mesh.primitive_cylinder_add(vertices=32, radius=0.4, depth=4, location=(-2, 0, 1))
    arm = added()
    smooth(arm)
    cuts = arm.modifiers.new("Cuts", "SUBSURF")
    cuts.subdivision_type, cuts.levels, cuts.render_levels = "SIMPLE", 3, 3
    bpy.ops.object.armature_add(location=(-2, 0, -1))
    rig = added()
    bpy.ops.object.mode_set(mode="EDIT")
    lower = rig.data.edit_bones[0]
    lower.tail = (0, 0, 2)
    upper = rig.data.edit_bones.new("Upper")
    upper.head, upper.tail, upper.parent = (0, 0, 2), (0, 0, 4), lower
    bpy.ops.object.mode_set(mode="OBJECT")
    for name, side in ((lower.name if lower else "Bone", -1), ("Upper", 1)):
        group = arm.vertex_groups.new(name=name)
        group.add([v.index for v in arm.data.vertices if v.co.z * side >= 0], 1.0, "REPLACE")
    arm.modifiers.new("Armature", "ARMATURE").object = rig
    bone = rig.pose.bones["Upper"]
    bone.rotation_mode = "XYZ"
    for frame, angle in ((1, 0.3), (2, 0.36)):
        bone.rotation_euler.x = angle
        bone.keyframe_insert("rotation_euler", frame=frame)
    ball = sphere((1.2, 0, 0.2))
    ball.shape_key_add(name="Basis")
    swollen = ball.shape_key_add(name="Swollen")
    for point in swollen.data:
        point.co = point.co * (1.0 + 0.4 * math.sin(3 * point.co.z))
    for frame, value in ((1, 0.4), (2, 0.5)):
        swollen.value = value
        swollen.keyframe_insert("value", frame=frame)
    move(ball)
    bpy.ops.mesh.primitive_grid_add(x_subdivisions=60, y_subdivisions=60, size=3.0, location=(2.5, 3, 1.0))
    smooth(added())
    wave = added().modifiers.new("Wave", "WAVE")
    wave.height, wave.width, wave.speed, wave.time_offset = 0.4, 0.8, 0.05, -60
    floor()
    camera(scene)


@scene_of
def odd_scales(scene: bpy.types.Scene) -> None:
    """Mirrored, squashed, and sheared by a parent."""
    move(sphere((-2, 0, 0.5))).scale = (-1, 0.6, 1.4)
    block = cube((0.2, -1, 0.2))
    block.scale = (1, -0.5, -1.5)
    block.rotation_euler = (0.3, 0.5, 0.2)
    move(block)
    parent = bpy.data.objects.new("Parent", None)
    scene.collection.objects.link(parent)
    parent.scale, parent.location = (1.6, 0.5, 1.0), (2.2, 0.6, 0.4)
    bpy.ops.mesh.primitive_monkey_add(rotation=(0.2, 0.4, 0.7))
    smooth(added())
    added().parent = parent
    move(parent)
    bpy.ops.mesh.primitive_cone_add(location=(0, 3, 1), scale=(1, 1, -1))
    floor().scale = (-1, 1, 1)
    camera(scene)


def _cast(scene: bpy.types.Scene) -> bpy.types.Object:
    move(sphere((-1.5, 0, 0.4)))
    move(cube((1.2, 0.5, 0.2)), turn=0.1)
    bpy.ops.mesh.primitive_monkey_add(location=(0, 2, 1.2))
    floor()
    return camera(scene)


@scene_of
def shifted_camera(scene: bpy.types.Scene) -> None:
    data = _cast(scene).data
    data.shift_x, data.shift_y, data.lens = 0.23, -0.14, 40


@scene_of
def orthographic(scene: bpy.types.Scene) -> None:
    data = _cast(scene).data
    data.type, data.ortho_scale, data.shift_x = "ORTHO", 8.0, 0.05


@scene_of
def fit_and_pixels(scene: bpy.types.Scene) -> None:
    """The sensor fitted to the height, pixels that are not square, a size that is not even."""
    data = _cast(scene).data
    data.sensor_fit, data.sensor_height, data.lens = "VERTICAL", 30, 42
    scene.render.resolution_x, scene.render.resolution_y = 251, 333
    scene.render.pixel_aspect_x, scene.render.pixel_aspect_y = 1.0, 1.4


@scene_of
def rigged_camera(scene: bpy.types.Scene) -> None:
    """Parented to something scaled, and held by a constraint."""
    ob = _cast(scene)
    ob.animation_data_clear()
    parent = bpy.data.objects.new("Dolly", None)
    scene.collection.objects.link(parent)
    parent.location, parent.scale = (0.4, -1, 0.2), (1.5, 1.5, 1.5)
    move(parent, (0.1, 0, 0.05), 0.02)
    ob.parent = parent
    ob.location = (1.2, -5, 2.4)
    aim = bpy.data.objects.new("Aim", None)
    scene.collection.objects.link(aim)
    track = ob.constraints.new("TRACK_TO")
    track.target, track.track_axis, track.up_axis = aim, "TRACK_NEGATIVE_Z", "UP_Y"


@scene_of
def clipped(scene: bpy.types.Scene) -> None:
    """The near end cuts through a ball that the camera stands in, the far end through the floor."""
    ob = _cast(scene)
    move(sphere((2.05, -9.3, 4.15), 1.5))
    ob.data.clip_start, ob.data.clip_end = 1.06, 11.0


@scene_of
def hidden_and_held_out(scene: bpy.types.Scene) -> None:
    """What is hidden in every way there is, and holdouts that hide what is behind them."""
    _cast(scene)
    sphere((0, -2, 0.5), 0.8).hide_viewport = True
    by_eye = sphere((-1, -3, 0.5), 0.8)
    by_eye.hide_set(True)
    excluded = bpy.data.collections.new("Excluded")
    scene.collection.children.link(excluded)
    for name, location in (("Excluded", (2.5, -2, 0.5)), ("Hidden", (0.5, -3, 1))):
        where = excluded if name == "Excluded" else bpy.data.collections.new(name)
        if where is not excluded:
            scene.collection.children.link(where)
        ob = sphere(location, 0.8)
        for old in ob.users_collection:
            old.objects.unlink(ob)
        where.objects.link(ob)
        if where is not excluded:
            where.hide_viewport = where.hide_render = True
    bpy.context.view_layer.layer_collection.children["Excluded"].exclude = True
    move(cube((-0.3, -0.8, 0.6), 0.9)).is_holdout = True
    held = bpy.data.collections.new("Held Out")
    scene.collection.children.link(held)
    ob = cube((2.6, -0.5, 0.3), 0.9)
    for old in ob.users_collection:
        old.objects.unlink(ob)
    held.objects.link(ob)
    bpy.context.view_layer.layer_collection.children["Held Out"].holdout = True


@scene_of
def edges_and_materials(scene: bpy.types.Scene) -> None:
    """Smooth faces with sharp edges, custom normals, several materials, faces that are not flat."""
    bpy.ops.mesh.primitive_cylinder_add(vertices=48, location=(-2, 0, 0.4))
    ob = move(added())
    ob.data.polygons.foreach_set("use_smooth", np.array([len(p.vertices) == 4 for p in ob.data.polygons]))
    bpy.ops.mesh.primitive_monkey_add(location=(0.5, -0.5, 0.5))
    ob = move(added())
    smooth(ob)
    normals = np.zeros((len(ob.data.loops), 3), np.float32)
    ob.data.corner_normals.foreach_get("vector", normals.ravel())
    normals += np.array((0.3, 0.2, 0.5), np.float32)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    ob.data.normals_split_custom_set(normals.tolist())
    block = move(cube((2.6, 0.5, 0.4)))
    for i in range(3):
        block.data.materials.append(bpy.data.materials.new(f"Material {i}"))
    block.data.polygons.foreach_set("material_index", np.arange(6, dtype=np.int32) % 3)
    bpy.ops.mesh.primitive_grid_add(x_subdivisions=12, y_subdivisions=12, size=4, location=(0, 3.2, 0.6))
    bumps = added()
    for vertex in bumps.data.vertices:
        vertex.co.z = 0.4 * math.sin(vertex.co.x * 3.1) * math.cos(vertex.co.y * 2.3)
    floor()
    camera(scene)


@scene_of
def far_from_the_origin(scene: bpy.types.Scene) -> None:
    """A kilometre away, with a near end of a centimetre: little is left of single precision."""
    _cast(scene)
    scene.camera.data.clip_start, scene.camera.data.clip_end = 0.01, 5000.0
    parent = bpy.data.objects.new("Origin", None)
    scene.collection.objects.link(parent)
    for ob in scene.objects:
        if ob is not parent and ob.parent is None:
            ob.parent = parent
    parent.location = (800, -600, 50)


@scene_of
def many(scene: bpy.types.Scene) -> None:
    """Linked duplicates and many instances."""
    block = cube((0, 0, 30), 0.16)
    bpy.ops.mesh.primitive_grid_add(x_subdivisions=30, y_subdivisions=30, size=7, location=(0, 0.5, -0.6))
    move(added(), turn=0.02)
    instances_on_points(added(), block)
    ball = sphere((0, 0, 20), 0.3, 16)
    for i in range(100):
        copy = bpy.data.objects.new(f"Copy {i}", ball.data)
        copy.location = (i % 10 - 4.5, i // 10 - 4, 0.6 + 0.4 * math.sin(i))
        scene.collection.objects.link(copy)
        if i % 7 == 0:
            move(copy)
    floor()
    camera(scene)
