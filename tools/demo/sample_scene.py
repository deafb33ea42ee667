"""The sample scene: a still life to paint over. Run inside Blender; `build` fills the open file.

Six and more objects, among them one with a stack of modifiers (the vase), linked duplicates and a collection
instance (the fruit), an object without UVs (the bowl) and a camera parented to an empty.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import bpy
import numpy as np
from mathutils import Vector

Profile = Sequence[tuple[float, float]]
"""(radius, height) from bottom to top, in metres."""

COLLECTION = "Still Life"

VASE: Profile = (
    (0.0, 0.0), (0.16, 0.0), (0.2, 0.05), (0.3, 0.3), (0.32, 0.5), (0.26, 0.72), (0.13, 0.92), (0.11, 1.02),
    (0.15, 1.12), (0.19, 1.15),
)  # fmt: skip
BOWL: Profile = (
    (0.0, 0.05), (0.14, 0.05), (0.15, 0.0), (0.18, 0.0), (0.19, 0.06), (0.36, 0.14), (0.46, 0.27), (0.49, 0.34),
    (0.46, 0.345), (0.42, 0.28), (0.33, 0.17), (0.18, 0.1), (0.0, 0.09),
)  # fmt: skip
APPLE: Profile = (
    (0.0, 0.03), (0.04, 0.012), (0.08, 0.0), (0.13, 0.045), (0.165, 0.13), (0.17, 0.19), (0.14, 0.255),
    (0.085, 0.285), (0.035, 0.27), (0.01, 0.245), (0.01, 0.25), (0.011, 0.34), (0.015, 0.36), (0.0, 0.362),
)  # fmt: skip
PEAR: Profile = (
    (0.0, 0.02), (0.05, 0.0), (0.12, 0.04), (0.165, 0.13), (0.15, 0.23), (0.1, 0.32), (0.075, 0.4), (0.05, 0.44),
    (0.011, 0.452), (0.011, 0.456), (0.011, 0.52), (0.014, 0.54), (0.0, 0.542),
)  # fmt: skip
CANDLE: Profile = ((0.0, 0.0), (0.075, 0.0), (0.075, 0.56), (0.066, 0.585), (0.03, 0.57), (0.0, 0.565))
HOLDER: Profile = (
    (0.0, 0.0), (0.17, 0.0), (0.19, 0.03), (0.17, 0.035), (0.1, 0.03), (0.045, 0.07), (0.035, 0.13), (0.05, 0.17),
    (0.1, 0.2), (0.105, 0.235), (0.08, 0.235), (0.076, 0.21), (0.0, 0.21),
)  # fmt: skip
PEDESTAL: Profile = (
    (0.0, 0.0), (1.22, 0.0), (1.25, 0.03), (1.25, 0.11), (1.22, 0.14), (0.0, 0.14)
)  # fmt: skip


def build() -> None:
    """Add the still life, its lights and its camera to the open scene; the paintable objects are selected."""
    scene = bpy.context.scene
    collection = bpy.data.collections.new(COLLECTION)
    scene.collection.children.link(collection)
    paintable = [*_table(collection), *_vessels(collection), *_fruit(collection), *_things(collection)]
    _fruit_on_the_floor(scene, collection)
    _lights(scene)
    _camera(scene)
    for ob in scene.objects:
        ob.select_set(ob in paintable)
    bpy.context.view_layer.objects.active = paintable[0]


# ------------------------------------------------------------ objects


def _table(collection: bpy.types.Collection) -> list[bpy.types.Object]:
    top = _lathe("Table", PEDESTAL, collection, (0.33, 0.17, 0.08), steps=96, smooth=False)
    top.location.z = -0.14
    _bevel(top, 0.012)
    _backdrop(collection)  # left plain: cameras that had to see all of it would see little of the rest
    return [top]


def _vessels(collection: bpy.types.Collection) -> list[bpy.types.Object]:
    vase = _lathe("Vase", VASE, collection, (0.05, 0.2, 0.3), steps=24)
    vase.location = (-0.36, 0.34, 0.0)
    thick = vase.modifiers.new("Thickness", "SOLIDIFY")
    thick.thickness, thick.offset = 0.022, 1.0
    _subdivide(vase)
    twist = vase.modifiers.new("Twist", "SIMPLE_DEFORM")
    twist.deform_method, twist.deform_axis, twist.angle = "TWIST", "Z", math.radians(40)
    bowl = _lathe("Bowl", BOWL, collection, (0.75, 0.68, 0.55), steps=32, uvs=False)
    bowl.location = (0.36, -0.06, 0.0)
    _subdivide(bowl)
    return [vase, bowl]


def _fruit(collection: bpy.types.Collection) -> list[bpy.types.Object]:
    apple = _lathe("Apple", APPLE, collection, (0.55, 0.07, 0.05), steps=20, twig=4)
    _subdivide(apple)
    apple.location, apple.rotation_euler = (0.24, -0.14, 0.14), (0.25, -0.2, 0.0)
    second = apple.copy()  # a linked duplicate: the same mesh
    second.name = "Apple Copy"
    collection.objects.link(second)
    second.location, second.rotation_euler, second.scale = (0.52, -0.12, 0.15), (-0.3, 0.35, 2.0), (0.94,) * 3
    pear = _lathe("Pear", PEAR, collection, (0.62, 0.55, 0.12), steps=20, twig=4)
    _subdivide(pear)
    pear.location, pear.rotation_euler = (0.36, 0.13, 0.17), (-0.35, 0.3, 0.4)
    orange = _ball("Orange", 0.17, collection, (0.85, 0.32, 0.04))
    orange.location = (-0.22, -0.56, 0.17)
    return [apple, second, pear, orange]


def _things(collection: bpy.types.Collection) -> list[bpy.types.Object]:
    book = _box("Book", (0.78, 0.54, 0.13), collection, (0.2, 0.27, 0.15))
    book.location, book.rotation_euler.z = (-0.62, -0.22, 0.065), math.radians(24)
    _bevel(book, 0.012)
    holder = _lathe("Candlestick", HOLDER, collection, (0.6, 0.42, 0.16), steps=32)
    holder.location = (0.72, 0.5, 0.0)
    _subdivide(holder)
    candle = _lathe("Candle", CANDLE, collection, (0.85, 0.8, 0.68), steps=32, smooth=False)
    candle.location = (0.72, 0.5, 0.21)
    return [book, holder, candle]


def _fruit_on_the_floor(scene: bpy.types.Scene, collection: bpy.types.Collection) -> None:
    """A group of berries that is instanced: its objects are not in the scene themselves."""
    berries = bpy.data.collections.new("Berries")
    for index, (x, y) in enumerate(((0.0, 0.0), (0.115, 0.03), (0.03, 0.11))):
        berry = _ball(f"Berry {index + 1}", 0.06, berries, (0.22, 0.05, 0.16))
        berry.location = (x, y, 0.06)
    for name, place, turn in (("Berries Left", (0.1, -0.78, 0.0), 0.3), ("Berries Right", (0.84, -0.42, 0.0), 2.2)):
        instance = bpy.data.objects.new(name, None)
        instance.instance_type, instance.instance_collection = "COLLECTION", berries
        instance.location, instance.rotation_euler.z = place, turn
        collection.objects.link(instance)


# ------------------------------------------------------------ light and camera


def _lights(scene: bpy.types.Scene) -> None:
    for name, place, power, size, color in (
        ("Window", (-3.0, -1.9, 2.7), 420.0, 0.9, (1.0, 0.88, 0.72)),
        ("Fill", (3.4, -2.4, 1.6), 40.0, 2.5, (0.72, 0.84, 1.0)),
    ):
        light = bpy.data.lights.new(name, "AREA")
        light.energy, light.size, light.color = power, size, color
        ob = bpy.data.objects.new(name, light)
        ob.location = place
        ob.rotation_euler = (Vector((0, 0, 0.3)) - ob.location).to_track_quat("-Z", "Y").to_euler()
        scene.collection.objects.link(ob)
    world = bpy.data.worlds.new("Studio")
    _use_nodes(world)
    background = world.node_tree.nodes.get("Background") or world.node_tree.nodes.new("ShaderNodeBackground")
    background.inputs["Color"].default_value = (0.35, 0.4, 0.5, 1.0)
    background.inputs["Strength"].default_value = 0.22
    scene.world = world


def _camera(scene: bpy.types.Scene) -> None:
    """Parented to an empty in the middle: turning the empty orbits the still life."""
    pivot = bpy.data.objects.new("Orbit", None)
    pivot.location = (0.02, 0.0, 0.4)
    pivot.rotation_euler.z = math.radians(8)
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    camera.parent = pivot
    camera.location = (0.0, -4.3, 1.2)
    camera.rotation_euler = (math.radians(75.4), 0.0, 0.0)
    camera.data.lens = 50.0
    for ob in (pivot, camera):
        scene.collection.objects.link(ob)
    scene.camera = camera
    scene.render.resolution_x, scene.render.resolution_y = 768, 768


# ------------------------------------------------------------ making meshes


def _lathe(
    name: str,
    profile: Profile,
    collection: bpy.types.Collection,
    color: tuple[float, float, float],
    *,
    steps: int,
    smooth: bool = True,
    uvs: bool = True,
    twig: int = 0,
) -> bpy.types.Object:
    """A profile turned around z. Ends at radius 0 become poles. UVs run around and along the profile.

    The last `twig` bands have a second material.
    """
    angles = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    vertices: list[tuple[float, float, float]] = []
    rings: list[list[int]] = []
    for radius, height in profile:
        around = angles if radius else angles[:1]
        first = len(vertices)
        vertices += [(radius * math.cos(a), radius * math.sin(a), height) for a in around]
        rings.append([first + i % len(around) for i in range(steps + 1)])
    lengths = np.cumsum([0.0, *(math.dist(a, b) for a, b in itertools.pairwise(profile))])
    faces, corners = [], []
    for row, (low, high) in enumerate(itertools.pairwise(rings)):
        v0, v1 = lengths[row] / lengths[-1], lengths[row + 1] / lengths[-1]
        for i in range(steps):
            face = [(low[i], i, v0), (low[i + 1], i + 1, v0), (high[i + 1], i + 1, v1), (high[i], i, v1)]
            face = [corner for k, corner in enumerate(face) if corner[0] != face[k - 1][0]]
            faces.append([vertex for vertex, _, _ in face])
            corners += [(column / steps, v) for _, column, v in face]
    made = _object(name, vertices, faces, corners if uvs else None, collection, color, smooth)
    if twig:
        made.data.materials.append(_material("Twig", (0.09, 0.05, 0.025)))
        made.data.polygons.foreach_set("material_index", np.repeat([0, 1], [len(faces) - twig * steps, twig * steps]))
    return made


def _ball(
    name: str, radius: float, collection: bpy.types.Collection, color: tuple[float, float, float]
) -> bpy.types.Object:
    angles = np.linspace(-np.pi / 2, np.pi / 2, 13)
    profile = [(radius * math.cos(a) if abs(a) < 1.57 else 0.0, radius * math.sin(a)) for a in angles]
    return _lathe(name, profile, collection, color, steps=24)


def _box(
    name: str, size: tuple[float, float, float], collection: bpy.types.Collection, color: tuple[float, float, float]
) -> bpy.types.Object:
    vertices = [tuple((s - 0.5) * side for s, side in zip(c, size, strict=True)) for c in np.ndindex(2, 2, 2)]
    faces = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    corners = []
    for cell in range(6):  # a cell of a 3 × 2 grid for every side
        x, y = cell % 3 / 3, cell // 3 / 2
        corners += [(x + u / 3, y + v / 2) for u, v in ((0.03, 0.03), (0.97, 0.03), (0.97, 0.97), (0.03, 0.97))]
    return _object(name, vertices, faces, corners, collection, color, smooth=False)


def _backdrop(collection: bpy.types.Collection) -> bpy.types.Object:
    """Floor and wall in one sweep."""
    bend = [(1.2 * math.sin(a), 1.2 - 1.2 * math.cos(a)) for a in np.linspace(0, np.pi / 2, 9)]
    path = [(-4.0, 0.0), *((1.2 + y, z) for y, z in bend), (2.4, 4.5)]
    vertices = [(x, y, z - 0.14) for y, z in path for x in (-4.5, 4.5)]
    rows = len(path) - 1
    faces = [(2 * i, 2 * i + 1, 2 * i + 3, 2 * i + 2) for i in range(rows)]
    corners = [(u, (i + v) / rows) for i in range(rows) for u, v in ((0, 0), (1, 0), (1, 1), (0, 1))]
    return _object("Backdrop", vertices, faces, corners, collection, (0.17, 0.2, 0.21), smooth=True)


def _object(
    name: str,
    vertices: Sequence[Sequence[float]],
    faces: Sequence[Sequence[int]],
    corners: Sequence[tuple[float, float]] | None,
    collection: bpy.types.Collection,
    color: tuple[float, float, float],
    smooth: bool,
) -> bpy.types.Object:
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata(vertices, [], faces)
    if corners:
        mesh.uv_layers.new(name="UVMap", do_init=False).uv.foreach_set("vector", np.ravel(corners))
    mesh.polygons.foreach_set("use_smooth", np.full(len(faces), smooth))
    mesh.materials.append(_material(name, color))
    mesh.update()
    ob = bpy.data.objects.new(name, mesh)
    collection.objects.link(ob)
    return ob


def _material(name: str, color: tuple[float, float, float]) -> bpy.types.Material:
    material = bpy.data.materials.get(name) or bpy.data.materials.new(name)
    _use_nodes(material)
    material.diffuse_color = (*color, 1.0)
    shader = material.node_tree.nodes["Principled BSDF"]
    shader.inputs["Base Color"].default_value = (*color, 1.0)
    shader.inputs["Roughness"].default_value = 0.55
    return material


def _use_nodes(block: bpy.types.Material | bpy.types.World) -> None:
    if bpy.app.version < (5, 0, 0):  # from 5.0 on they always are
        block.use_nodes = True


def _subdivide(ob: bpy.types.Object) -> None:
    modifier = ob.modifiers.new("Subdivision", "SUBSURF")
    modifier.levels = modifier.render_levels = 2


def _bevel(ob: bpy.types.Object, width: float) -> None:
    modifier = ob.modifiers.new("Bevel", "BEVEL")
    modifier.width, modifier.segments, modifier.limit_method = width, 2, "ANGLE"
