"""Cameras: matrices against Blender's own projection, and automatic placement."""

from __future__ import annotations

import math
from collections.abc import Callable

import bpy
import numpy as np
import pytest
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Vector

from paintover import cameras, meshes
from paintover.bridge.errors import NoCamera, OutsideCameras, SceneError

from . import scenes
from .scenes import KINDS, add_camera, add_plane, add_sphere

POINTS = np.array([(0, 0, 0), (1, 0.5, 0.2), (-0.7, 0.4, -0.6), (0.3, -0.9, 1.1)])


@pytest.mark.parametrize("kind", KINDS)
def test_projection_is_blenders(kind: str, scene: bpy.types.Scene) -> None:
    camera = add_camera(scene, kind)
    ours = cameras.from_object(scene, camera, scene.render.resolution_x, scene.render.resolution_y)
    pixels, depth = ours.project(POINTS)
    size = np.array((ours.width, ours.height))
    for point, pixel, z in zip(POINTS, pixels, depth, strict=True):
        x, y, distance = world_to_camera_view(scene, camera, Vector(point))
        np.testing.assert_allclose(pixel, (x, 1 - y) * size, atol=0.01)
        assert z == pytest.approx(distance, abs=1e-4)
    assert ours.orthographic == (camera.data.type == "ORTHO")


@pytest.mark.parametrize("kind", KINDS)
def test_unproject_inverts_project(kind: str, scene: bpy.types.Scene) -> None:
    camera = add_camera(scene, kind)
    ours = cameras.from_object(scene, camera, 24, 16)
    world = ours.unproject(np.full((16, 24), 4.5, np.float32)).reshape(-1, 3)
    pixels, depth = ours.project(world)
    x, y = np.meshgrid(np.arange(24) + 0.5, np.arange(16) + 0.5)
    np.testing.assert_allclose(pixels, np.stack([x, y], -1).reshape(-1, 2), atol=1e-6)
    np.testing.assert_allclose(depth, 4.5, rtol=1e-9)


@pytest.mark.parametrize(
    ("resolution", "longer", "expected"),
    [((1920, 1080), 512, (512, 288)), ((1080, 1920), 512, (288, 512)), ((800, 800), 64, (64, 64))],
)
def test_view_size_keeps_proportions(
    resolution: tuple[int, int], longer: int, expected: tuple[int, int], scene: bpy.types.Scene
) -> None:
    scene.render.resolution_x, scene.render.resolution_y = resolution
    assert cameras.view_size(scene, longer) == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("resolution", [(1000, 618), (429, 1024)])
def test_a_picture_shows_all_that_the_render_does(
    kind: str, resolution: tuple[int, int], scene: bpy.types.Scene
) -> None:
    """Though its sides are multiples of 8."""
    camera = add_camera(scene, kind)
    render = scene.render
    render.resolution_x, render.resolution_y = resolution
    whole = camera.calc_matrix_camera(
        bpy.context.evaluated_depsgraph_get(),
        x=render.resolution_x,
        y=render.resolution_y,
        scale_x=render.pixel_aspect_x,
        scale_y=render.pixel_aspect_y,
    )
    ours = cameras.from_scene(scene, 256)
    assert ours.width * resolution[1] != ours.height * resolution[0], "the sides are rounded"
    np.testing.assert_allclose(ours.projection, np.array(whole), rtol=1e-5, atol=1e-6)


def test_an_image_of_other_proportions_keeps_the_renders_pixels(scene: bpy.types.Scene) -> None:
    add_camera(scene)
    scene.render.resolution_x, scene.render.resolution_y = 1920, 1080
    ours = cameras.from_object(scene, scene.camera, 512, 512)
    assert ours.projection[0, 0] == pytest.approx(ours.projection[1, 1])


def test_no_camera(scene: bpy.types.Scene) -> None:
    with pytest.raises(NoCamera):
        cameras.from_scene(scene, 64)


def test_panorama_is_refused(scene: bpy.types.Scene) -> None:
    camera = add_camera(scene, "plain")
    camera.data.type = "PANO"
    with pytest.raises(SceneError, match="pano"):
        cameras.from_scene(scene, 64)


def test_camera_of_no_size_is_refused(scene: bpy.types.Scene) -> None:
    camera = add_camera(scene, "plain")
    camera.scale.x = 0.0
    with pytest.raises(SceneError, match="scale"):
        cameras.from_scene(scene, 64)


def test_camera_that_is_nowhere_is_refused(scene: bpy.types.Scene) -> None:
    camera = add_camera(scene)
    camera.location.x = float("nan")
    with pytest.raises(SceneError, match="nowhere"):
        cameras.from_scene(scene, 64)


def test_frame_is_that_of_the_scene(scene: bpy.types.Scene) -> None:
    camera = add_camera(scene, "plain")
    camera.keyframe_insert("location", frame=1)
    camera.location.x += 3
    camera.keyframe_insert("location", frame=11)
    scene.frame_set(11)
    assert cameras.from_scene(scene, 64).position[0] == pytest.approx(camera.location.x)


# ------------------------------------------------------------ automatic


def automatic(scene: bpy.types.Scene, ob: bpy.types.Object, count: int = 8) -> list:
    return scenes.automatic(scene, meshes.collect(scene, [ob], {ob.name: "UVMap"}), count)


def test_automatic_cameras_surround_a_lone_object(scene: bpy.types.Scene) -> None:
    ob = add_sphere(scene, location=(5, 1, 2))
    found = automatic(scene, ob)
    assert len(found) == 8
    sides = np.array([camera.position for camera in found]) - (5, 1, 2)
    assert (sides.max(0) > 0.5).all()
    assert (sides.min(0) < -0.5).all()
    angles = np.unwrap([math.atan2(y, x) for x, y, _ in sides])
    assert (np.diff(angles) > -1e-6).all(), "neighbours in the list are neighbours in space"


def test_automatic_cameras_fill_their_frames(scene: bpy.types.Scene) -> None:
    ob = add_sphere(scene, location=(5, 1, 2))
    corners = np.array([ob.matrix_world @ v.co for v in ob.data.vertices])
    for camera in automatic(scene, ob, 4):
        pixels, depth = camera.project(corners)
        assert (depth > 0).all()
        assert pixels.min() >= 0
        assert pixels.max() <= 64
        assert np.ptp(pixels, axis=0).max() > 0.85 * 64


def test_no_automatic_camera_below_a_floor(scene: bpy.types.Scene) -> None:
    ob = add_sphere(scene)
    add_plane(scene, size=40, location=(0, 0, -1.01))
    assert all(camera.position[2] > -1 for camera in automatic(scene, ob))


def shut_in(scene: bpy.types.Scene) -> bpy.types.Object:
    bpy.ops.mesh.primitive_cube_add(size=2.5)
    return bpy.context.object


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        (lambda box: None, False),
        (lambda box: setattr(box, "hide_render", True), True),
        (lambda box: setattr(box, "display_type", "WIRE"), True),
    ],
    ids=["solid", "not rendered", "wire"],
)
def test_what_hides_an_object(change: Callable[[bpy.types.Object], None], seen: bool, scene: bpy.types.Scene) -> None:
    ob = add_sphere(scene)
    change(shut_in(scene))
    if seen:
        assert len(automatic(scene, ob)) == 8
    else:
        with pytest.raises(OutsideCameras, match="Sphere"):
            automatic(scene, ob)
