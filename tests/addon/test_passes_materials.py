"""Materials whose surface is not everywhere."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np
import pytest
from mathutils import Vector

from paintover import passes
from paintover.passes import cycles, gpu_route, ids
from paintover.passes.live import Live

from .looking import camera_of, look
from .scenes import add_camera, add_plane, material_of


def card(scene: bpy.types.Scene, *, mixed: bool = False, channel: str = "Alpha", **options: Any) -> bpy.types.Image:
    """A leaf card 2 above a floor: a picture of 8 × 4 random pixels says where it is."""
    add_plane(scene, size=40, location=(0, 0, -2)).name = "Floor"
    plane = add_plane(scene, size=2.4)
    plane.name = "Leaf"
    for loop in plane.data.uv_layers[0].uv:
        loop.vector = loop.vector * 2.3 - Vector((0.6, 0.7))  # beyond the picture, for what is there
    image = bpy.data.images.new("Leaf", 8, 4, alpha=True)
    pixels = np.repeat(np.random.default_rng(3).random((4, 8, 1)) > 0.5, 4, 2).astype(np.float32)
    if channel == "Color":
        pixels[..., 3] = 1
        image.colorspace_settings.name = "Non-Color"  # this generates its pixels again
    image.pixels.foreach_set(pixels.ravel())
    material = bpy.data.materials.new("Leaf")
    if bpy.app.version < (5, 0, 0):
        material.use_nodes = True
    plane.data.materials.append(material)
    nodes, links = material.node_tree.nodes, material.node_tree.links
    texture = nodes.new("ShaderNodeTexImage")
    texture.image = image
    for name, value in options.items():
        setattr(texture, name, value)
    shader = next(node for node in nodes if node.type == "BSDF_PRINCIPLED")
    if mixed:
        mix, output = nodes.new("ShaderNodeMixShader"), next(node for node in nodes if node.type == "OUTPUT_MATERIAL")
        links.new(texture.outputs[channel], mix.inputs[0])
        links.new(nodes.new("ShaderNodeBsdfTransparent").outputs[0], mix.inputs[1])
        links.new(shader.outputs[0], mix.inputs[2])
        links.new(mix.outputs[0], output.inputs["Surface"])
    else:
        links.new(texture.outputs[channel], shader.inputs["Alpha"])
    add_camera(scene, "ortho", location=(0, 0, 4)).rotation_euler = (0.2, 0.1, 0)
    scene.camera.data.ortho_scale = 3
    return image


@pytest.mark.parametrize(
    "options",
    [
        {"interpolation": "Linear"},
        {"interpolation": "Closest"},
        {"interpolation": "Closest", "extension": "MIRROR"},
        {"interpolation": "Closest", "extension": "EXTEND"},
        {"interpolation": "Closest", "extension": "CLIP"},
        {"mixed": True},
        {"channel": "Color", "mixed": True},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
def test_leaf_card_is_no_rectangle(options: dict[str, Any], scene: bpy.types.Scene) -> None:
    """Where a picture says how much of the surface is there, it is where Cycles sees it. (Below the threshold, which
    between pixels is where they mix, Cycles takes it or leaves it at random.)"""
    card(scene, **options)
    camera = camera_of(scene, (96, 64))
    (ours,), (theirs,) = gpu_route.render(scene, [camera]), cycles.render(scene, [camera])
    assert set(ours.names.values()) == {"Leaf", "Floor"}
    leaf = ours.object_id == ids.object_ids()["Leaf"]
    assert 0.05 < leaf.mean() < 0.5
    same = ours.object_id == theirs.object_id
    assert same[leaf].mean() > 0.99
    assert same.mean() > (0.99 if options.get("interpolation") == "Closest" else 0.8)
    np.testing.assert_allclose(ours.depth[same], theirs.depth[same], rtol=1e-4)


@pytest.mark.parametrize(("alpha", "threshold", "seen"), [(0.3, 0.5, False), (0.7, 0.5, True), (0.3, 0.2, True)])
def test_alpha_threshold(alpha: float, threshold: float, seen: bool, scene: bpy.types.Scene) -> None:
    node = next(node for node in material_of(scene).node_tree.nodes if node.type == "BSDF_PRINCIPLED")
    node.inputs["Alpha"].default_value = alpha
    scene.view_layers[0].pass_alpha_threshold = threshold
    add_camera(scene)
    camera = camera_of(scene)
    hit = np.isfinite(gpu_route.render(scene, [camera])[0].depth)
    assert hit.any() == seen
    if seen:
        assert (hit == np.isfinite(cycles.render(scene, [camera])[0].depth)).mean() > 0.99


def test_backs_are_culled_where_the_engine_culls(scene: bpy.types.Scene) -> None:
    material_of(scene).use_backface_culling = True
    add_camera(scene, location=(0, 0, 0.2))  # inside the ball
    for engine, seen in (("CYCLES", True), ("BLENDER_EEVEE" + "_NEXT" * (bpy.app.version < (5, 0, 0)), False)):
        scene.render.engine = engine
        assert np.isfinite(passes.render(scene, camera_of(scene)).depth).any() == seen
        with Live(scene) as drawn:
            assert np.isfinite(look(drawn).depth).any() == seen
    bpy.data.objects["Sphere"].scale.x = -1  # mirrored, its outside is still outside
    scene.camera.location.z = 5
    assert passes.render(scene, camera_of(scene)).depth.min() == pytest.approx(4, abs=0.1)


def test_painted_mask_is_seen(scene: bpy.types.Scene) -> None:
    image = card(scene, interpolation="Closest")
    with Live(scene) as drawn:
        leaf = ids.object_ids()["Leaf"]
        before = look(drawn).object_id == leaf
        assert before.any()
        image.pixels.foreach_set(np.zeros(4 * 8 * 4, np.float32))
        image.update()
        assert not (look(drawn).object_id == leaf).any()
