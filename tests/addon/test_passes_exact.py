"""The graphics card's route is exact in every scene of the benchmark, and in closed forms."""

from __future__ import annotations

import bpy
import numpy as np
import pytest
from mathutils import Vector

from benchmarks import passes_accuracy, passes_scenes
from paintover.passes import draw, gpu_context, ids, readback
from paintover.passes.instances import Reader
from paintover.passes.live import Live

from .looking import camera_of, look
from .scenes import add_camera, add_cube, add_plane, add_sphere, instancer

BARS = {
    "hit_mismatch": 0.001,
    "id_mismatch": 0.001,
    "depth_rel_median": 1e-6,
    "depth_rel_p99": 1e-4,
    "normal_deg_median": 0.05,
    "normal_deg_p99": 1.0,
    "flat_normal_deg_p99": 1.0,
    "motion_px_median": 0.01,
    "motion_px_p99": 0.1,
}


@pytest.mark.parametrize("name", passes_scenes.SCENES)
def test_exact(name: str) -> None:
    seen = passes_accuracy.look(name, 150)
    errors = passes_accuracy.compare(seen)
    assert errors.pixels > 60
    assert len(errors.motion) > 40
    assert seen.frame.motion.any()
    for figure, value in errors.bars().items():
        assert value <= BARS[figure], figure


def test_sphere_in_closed_form(scene: bpy.types.Scene) -> None:
    """Depth, normal, position and motion of a ball that moves, from its equation."""
    bpy.ops.mesh.primitive_uv_sphere_add(segments=512, ring_count=256)
    ball = bpy.context.object
    bpy.ops.object.shade_smooth()
    add_camera(scene, "shift")
    with Live(scene) as live:
        live.frame(camera_of(scene))
        ball.location.x = 0.3
        frame = live.frame(camera_of(scene), position=True)
    hit = np.isfinite(frame.depth)
    assert hit.sum() > 100
    assert frame.position is not None
    origins, directions = frame.camera.rays()
    center = frame.camera.view @ (0.3, 0, 0, 1)
    way, start = directions[hit], origins[hit] - center[:3]
    a, b, c = (way**2).sum(1), (way * start).sum(1), (start**2).sum(1) - 1
    inside = b * b > a * c * 1.02
    depth = (-b - np.sqrt(np.maximum(b * b - a * c, 0))) / a
    np.testing.assert_allclose(frame.depth[hit][inside], depth[inside], rtol=1e-4)
    point = start + depth[:, None] * way
    normal = np.linalg.norm(frame.normal[hit] - point, axis=1)[inside]
    assert np.degrees(np.percentile(normal, [50, 99])) == pytest.approx([0, 0], abs=0.5)
    world = frame.camera.unproject(frame.depth)[hit]
    np.testing.assert_allclose(frame.position[hit], world, atol=2e-6)
    then, _ = frame.camera.project(world - (0.3, 0, 0))
    here = np.stack(np.nonzero(hit)[::-1], 1) + 0.5
    np.testing.assert_allclose(frame.motion[hit], then - here, atol=1e-3)
    assert np.isnan(frame.position[~hit]).all()
    assert not frame.motion[~hit].any()


def test_motion_points_to_where_it_was(drawn: Live, scene: bpy.types.Scene) -> None:
    """x right, y down, from now to then."""
    plane = add_plane(scene, size=40)
    look(drawn)
    plane.location.x += 0.1  # moves right, so it was further left
    assert (look(drawn).motion[..., 0] < -0.5).all()
    scene.camera.location.y += 0.1  # the camera moves up: what it sees was further up in its image
    frame = look(drawn)
    assert (frame.motion[..., 1] < -0.5).all()
    np.testing.assert_allclose(frame.motion[..., 0], 0, atol=1e-4)
    assert not look(drawn).motion.any()


