"""Small scenes that several tests use."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from types import SimpleNamespace
from typing import Any

import bpy
from mathutils import Vector

from paintover import cameras

KINDS = ("plain", "ortho", "shift", "vertical fit", "ortho shift tall", "parented", "pixel aspect")
"""Cameras of every sort, for `add_camera`."""


def add_camera(
    scene: bpy.types.Scene, kind: str = "plain", location: Sequence[float] = (1.5, -5.0, 2.0)
) -> bpy.types.Object:
    """The scene's camera, looking at the origin, and a small resolution that goes with it."""
    data = bpy.data.cameras.new("Camera")
    camera = bpy.data.objects.new("Camera", data)
    scene.collection.objects.link(camera)
    camera.location = location
    camera.rotation_euler = (-Vector(location)).to_track_quat("-Z", "Y").to_euler()
    scene.camera = camera
    scene.render.resolution_x, scene.render.resolution_y = 48, 32
    if kind.startswith("ortho"):
        data.type, data.ortho_scale = "ORTHO", 5.0
    if "shift" in kind:
        data.shift_x, data.shift_y = 0.21, -0.13
    if kind == "vertical fit":
        data.sensor_fit, data.sensor_height, data.lens = "VERTICAL", 20.0, 35.0
    if "tall" in kind:
        scene.render.resolution_x, scene.render.resolution_y = 32, 48
    if kind == "parented":
        parent = bpy.data.objects.new("Parent", None)
        scene.collection.objects.link(parent)
        parent.location, parent.rotation_euler, parent.scale = (0.3, 0.1, 0.2), (0.1, 0.2, 0.4), (2.0, 2.0, 2.0)
        camera.parent = parent
        camera.location = Vector(location) / 2
        camera.scale = (3.0, 1.0, 0.5)
    if kind == "pixel aspect":
        scene.render.pixel_aspect_x, scene.render.pixel_aspect_y = 1.0, 1.5
    bpy.context.view_layer.update()
    return camera


def add_sphere(
    scene: bpy.types.Scene, location: Sequence[float] = (0, 0, 0), *, fine: bool = False
) -> bpy.types.Object:
    """A smooth sphere of radius 1 with UVs."""
    bpy.ops.mesh.primitive_uv_sphere_add(segments=96 if fine else 32, ring_count=48 if fine else 16, location=location)
    bpy.ops.object.shade_smooth()
    return bpy.context.object


def add_plane(scene: bpy.types.Scene, size: float, location: Sequence[float] = (0, 0, 0)) -> bpy.types.Object:
    bpy.ops.mesh.primitive_plane_add(size=size, location=location)
    return bpy.context.object


def add_cube(scene: bpy.types.Scene, location: Sequence[float] = (0, 0, 0)) -> bpy.types.Object:
    """A cube of side 2 with UVs."""
    bpy.ops.mesh.primitive_cube_add(location=location, rotation=(0, 0, math.radians(0)))
    return bpy.context.object


def glow(color: Sequence[float] = (1, 1, 1)) -> bpy.types.Material:
    """A material of nothing but emission."""
    material = bpy.data.materials.new("Glow")
    if bpy.app.version < (5, 0, 0):
        material.use_nodes = True
    tree = material.node_tree
    tree.nodes.clear()
    shader = tree.nodes.new("ShaderNodeEmission")
    shader.inputs["Color"].default_value = (*color, 1.0)
    tree.links.new(shader.outputs[0], tree.nodes.new("ShaderNodeOutputMaterial").inputs["Surface"])
    return material


def finish(steps: Generator[Any, None, Any]) -> Any:
    """Do all steps at once."""
    for _ in range(1_000_000):
        try:
            next(steps)
        except StopIteration as end:
            return end.value
    raise AssertionError("they never end")


def automatic(scene: bpy.types.Scene, found: Sequence[Any], count: int = 8) -> list:
    """Automatic cameras for these meshes."""
    return finish(cameras.automatic_steps(lambda: scene, found, count, 64))


def instancer(name: str = "Instances") -> bpy.types.NodeTree:
    """Geometry nodes that put the object's own geometry on three points along y, 3 apart."""
    tree = bpy.data.node_groups.new(name, "GeometryNodeTree")
    tree.interface.new_socket("Geometry", in_out="INPUT", socket_type="NodeSocketGeometry")
    tree.interface.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
    start, end = tree.nodes.new("NodeGroupInput"), tree.nodes.new("NodeGroupOutput")
    line = tree.nodes.new("GeometryNodeMeshLine")
    line.inputs["Count"].default_value, line.inputs["Offset"].default_value = 3, (0, 3, 0)
    place = tree.nodes.new("GeometryNodeInstanceOnPoints")
    tree.links.new(line.outputs[0], place.inputs["Points"])
    tree.links.new(start.outputs[0], place.inputs["Instance"])
    tree.links.new(place.outputs[0], end.inputs[0])
    return tree


class Drawn:
    """Stands in for a panel's layout: notes the words and the operators."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.buttons: list[SimpleNamespace] = []

    def box(self) -> Drawn:
        return self

    def row(self, align: bool = False) -> Drawn:
        return self

    column = row

    def label(self, text: str, icon: str = "NONE") -> None:
        self.words.append(text)

    def progress(self, factor: float, text: str) -> None:
        self.words.append(text)

    def operator(self, name: str, **look: Any) -> SimpleNamespace:
        self.buttons.append(SimpleNamespace(name=name))
        return self.buttons[-1]


def material_of(scene: bpy.types.Scene) -> Any:
    material = bpy.data.materials.new("Material")
    if bpy.app.version < (5, 0, 0):
        material.use_nodes = True
    add_sphere(scene).data.materials.append(material)
    return material


def select(ob: bpy.types.Object) -> None:
    bpy.ops.object.select_all(action="DESELECT")
    ob.select_set(True)
    bpy.context.view_layer.objects.active = ob
