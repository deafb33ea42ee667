"""Passes against Blender's own ray casts and against closed forms, by both routes."""

from __future__ import annotations

import bpy
import numpy as np
import pytest

from paintover import cameras, passes
from paintover.bridge.errors import RenderFailed, SceneError
from paintover.passes import cycles, ids, offstage

from .looking import cast, render
from .scenes import KINDS, add_camera, add_cube, add_plane, add_sphere, glow, instancer

pytestmark = pytest.mark.usefixtures("route")


@pytest.mark.parametrize("kind", KINDS)
def test_depth_and_ids_are_what_rays_hit(kind: str, scene: bpy.types.Scene) -> None:
    add_sphere(scene)
    add_plane(scene, size=6, location=(0, 0, -1))
    add_camera(scene, kind)
    seen = render(scene)
    depth, name, _ = cast(scene, seen.camera)
    hit = np.isfinite(seen.depth) & np.isfinite(depth)
    assert (np.isfinite(seen.depth) == np.isfinite(depth)).mean() > 0.995
    error = np.abs(seen.depth[hit] - depth[hit]) / depth[hit]
    assert np.median(error) < 1e-4
    assert (error < 5e-3).mean() > 0.995
    names = np.vectorize(lambda number: seen.names.get(str(number), ""))(seen.object_id)
    assert (names == name).mean() > 0.99
    assert set(seen.names.values()) == {"Sphere", "Plane"}


@pytest.mark.parametrize("kind", ["plain", "ortho", "parented"])
def test_normals_of_a_sphere(kind: str, scene: bpy.types.Scene) -> None:
    add_sphere(scene, fine=True)
    camera = add_camera(scene, kind)
    seen = render(scene)
    hit = np.isfinite(seen.depth)
    world = seen.camera.unproject(seen.depth)[hit]
    world /= np.linalg.norm(world, axis=1, keepdims=True)
    rotation = np.array(camera.matrix_world.normalized().to_3x3())
    expected = world @ rotation  # world to camera space
    agreement = (seen.normal[hit].astype(np.float64) * expected).sum(1)
    assert np.median(agreement) > 0.9995
    assert (agreement > 0.98).mean() > 0.98
    assert (seen.normal[~hit] == 0).all()
    assert seen.normal.dtype == np.float16


def test_normals_point_right_up_and_to_the_camera(scene: bpy.types.Scene) -> None:
    add_sphere(scene, fine=True)
    add_camera(scene, location=(0, -5, 0))
    scene.render.resolution_x = scene.render.resolution_y = 64
    normal = render(scene).normal.astype(float)
    assert normal[32, 32, 2] > 0.99
    assert normal[32, 44, 0] > 0.4
    assert normal[20, 32, 1] > 0.4


def test_back_of_a_plane_faces_the_camera(scene: bpy.types.Scene) -> None:
    add_plane(scene, size=40)
    add_camera(scene, location=(0, -1, -4))
    assert (render(scene).normal[..., 2] > 0.5).all()


def test_emission_material_has_normals_too(scene: bpy.types.Scene) -> None:
    ob = add_plane(scene, size=40)
    ob.data.materials.append(glow())
    add_camera(scene, location=(0, 0, 4))
    assert (render(scene).normal[..., 2] > 0.99).all()


@pytest.mark.parametrize(("sign", "row"), [((-1, 1, 1), 0), ((1, 2, 0.5), 1)])
def test_normals_under_odd_scales(sign: tuple[float, float, float], row: int, scene: bpy.types.Scene) -> None:
    add_sphere(scene, fine=True).scale = sign
    add_camera(scene)
    bpy.context.view_layer.update()
    seen = render(scene)
    hit = np.isfinite(seen.depth)
    world = seen.camera.unproject(seen.depth)[hit] / np.square(sign)
    world /= np.linalg.norm(world, axis=1, keepdims=True)
    expected = world @ seen.camera.view[:3, :3].T
    assert np.median((seen.normal[hit].astype(float) * expected).sum(1)) > 0.999


