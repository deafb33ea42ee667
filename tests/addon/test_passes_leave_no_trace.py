"""The scene is left as it was found, by both routes."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np
import pytest

from paintover import cameras
from paintover.passes import cycles, gpu_route
from paintover.passes.live import Live

from . import rna
from .looking import render
from .scenes import add_camera, add_cube, add_plane, add_sphere

pytestmark = pytest.mark.usefixtures("route")


UNREAD = {"use_nodes"} if bpy.app.version >= (5, 0, 0) else set()  # deprecated
if bpy.app.version < (4, 5, 0):
    # Blender 4.2 does not take back the users that a copied scene gave its objects, until the file is loaded again.
    UNREAD.add("users")


def values(block: Any) -> dict[str, Any]:
    """Every plain property of a struct."""
    found = {}
    for prop in block.bl_rna.properties:
        if prop.type in {"BOOLEAN", "INT", "FLOAT", "STRING", "ENUM"} and prop.identifier not in UNREAD:
            value = getattr(block, prop.identifier, None)
            found[prop.identifier] = tuple(value) if getattr(prop, "is_array", False) else value
        elif prop.type == "POINTER":
            pointed = getattr(block, prop.identifier, None)
            found[prop.identifier] = getattr(pointed, "name", pointed is not None)
    return found


def snapshot(scene: bpy.types.Scene) -> dict[str, Any]:
    found: dict[str, Any] = {
        name: values(getattr(scene, name)) for name in ("render", "cycles", "view_settings", "display_settings")
    }
    found["scene"] = values(scene)
    found["layers"] = [(values(layer), values(layer.cycles)) for layer in scene.view_layers]
    found["excluded"] = [child.exclude for child in scene.view_layers[0].layer_collection.children]
    found["markers"] = [(marker.name, marker.frame, marker.camera) for marker in scene.timeline_markers]
    found["objects"] = {
        ob.name: (values(ob), ob.mode, ob.select_get(), [tuple(row) for row in ob.matrix_world])
        for ob in bpy.data.objects
    }
    found["materials"] = {material.name: values(material) for material in bpy.data.materials}
    found["active"] = bpy.context.view_layer.objects.active
    found["context"] = (bpy.context.scene, bpy.context.view_layer, bpy.context.mode)
    found["blocks"] = {
        prop.identifier: sorted((b.name, "users" in UNREAD or b.users) for b in getattr(bpy.data, prop.identifier))
        for prop in bpy.data.bl_rna.properties
        if prop.type == "COLLECTION"
    }
    found["engines"] = sorted(cls.__name__ for cls in bpy.types.RenderEngine.__subclasses__() if cls.is_registered)
    return found


def furnish(scene: bpy.types.Scene) -> None:
    """A scene with everything that a render could disturb."""
    cube, ball = add_cube(scene, (0, 0, 3)), add_sphere(scene)
    cube.pass_index = ball.pass_index = 7
    material = bpy.data.materials.new("Paint")
    material.pass_index = 3
    ball.data.materials.append(material)
    other = add_camera(scene)
    camera = add_camera(scene, location=(0, -6, 1))
    camera.data.dof.use_dof = True
    scene.timeline_markers.new("Cut", frame=1).camera = other
    scene.camera = camera
    bpy.context.view_layer.objects.active = cube
    bpy.ops.rigidbody.object_add()
    bpy.context.collection.children.link(bpy.data.collections.new("Left Out"))
    bpy.context.view_layer.layer_collection.children["Left Out"].exclude = True
    scene.view_layers.new("Second").use_pass_mist = True
    scene.world = bpy.data.worlds.new("Sky")
    scene.frame_set(4)
    scene.keyframe_insert("view_settings.exposure", frame=1)
    render = scene.render
    render.engine, render.use_border, render.use_motion_blur = "BLENDER_WORKBENCH", True, True
    render.resolution_percentage, render.film_transparent = 50, True
    scene.cycles.samples, scene.cycles.use_denoising = 77, True
    if bpy.app.version < (5, 0, 0):
        scene.use_nodes = True
    ball.select_set(True)
    bpy.context.view_layer.update()


@pytest.mark.parametrize("color", [False, True])
def test_scene_is_left_as_found(color: bool, scene: bpy.types.Scene) -> None:
    furnish(scene)
    before = snapshot(scene)
    seen = render(scene, color=color)
    assert np.isfinite(seen.depth).any()
    assert snapshot(scene) == before


def everything(scene: bpy.types.Scene) -> dict[str, Any]:
    """All that RNA tells of the scene, its view layers, world, compositor, objects and what these are made of."""
    found: dict[str, Any] = rna.walk(scene, "scene")
    for blocks in (bpy.data.objects, bpy.data.meshes, bpy.data.materials, bpy.data.cameras, bpy.data.collections):
        for block in blocks:
            found |= rna.walk(block, f"{type(block).__name__} {block.name}")
    return found


def test_all_of_rna_is_left_as_found(route: str, scene: bpy.types.Scene) -> None:
    furnish(scene)
    before = everything(scene)
    assert len(before) > 2000
    render(scene)
    assert everything(scene) == before
    if route == "gpu":
        with Live(scene) as live:
            live.frame(cameras.from_object(scene, scene.camera, 48, 32), position=True)
        assert everything(scene) == before
    scene.view_settings.exposure += 0.5
    bpy.data.objects["Cube"].select_set(True)
    changed = everything(scene)
    assert sorted(path for path in before if changed.get(path) != before[path])


def test_scene_is_left_as_found_by_live_passes(scene: bpy.types.Scene) -> None:
    furnish(scene)
    before = snapshot(scene)
    with Live(scene) as live:
        for _ in range(2):
            frame = live.frame(cameras.from_object(scene, scene.camera, 48, 32), position=True)
    assert np.isfinite(frame.depth).any()
    assert snapshot(scene) == before


def test_scene_is_left_as_found_after_an_error(scene: bpy.types.Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    furnish(scene)
    before = snapshot(scene)
    monkeypatch.setattr(cycles, "read", lambda *_: 1 / 0)
    monkeypatch.setattr(gpu_route, "Reader", lambda **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        render(scene)
    assert snapshot(scene) == before


def test_render_result_of_the_artist_stays(scene: bpy.types.Scene) -> None:
    bpy.data.images.new("Render Result", 4, 4)
    add_plane(scene, size=4)
    add_camera(scene)
    render(scene)
    assert "Render Result" in bpy.data.images


def test_cycles_still_renders_afterwards(scene: bpy.types.Scene) -> None:
    add_plane(scene, size=4)
    add_camera(scene)
    render(scene)
    scene.render.engine, scene.cycles.samples = "CYCLES", 1
    assert bpy.ops.render.render() == {"FINISHED"}
