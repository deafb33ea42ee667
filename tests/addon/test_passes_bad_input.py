"""Broken input: a right answer or a clear message."""

from __future__ import annotations

import bpy
import numpy as np
import pytest

from paintover import cameras, passes
from paintover.bridge.errors import BadSize, NoCamera
from paintover.bridge.hints import make_hint
from paintover.passes.live import Live

from .looking import camera_of, look, render
from .scenes import add_camera, add_cube, add_plane


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


# ------------------------------------------------------------ by both routes, and for jobs and exports


@pytest.mark.parametrize("lacks", ["objects", "what renders", "what is in view"])
def test_nothing_to_see(lacks: str, route: str, scene: bpy.types.Scene) -> None:
    add_camera(scene, location=(0, -5, 0))
    if lacks != "objects":
        cube = add_cube(scene, (0, -20, 0) if lacks == "what is in view" else (0, 0, 0))
        cube.hide_render = lacks == "what renders"
    seen = render(scene)
    assert np.isinf(seen.depth).all()
    assert not seen.normal.any()
    assert not seen.object_id.any()
    assert not seen.edge.any()
    assert seen.names == {}
    assert not make_hint(seen, "depth").any()


def test_broken_geometry_by_both_routes(route: str, scene: bpy.types.Scene) -> None:
    """Zero area, not a number, no faces, no size at all: a floor behind them is seen as it is."""
    add_plane(scene, size=40)
    for name, corners, faces in (
        ("Line", [(0, 0, 1), (1, 0, 1), (0.5, 0, 1)], [(0, 1, 2)]),
        ("Point", [(0, 0, 1)] * 3, [(0, 1, 2)]),
        ("Numberless", [(float("nan"),) * 3, (1, 0, 1), (0, 1, 1)], [(0, 1, 2)]),
        ("Endless", [(float("inf"), 0, 0), (1, 0, 1), (0, 1, 1)], [(0, 1, 2)]),
        ("Empty", [], []),
        ("Loose", [(0, 0, 1), (1, 0, 1)], []),
    ):
        mesh = bpy.data.meshes.new(name)
        mesh.from_pydata(corners, [], faces)
        scene.collection.objects.link(bpy.data.objects.new(name, mesh))
    add_cube(scene, (0, 0, 2)).scale = (0, 0, 0)
    add_cube(scene, (0, 0, 2)).scale = (0, 1, 1)  # seen from its edge
    add_camera(scene, location=(0, 0, 4)).rotation_euler = (0, 0, 0)
    seen = render(scene)
    plane = seen.object_id == next(int(number) for number, name in seen.names.items() if name == "Plane")
    assert plane.mean() > 0.99
    np.testing.assert_allclose(seen.depth[plane], 4, rtol=1e-4)
    assert np.isfinite(seen.normal).all()


def test_a_matrix_that_is_no_number(route: str, scene: bpy.types.Scene) -> None:
    add_plane(scene, size=40)
    add_cube(scene).location = (float("nan"), 0, 0)
    add_camera(scene, location=(0, 0, 4)).rotation_euler = (0, 0, 0)
    np.testing.assert_allclose(render(scene).depth, 4, rtol=1e-4)


def test_inside_a_mesh_by_both_routes(route: str, scene: bpy.types.Scene) -> None:
    add_cube(scene).scale = (5, 5, 5)
    add_camera(scene, location=(0, 0, 4)).rotation_euler = (0, 0, 0)
    seen = render(scene)
    np.testing.assert_allclose(seen.depth, 9, rtol=1e-4)
    assert (seen.normal[..., 2] > 0.99).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (8192, 1)])
def test_odd_sizes(size: tuple[int, int], route: str, scene: bpy.types.Scene) -> None:
    add_plane(scene, size=1e5)
    add_camera(scene, location=(0, 0, 4)).rotation_euler = (0, 0, 0)
    scene.camera.data.clip_end = 1e6
    seen = passes.render(scene, camera_of(scene, size))
    assert seen.depth.shape == (size[1], size[0])
    np.testing.assert_allclose(seen.depth, 4, rtol=1e-3)


def test_16k_is_refused_before_memory_is_taken(scene: bpy.types.Scene) -> None:
    add_plane(scene, size=40)
    add_camera(scene)
    for size in (16384, 16384), (16384, 1), (8192, 8192):
        huge = camera_of(scene, size)
        with pytest.raises(BadSize, match=rf"{size[0]} × {size[1]} .* at most 8,192 pixels on a side and 33,554,432"):
            passes.render(scene, huge)
        with Live(scene) as live, pytest.raises(BadSize, match="8,192"):
            live.frame(huge)


def test_no_camera_is_said(scene: bpy.types.Scene) -> None:
    for camera in (None, add_cube(scene)):
        scene.camera = camera
        with pytest.raises(NoCamera, match="has no camera"):
            cameras.from_scene(scene, 64)


@pytest.mark.parametrize("what", ["grease pencil", "grease pencil and hair"])
def test_grease_pencil_is_named(what: str, scene: bpy.types.Scene) -> None:
    """No route draws it, and whoever asked for passes is told, by the names of the objects."""
    add_plane(scene, size=40)
    add_camera(scene)
    blocks = getattr(bpy.data, "grease_pencils_v3", bpy.data.grease_pencils)
    for name in ("Ink", "Sketch", "Hidden"):
        drawing = bpy.data.objects.new(name, blocks.new(name))
        drawing.hide_render = name == "Hidden"
        scene.collection.objects.link(drawing)
    if "hair" in what:
        scene.collection.objects.link(bpy.data.objects.new("Hair", bpy.data.hair_curves.new("Hair")))
    said: list[str] = []
    passes.render(scene, camera_of(scene), say=said.append)
    assert said[-1] == "Grease pencil is in no pass: 'Ink', 'Sketch'"
    assert len(said) == 1 + ("hair" in what), said
    with Live(scene) as live:
        assert {"Ink", "Sketch"} <= set(live.frame(camera_of(scene)).left_out)


def test_an_object_goes_between_two_frames_of_an_export(scene: bpy.types.Scene) -> None:
    """Handlers may delete what the frame before still showed."""
    add_plane(scene, size=40)
    cube = add_cube(scene, (0, 0, 1)).name
    add_camera(scene, location=(0, 0, 4)).rotation_euler = (0, 0, 0)

    def delete(scene: bpy.types.Scene, *_: object) -> None:
        if scene.frame_current == 2 and cube in bpy.data.objects:
            bpy.data.objects.remove(bpy.data.objects[cube])

    bpy.app.handlers.frame_change_post.append(delete)
    try:
        with Live(scene) as live:
            assert live.frame(camera_of(scene)).depth.min() == pytest.approx(2)
            assert "Cube" in render(scene).names.values()
            scene.frame_set(2)
            np.testing.assert_allclose(live.frame(camera_of(scene)).depth, 4, rtol=1e-6)
            assert set(render(scene).names.values()) == {"Plane"}
    finally:
        bpy.app.handlers.frame_change_post.remove(delete)
