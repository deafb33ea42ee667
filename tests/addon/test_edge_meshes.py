"""Edges of meshes of every sort, and what hides them."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np
import pytest
from mathutils import Matrix, Vector

from paintover import cameras
from paintover.bridge.parameters import EdgeStyle
from paintover.passes.live import Live

from .looking import NO_LINES, edges, length
from .scenes import add_camera, add_cube, add_plane, add_sphere, instancer, select

# ------------------------------------------------------------ what hides them


def test_hidden_lines(above: Any, scene: bpy.types.Scene) -> None:
    cube = add_cube(scene)
    cube.rotation_euler = (0.4, 0.5, 0.6)
    alone = edges(scene)
    cover = add_plane(scene, size=3, location=(0, 0, 3))
    covered = edges(scene)
    assert alone[12:52, 12:52].any()
    assert not covered[12:52, 12:52].any()
    cover.location.z = -3
    assert (edges(scene)[12:52, 12:52] == alone[12:52, 12:52]).mean() > 0.98


def test_of_a_cube_seen_from_the_front_four_lines_are_seen(scene: bpy.types.Scene) -> None:
    """The farther four are hidden, although they run a little inside the outline."""
    add_cube(scene)
    add_camera(scene, location=(0, -5, 0))
    edge = edges(scene, size=128)
    rows, columns = np.nonzero(edge >= 128)
    assert np.ptp(rows) == np.ptp(columns)
    inside = edge[rows.min() + 2 : rows.max() - 1, columns.min() + 2 : columns.max() - 1]
    assert inside.size > 1000
    assert not inside.any()


def test_holdouts_hide_lines_and_cut_what_is_seen(above: Any, scene: bpy.types.Scene) -> None:
    add_plane(scene, size=2)
    add_cube(scene, (0, 0, -3)).scale = (0.5, 0.5, 0.5)
    cover = add_plane(scene, size=3, location=(1.02, 0, 3))
    cover.is_holdout = True
    edge = edges(scene)
    assert not edge[:, 28:].any()  # lines behind it, and its own before the background
    assert (edge[20:44, 23:26] >= 128).any(1).all()  # where it cuts the plane
    cover.is_holdout = False
    assert edges(scene)[:, 28:].any()


def leaf(scene: bpy.types.Scene) -> bpy.types.Object:
    """A card with a picture of a disc as its alpha."""
    card = add_plane(scene, size=3)
    image = bpy.data.images.new("Leaf", 64, 64, alpha=True)
    y, x = np.mgrid[:64, :64] - 31.5
    pixels = np.ones((64, 64, 4), np.float32)
    pixels[..., 3] = np.hypot(x, y) < 20
    image.pixels.foreach_set(pixels.ravel())
    material = bpy.data.materials.new("Leaf")
    if bpy.app.version < (5, 0, 0):
        material.use_nodes = True
    tree = material.node_tree
    tree.nodes.clear()
    texture, shader = tree.nodes.new("ShaderNodeTexImage"), tree.nodes.new("ShaderNodeBsdfPrincipled")
    texture.image = image
    tree.links.new(texture.outputs["Alpha"], shader.inputs["Alpha"])
    tree.links.new(shader.outputs[0], tree.nodes.new("ShaderNodeOutputMaterial").inputs["Surface"])
    card.data.materials.append(material)
    return card


def test_outline_of_a_mask(above: Any, scene: bpy.types.Scene) -> None:
    leaf(scene)
    edge = edges(scene, size=128)
    radius = np.hypot(*(np.mgrid[:128, :128] - 63.5)) / (128 / 4)
    disc = 20 / 64 * 3
    line = edge >= 128
    assert line.sum() > 2 * np.pi * disc * 32 * 0.8
    assert np.abs(radius[line] - disc).max() < 0.1  # and the card's own border is not there


def test_culled_backs_have_no_lines(above: Any, scene: bpy.types.Scene) -> None:
    plane = add_plane(scene, size=2)
    material = bpy.data.materials.new("Front")
    material.use_backface_culling = True
    plane.data.materials.append(material)
    scene.render.engine = "BLENDER_EEVEE_NEXT" if bpy.app.version < (5, 0, 0) else "BLENDER_EEVEE"
    assert edges(scene).any()
    plane.rotation_euler.x = np.pi
    assert not edges(scene).any()
    scene.render.engine = "CYCLES"
    assert edges(scene).any()


# ------------------------------------------------------------ meshes of every sort


def test_instances_are_drawn_like_real_ones(scene: bpy.types.Scene) -> None:
    cube = add_cube(scene)
    cube.scale = (0.3, 0.3, 0.3)
    cube.modifiers.new("Instances", "NODES").node_group = instancer()
    add_camera(scene, location=(4, -5, 2))
    instanced = edges(scene, size=96)
    bpy.ops.object.duplicates_make_real()
    real = [ob for ob in scene.objects if ob.type == "MESH"]
    assert len(real) > 1
    for ob in real:
        ob.modifiers.clear()
    cube.hide_render = len(real) == 4
    assert length(instanced) > 60
    assert (instanced == edges(scene, size=96)).mean() > 0.99


@pytest.mark.parametrize("scale", [(1, 1, 1), (-1, 1, 1), (2, 0.5, -1)])
def test_mirrored_objects(scale: tuple[float, float, float], above: Any, scene: bpy.types.Scene) -> None:
    ball = add_sphere(scene, fine=True)
    ball.scale = scale
    edge = edges(scene, size=128)
    y, x = np.mgrid[:128, :128] - 63.5
    distance = np.hypot(x / scale[0], y / scale[1]) / 32
    assert edge[distance < 0.9].max() == 0
    assert edge[distance > 1.1].max() == 0
    assert (edge >= 128).sum() > 150


def test_split_meshes_have_no_seams(above: Any, scene: bpy.types.Scene) -> None:
    ball = add_sphere(scene, fine=True)
    select(ball)
    whole = edges(scene, size=128)
    bpy.ops.object.mode_set(mode="EDIT")
    bpy.ops.mesh.select_all(action="SELECT")
    bpy.ops.mesh.edge_split(type="EDGE")
    bpy.ops.object.mode_set(mode="OBJECT")
    ball.data.normals_split_custom_set_from_vertices([v.co.normalized() for v in ball.data.vertices])
    split = edges(scene, size=128)
    assert len(ball.data.vertices) > 10_000
    assert np.abs(whole.astype(int) - split).max() < 40


def test_edited_meshes_get_new_lines(above: Any, scene: bpy.types.Scene) -> None:
    plane = add_plane(scene, size=2)
    with Live(scene) as live:

        def look(style: EdgeStyle) -> np.ndarray:
            edge = live.frame(cameras.from_object(scene, scene.camera, 64, 64), edges=style).edge
            assert edge is not None
            return edge

        first = look(EdgeStyle())
        assert not look(NO_LINES).any()
        assert (look(EdgeStyle()) == first).all()
        assert first[16].any()
        for vertex in plane.data.vertices:
            vertex.co.xy = vertex.co.xy * 0.5
        plane.data.update()
        second = look(EdgeStyle())
        assert length(second) == pytest.approx(length(first) / 2, rel=0.1)
        assert not second[:20].any()


def test_broken_and_empty(above: Any, scene: bpy.types.Scene) -> None:
    assert not edges(scene).any()
    plane = add_plane(scene, size=2)
    plane.data.vertices[1].co.x = float("nan")
    plane.data.update()
    assert length(edges(scene)) > 60  # of the triangle that is left
    for vertex in plane.data.vertices:
        vertex.co = (0, 0, 0)
    plane.data.update()
    edges(scene)
    plane.data.vertices[1].co.x = plane.data.vertices[2].co.x = float("nan")
    plane.data.update()
    assert not edges(scene).any()
    plane.scale = (0, 0, 0)
    edges(scene)


def test_far_from_the_origin(scene: bpy.types.Scene) -> None:
    camera = add_camera(scene)
    cube = add_cube(scene)
    here = edges(scene, size=128)
    offset = Vector((10_000, -5_000, 300))
    cube.location += offset
    camera.matrix_world = Matrix.Translation(offset) @ camera.matrix_world
    bpy.context.view_layer.update()
    there = edges(scene, size=128)
    assert (np.abs(here.astype(int) - there) < 64).mean() > 0.99
