"""Broken input: a right answer or a clear message."""

from __future__ import annotations

import bpy
import numpy as np
import pytest

from paintover.passes.live import Live

from .looking import camera_of, look
from .scenes import add_cube, add_plane


def test_empty_scene(drawn: Live) -> None:
    frame = look(drawn)
    assert np.isinf(frame.depth).all()
    assert not frame.normal.any()
    assert not frame.object_id.any()


def test_one_pixel(drawn: Live, scene: bpy.types.Scene) -> None:
    add_plane(scene, size=40)
    assert drawn.frame(camera_of(scene, (1, 1))).depth == pytest.approx(4)


def test_broken_vertices_cost_their_triangles_alone(drawn: Live, scene: bpy.types.Scene) -> None:
    mesh = bpy.data.meshes.new("Broken")
    corners = [(-9, -9, 0), (9, -9, 0), (9, 9, 0), (-9, 9, 0), (0, 0, 1), (float("nan"), 2, 1), (1, float("inf"), 1)]
    mesh.from_pydata(corners, [], [(0, 1, 2, 3), (4, 5, 6), (4, 5, 0), (0, 0, 0), (0, 1, 1)])
    for name in ("One", "Two"):
        mesh.materials.append(bpy.data.materials.new(name))
    mesh.polygons.foreach_set("material_index", np.array([0, 1, 0, 1, 0], np.int32))
    scene.collection.objects.link(bpy.data.objects.new("Broken", mesh))
    frame = look(drawn)
    np.testing.assert_allclose(frame.depth, 4, rtol=1e-6)
    assert np.isfinite(frame.normal).all()
    assert (frame.material == bpy.data.materials.find("One") + 1).all()


def test_camera_inside_a_mesh(drawn: Live, scene: bpy.types.Scene) -> None:
    """It sees the inside: faces turn to the camera."""
    add_cube(scene).scale = (5, 5, 5)
    frame = look(drawn)
    assert np.isfinite(frame.depth).all()
    assert (frame.normal[..., 2] > 0).all()
