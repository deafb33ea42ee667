"""What the scenes of the `passes` benchmark are put together from. Runs inside Blender."""

from __future__ import annotations

from collections.abc import Sequence

import bpy
import numpy as np
from mathutils import Matrix, Vector


def camera(
    scene: bpy.types.Scene, location: Sequence[float] = (2.0, -9.0, 4.0), target: Sequence[float] = (0, 0, 0.5)
) -> bpy.types.Object:
    """The scene's camera, looking at the target, that moves and turns a little between the frames."""
    data = bpy.data.cameras.new("Camera")
    ob = bpy.data.objects.new("Camera", data)
    scene.collection.objects.link(ob)
    scene.camera = ob
    scene.render.resolution_x, scene.render.resolution_y = 320, 240
    for frame, step in ((1, 0.0), (2, 0.06)):
        place = Vector(location) + Vector((step, step, -step / 2))
        ob.location = place
        ob.rotation_euler = (Vector(target) - place).to_track_quat("-Z", "Y").to_euler()
        ob.keyframe_insert("location", frame=frame)
        ob.keyframe_insert("rotation_euler", frame=frame)
    return ob


def move(ob: bpy.types.Object, offset: Sequence[float] = (0.05, 0.03, 0.02), turn: float = 0.05) -> bpy.types.Object:
    """Animate the object from where it is at frame 1 to a little further at frame 2."""
    for frame in (1, 2):
        ob.keyframe_insert("location", frame=frame)
        ob.keyframe_insert("rotation_euler", frame=frame)
        ob.location = Vector(ob.location) + Vector(offset)
        ob.rotation_euler.z += turn
    return ob


def added() -> bpy.types.Object:
    return bpy.context.object


def sphere(location: Sequence[float], radius: float = 1.0, segments: int = 64) -> bpy.types.Object:
    bpy.ops.mesh.primitive_uv_sphere_add(segments=segments, ring_count=segments // 2, radius=radius, location=location)
    smooth(added())
    return added()


def cube(location: Sequence[float], size: float = 1.5) -> bpy.types.Object:
    bpy.ops.mesh.primitive_cube_add(size=size, location=location)
    return added()


def floor(size: float = 30.0, z: float = -1.0) -> bpy.types.Object:
    bpy.ops.mesh.primitive_plane_add(size=size, location=(0, 0, z))
    return added()


def smooth(ob: bpy.types.Object) -> None:
    ob.data.polygons.foreach_set("use_smooth", np.ones(len(ob.data.polygons), bool))


def collection_of(*objects: bpy.types.Object) -> bpy.types.Collection:
    """A collection that holds the objects and is in no scene itself."""
    made = bpy.data.collections.new("Parts")
    for ob in objects:
        for old in ob.users_collection:
            old.objects.unlink(ob)
        made.objects.link(ob)
    return made


def instance(scene: bpy.types.Scene, what: bpy.types.Collection, matrix: Matrix) -> bpy.types.Object:
    empty = bpy.data.objects.new("Instance", None)
    empty.instance_type, empty.instance_collection = "COLLECTION", what
    scene.collection.objects.link(empty)
    empty.matrix_world = matrix
    return empty


def place(x: float, y: float, z: float, turn: float = 0.0, scale: Sequence[float] = (1, 1, 1)) -> Matrix:
    return Matrix.LocRotScale(
        Vector((x, y, z)), Matrix.Rotation(turn, 3, Vector((1, 2, 3)).normalized()), Vector(scale)
    )


def instances_on_points(
    ob: bpy.types.Object, what: bpy.types.Object | None = None, scale: float = 1.0
) -> bpy.types.Modifier:
    """Geometry Nodes that put an object, or else a small sphere of their own, on every vertex."""
    tree = bpy.data.node_groups.new("Instances", "GeometryNodeTree")
    for way in ("INPUT", "OUTPUT"):
        tree.interface.new_socket("Geometry", in_out=way, socket_type="NodeSocketGeometry")
    start, end = tree.nodes.new("NodeGroupInput"), tree.nodes.new("NodeGroupOutput")
    points = tree.nodes.new("GeometryNodeInstanceOnPoints")
    points.inputs["Scale"].default_value = (scale,) * 3
    if what:
        source = tree.nodes.new("GeometryNodeObjectInfo")
        source.inputs["Object"].default_value = what
        source.inputs["As Instance"].default_value = True
        shape = source.outputs["Geometry"]
    else:
        source = tree.nodes.new("GeometryNodeMeshIcoSphere")
        source.inputs["Radius"].default_value, source.inputs["Subdivisions"].default_value = 1.0, 3
        shape = source.outputs[0]
    tree.links.new(start.outputs[0], points.inputs["Points"])
    tree.links.new(shape, points.inputs["Instance"])
    tree.links.new(points.outputs[0], end.inputs[0])
    modifier = ob.modifiers.new("Instances", "NODES")
    modifier.node_group = tree
    return modifier