def test_uvs_are_those_of_the_layer(scene: bpy.types.Scene) -> None:
    plane = add_plane(scene, size=2)
    second = plane.data.uv_layers.new(name="Second")
    for loop in second.uv:
        loop.vector = loop.vector * 0.5
    camera = add_camera(scene, "ortho", location=(0, 0, 4))
    camera.data.ortho_scale, camera.rotation_euler = 2, (0, 0, 0)
    scene.render.pixel_aspect_x = 1
    for layers, scale in (({}, 1.0), ({"Plane": "Second"}, 0.5)):
        with Live(scene, uv_layers=layers) as live:
            uv = live.frame(camera_of(scene, (16, 16))).uv
        assert uv is not None
        column = (np.arange(16) + 0.5) / 16
        np.testing.assert_allclose(uv[..., 0], np.tile(column, (16, 1)) * scale, atol=1e-5)
        np.testing.assert_allclose(uv[..., 1], np.tile(1 - column[:, None], (1, 16)) * scale, atol=1e-5)


@pytest.mark.skipif(bpy.app.version < (4, 5, 0), reason="new in 4.5")
@pytest.mark.parametrize("domain", ["POINT", "FACE", "CORNER"])
def test_free_custom_normals(domain: str, drawn: Live, scene: bpy.types.Scene) -> None:
    mesh = add_plane(scene, size=40).data
    attribute = mesh.attributes.new("custom_normal", "FLOAT_VECTOR", domain)
    attribute.data.foreach_set("vector", np.tile(np.array((0.6, 0, 0.8), np.float32), len(attribute.data)))
    mesh.update()
    np.testing.assert_allclose(look(drawn).normal[16, 24], (0.6, 0, 0.8), atol=1e-3)


def test_tiles_join(drawn: Live, scene: bpy.types.Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    add_sphere(scene)
    before = camera_of(scene)
    scene.camera.location.x += 0.1
    after = camera_of(scene)
    drawn.frame(before)
    one = drawn.frame(after)
    monkeypatch.setattr(draw, "TILE", 20)
    drawn.frame(before)
    other = drawn.frame(after)
    assert np.isfinite(one.depth).any()
    same = one.object_id == other.object_id
    assert same.mean() > 0.995  # a pixel on the very outline may fall to either side
    for what, tolerance in (("depth", 1e-5), ("normal", 1e-4), ("motion", 1e-3)):
        close = np.isclose(getattr(one, what)[same], getattr(other, what)[same], rtol=0, atol=tolerance)
        assert close.mean() > 0.995, what
    assert one.motion.any()


def test_readback_is_the_array_itself() -> None:
    gpu_context.ensure()
    targets = readback.Targets(4, 2, 1)
    image = np.zeros((2, 4, 4), np.float32)
    with targets.bound([(1, 2, 3, np.inf)]):
        pass
    targets.read(0, image)
    assert (image == (1, 2, 3, np.inf)).all()


def test_nowhere_before(drawn: Live, scene: bpy.types.Scene) -> None:
    """What was behind the camera was at no pixel."""
    plane = add_plane(scene, size=40, location=(0, 0, 5))
    look(drawn)
    plane.location.z = 0
    assert np.isinf(look(drawn).motion).all()


def test_large_triangles_next_to_the_camera(scene: bpy.types.Scene) -> None:
    """A floor that goes on behind the camera: clipped where it passes the near end."""
    add_plane(scene, size=20000, location=(0, 0, -1))
    camera = add_camera(scene, location=(0, 0, 0.5))
    camera.rotation_euler = (np.pi / 2, 0, 0)
    camera.data.clip_end = 1e6
    with Live(scene) as drawn:
        depth = look(drawn).depth
    _, directions = camera_of(scene).rays()
    below = directions[..., 1] < -1e-3
    np.testing.assert_allclose(depth[below], (-1.5 / directions[..., 1])[below], rtol=1e-4)
    assert np.isinf(depth[:15]).all()


def test_reader_counts_every_instance(scene: bpy.types.Scene) -> None:
    cube = add_cube(scene)
    cube.modifiers.new("Instances", "NODES").node_group = instancer()
    for _ in range(2):
        copy = bpy.data.objects.new("Copy", cube.data)
        copy.location = Vector((4, 0, 0))
        scene.collection.objects.link(copy)
    stage = Reader(for_render=False).read(bpy.context.evaluated_depsgraph_get(), ids.object_ids())
    assert len(stage.matrices) == 5
    assert sorted(len(group.rows) for group in stage.groups) == [2, 3]
    assert len({key.tobytes() for key in stage.keys}) == 5