def test_sheared_camera(scene: bpy.types.Scene) -> None:
    """A camera that turns under a parent with different scales on its axes is sheared, in Blender as here."""
    add_sphere(scene)
    camera = add_camera(scene)
    parent = bpy.data.objects.new("Parent", None)
    scene.collection.objects.link(parent)
    parent.scale = (1.0, 1.3, 1.0)
    camera.parent = parent
    bpy.context.view_layer.update()
    seen = render(scene)
    depth, _, _ = cast(scene, seen.camera)
    both = np.isfinite(depth) & np.isfinite(seen.depth)
    assert both.sum() > 50
    assert (np.isfinite(depth) == np.isfinite(seen.depth)).mean() > 0.99
    assert np.median(np.abs(depth[both] - seen.depth[both])) < 1e-3


@pytest.mark.parametrize("kind", ["plain", "ortho"])
def test_samples_are_at_pixel_centres(kind: str, scene: bpy.types.Scene) -> None:
    plane = add_plane(scene, size=400)
    plane.rotation_euler.x = 1.0
    add_camera(scene, kind)
    seen = render(scene)
    normal = np.array(plane.rotation_euler.to_matrix().col[2])
    off_plane = np.abs(seen.camera.unproject(seen.depth) @ normal)
    pixel = 2 / seen.camera.projection[0, 0] / seen.camera.width * (1 if kind == "ortho" else seen.depth)
    assert (off_plane < 0.02 * pixel).all()


def test_marker_does_not_switch_the_camera(scene: bpy.types.Scene) -> None:
    add_plane(scene, size=40)
    away = add_camera(scene, location=(0, 0, 9))
    add_camera(scene, location=(0, 0, 4))
    here = scene.camera
    scene.timeline_markers.new("Cut", frame=1).camera = away
    scene.camera = here
    np.testing.assert_allclose(render(scene).depth, 4.0, rtol=1e-4)


@pytest.mark.parametrize("kind", ["plain", "ortho"])
def test_clipping(kind: str, scene: bpy.types.Scene) -> None:
    add_plane(scene, size=40)
    camera = add_camera(scene, kind, location=(0, 0, 4))
    camera.data.clip_end = 3.0
    assert np.isinf(render(scene).depth).all()
    camera.data.clip_end = 5.0
    np.testing.assert_allclose(render(scene).depth, 4.0, rtol=1e-4)
    camera.data.clip_start = 4.5
    assert np.isinf(render(scene).depth).all()


@pytest.mark.parametrize("kind", [*KINDS, "very wide"])
def test_temporary_camera_is_the_same(kind: str, scene: bpy.types.Scene) -> None:
    camera = add_camera(scene, kind)
    if kind == "very wide":
        camera.data.sensor_width, camera.data.lens = 100.0, 1.5
    ours = cameras.from_scene(scene, 48)
    with offstage.offstage(scene, None, with_cycles=False) as stage:
        stage.aim(ours)
        again = cameras.from_object(stage.scene, stage.scene.camera, ours.width, ours.height)
    np.testing.assert_allclose(again.projection, ours.projection, atol=2e-4, rtol=1e-4)
    np.testing.assert_allclose(again.view, ours.view, atol=1e-5)


