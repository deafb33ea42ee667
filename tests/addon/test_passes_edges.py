"""Edges, by both routes."""

from __future__ import annotations

import bpy
import numpy as np
import pytest
from mathutils import Matrix

from .looking import render
from .scenes import add_camera, add_cube, add_sphere

pytestmark = pytest.mark.usefixtures("route")


def test_edges(scene: bpy.types.Scene) -> None:
    cube = add_cube(scene)
    other = bpy.data.materials.new("Other")
    cube.data.materials.append(bpy.data.materials.new("One"))
    cube.data.materials.append(other)
    add_camera(scene, "ortho", location=(0, 0, 9))
    scene.camera.data.ortho_scale = 4
    scene.render.resolution_x = scene.render.resolution_y = 64
    edge = render(scene).edge
    assert set(np.unique(edge)) == {0, 255}
    assert edge[32, 16] == edge[32, 47] == edge[16, 32] == edge[47, 32] == 255  # the outline, on the cube
    assert edge[32, 17:47].max() == 0
    assert (edge > 0).sum() == 4 * 32 - 4  # one pixel wide
    bpy.ops.mesh.primitive_grid_add(x_subdivisions=2, y_subdivisions=1, size=3, location=(0, 0, 2))
    grid = bpy.context.object
    grid.data.materials.append(bpy.data.materials["One"])
    grid.data.materials.append(other)
    grid.data.polygons[1].material_index = 1
    edge = render(scene).edge
    assert (edge[32, 20:44] > 0).sum() == 1  # the border of two materials on one flat face


def test_step_within_one_object_is_drawn(scene: bpy.types.Scene) -> None:
    mesh = bpy.data.meshes.new("Steps")
    sides = ((-1, 0, 0.0), (0, 1, 0.5))  # a low and a high half: one object, one material, one normal
    corners = [[(x, y, z) for x, y in ((a, -1), (b, -1), (b, 1), (a, 1))] for a, b, z in sides]
    mesh.from_pydata([corner for side in corners for corner in side], [], [(0, 1, 2, 3), (4, 5, 6, 7)])
    scene.collection.objects.link(bpy.data.objects.new("Steps", mesh))
    camera = add_camera(scene, "ortho", location=(0, 0, 9))
    camera.data.ortho_scale, camera.rotation_euler = 1.5, (0, 0, 0)
    scene.render.resolution_x = scene.render.resolution_y = 32
    edge = render(scene).edge
    assert (edge[:, 16] == 255).all()  # the high side's border
    assert (edge > 0).sum() == 32


def test_crease_is_drawn_and_a_smooth_bend_is_not(scene: bpy.types.Scene) -> None:
    ball = add_sphere(scene, fine=True)
    add_camera(scene, "ortho", location=(0.1, -9, 0.2))
    scene.camera.data.ortho_scale = 2.5
    scene.render.resolution_x = scene.render.resolution_y = 96
    edge = render(scene).edge
    distance = np.hypot(*(np.mgrid[:96, :96] - 47.5)) / 96 * 2.5
    assert edge[distance < 0.95].max() == 0
    assert edge[(distance > 0.95) & (distance < 1)].any()
    bpy.data.objects.remove(ball)
    add_cube(scene)
    scene.camera.data.ortho_scale = 4
    scene.camera.matrix_world = Matrix.Rotation(0.78, 4, "Z") @ scene.camera.matrix_world
    bpy.context.view_layer.update()
    assert (render(scene).edge[48] > 0).sum() == 3  # two outlines and the crease between