def test_instances_have_their_objects_id(scene: bpy.types.Scene) -> None:
    cube = add_cube(scene)
    cube.scale = (0.3, 0.3, 0.3)
    cube.modifiers.new("Instances", "NODES").node_group = instancer()
    hidden = bpy.data.collections.new("Hidden")
    ball = add_sphere(scene)
    for collection in ball.users_collection:
        collection.objects.unlink(ball)
    hidden.objects.link(ball)
    copy = bpy.data.objects.new("Copy", None)
    copy.instance_type, copy.instance_collection, copy.location = "COLLECTION", hidden, (2, 0, 0)
    scene.collection.objects.link(copy)
    add_camera(scene, "ortho", location=(0, 0, 9))
    scene.camera.data.ortho_scale, scene.camera.rotation_euler = 10, (0, 0, 0)
    scene.render.resolution_x = scene.render.resolution_y = 80
    seen = render(scene)
    assert set(seen.names.values()) == {"Cube", "Sphere"}
    number = ids.object_ids()
    rows, columns = np.nonzero(seen.object_id == number["Cube"])
    # The line's offset is scaled by 0.3 as well: three squares of 0.6 along y, 0.9 apart.
    assert np.ptp(columns) + 1 == pytest.approx(0.6 * 8, abs=1)
    assert np.ptp(rows) + 1 == pytest.approx((0.6 + 1.8) * 8, abs=1)
    assert (seen.object_id == number["Sphere"])[40, 56]


def test_frame_and_render_settings_count(scene: bpy.types.Scene) -> None:
    ob = add_plane(scene, size=40)
    ob.keyframe_insert("location", frame=1)
    ob.location.z = 2
    ob.keyframe_insert("location", frame=5)
    add_camera(scene, location=(0, 0, 4))
    scene.frame_set(5)
    np.testing.assert_allclose(render(scene).depth, 2, rtol=1e-4)
    ob.hide_render = True
    assert np.isinf(render(scene).depth).all()


def test_edit_mode_is_rendered_and_kept(scene: bpy.types.Scene) -> None:
    ob = add_plane(scene, size=40)
    add_camera(scene, location=(0, 0, 4))
    bpy.context.view_layer.objects.active = ob
    bpy.ops.object.mode_set(mode="EDIT")
    bpy.ops.transform.translate(value=(0, 0, 1))
    np.testing.assert_allclose(render(scene).depth, 3, rtol=1e-4)
    assert ob.mode == "EDIT"
    bpy.ops.object.mode_set(mode="OBJECT")


def test_color_is_what_blender_shows(scene: bpy.types.Scene) -> None:
    ob = add_plane(scene, size=3.0)
    ob.data.materials.append(glow((0.5, 0.0, 0.0)))
    add_camera(scene, "ortho", location=(0, 0, 4))
    scene.view_settings.view_transform = "Standard"
    scene.render.film_transparent = True
    color = render(scene, color=True).color
    assert color is not None
    np.testing.assert_allclose(color[16, 24], (188, 0, 0, 255), atol=6)  # 0.5 linear in sRGB, denoised
    assert color[0, 0, 3] == 0


def test_missing_pass_is_told(scene: bpy.types.Scene, by_cycles: None, monkeypatch: pytest.MonkeyPatch) -> None:
    add_plane(scene, size=40)
    add_camera(scene)
    monkeypatch.setitem(cycles.NAMES, "depth", ("Deepness",))
    with pytest.raises(RenderFailed, match="depth"):
        render(scene)


def test_unknown_view_layer(scene: bpy.types.Scene) -> None:
    add_camera(scene)
    with pytest.raises(SceneError, match="view layer"):
        render(scene, view_layer="Nowhere")


def test_several_views_at_once_equal_single_ones(scene: bpy.types.Scene) -> None:
    add_sphere(scene)
    add_camera(scene)
    one = cameras.from_object(scene, scene.camera, 48, 32)
    two = cameras.around(np.array([(-1.0, -1, -1), (1, 1, 1)]), 120, 30, 40)
    together = passes.render_views(scene, [one, two])
    for camera, seen in zip((one, two), together, strict=True):
        alone = passes.render(scene, camera)
        np.testing.assert_allclose(seen.depth, alone.depth, rtol=1e-4)
        assert (seen.object_id == alone.object_id).all()


def test_nothing_is_rendered_when_the_operator_gives_up(
    scene: bpy.types.Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_camera(scene)
    with offstage.offstage(scene, None, with_cycles=False) as stage:
        stage.scene.camera = None
        with pytest.raises(RenderFailed, match="camera"):
            stage.render(lambda *_: None)
