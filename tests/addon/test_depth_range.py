"""The depth hint's range: each image's own, or one for the shot, in which nothing pumps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest

from paintover import cameras, operators, passes, properties
from paintover.bridge.errors import BadParameter
from paintover.bridge.hints import make_hint
from paintover.operators.export_passes import export

from .scenes import add_camera, add_plane, add_sphere

FRAMES = 4


@pytest.fixture
def shot(scene: bpy.types.Scene) -> Iterator[Any]:
    """A slanting wall, and a ball that passes right before the camera in the third frame. Gives the settings."""
    properties.register()
    operators.register()
    add_plane(scene, size=60).rotation_euler = (0.9, 0, 0)
    add_camera(scene, location=(0, 0, 9)).rotation_euler = (0, 0, 0)
    ball = add_sphere(scene)
    for frame, x in enumerate((-30, -30, 0.6, 30), 1):
        ball.location = (x, 0, 7)
        ball.keyframe_insert("location", frame=frame)
    scene.frame_start, scene.frame_end = 1, FRAMES
    scene.frame_set(2)
    yield scene.paintover
    operators.unregister()
    properties.unregister()


def hints(scene: bpy.types.Scene) -> list[np.ndarray]:
    """The depth hint of every frame, as a job's server and the export make it from the scene's settings."""
    found = []
    for frame in range(1, FRAMES + 1):
        scene.frame_set(frame)
        settings = properties.snapshot(scene)
        seen = passes.render(scene, cameras.from_scene(scene, 64))
        found.append(make_hint(seen, "depth", depth_limits=settings.depth_limits)[..., 0])
    return found


def test_a_fixed_range_does_not_pump(shot: Any, scene: bpy.types.Scene) -> None:
    corner = np.s_[:, 0]  # of the wall: the ball never covers it
    automatic = np.array([one[corner] for one in hints(scene)])
    assert np.ptp(automatic, axis=0).max() > 0.2, "the scene is such that it pumps"
    scene.frame_set(2)
    assert bpy.ops.paintover.fix_range() == {"FINISHED"}
    assert scene.frame_current == 2
    assert shot.depth_range == "fixed"
    found = hints(scene)
    fixed = np.array([one[corner] for one in found])
    assert (fixed == fixed[0]).all()
    assert np.ptp(fixed[0]) > 0.05, "the wall's own slope is still told"
    assert found[2].max() == 1, "the ball is nearer than all"
    assert found[0].max() < 0.7


def test_what_flies_past_for_a_moment_takes_no_contrast(shot: Any, scene: bpy.types.Scene) -> None:
    """In a shot of 300 frames one that is full of something right before the lens is an outlier."""
    from paintover.bridge.hints import ShotRange

    wall = np.tile(np.linspace(5, 9, 64), (64, 1))
    calm, with_a_bird = ShotRange(), ShotRange()
    for frame in range(300):
        calm.add(wall)
        with_a_bird.add(np.where(frame == 100, 0.1, wall))
    assert calm.limits() == pytest.approx((5, 9), rel=0.02)
    assert with_a_bird.limits() == pytest.approx(calm.limits(), rel=0.02)


def test_an_exact_wall_and_nothing_at_all(shot: Any, scene: bpy.types.Scene) -> None:
    bpy.data.objects["Plane"].rotation_euler = (0, 0, 0)
    bpy.data.objects["Sphere"].hide_render = True
    bpy.ops.paintover.fix_range()
    assert shot.depth_near == pytest.approx(9, rel=0.01)
    assert shot.depth_near < shot.depth_far
    assert (hints(scene)[0] == 1).all()
    bpy.data.objects["Plane"].hide_render = True
    near = shot.depth_near
    with pytest.raises(RuntimeError, match="sees nothing in any frame"):
        bpy.ops.paintover.fix_range()
    assert shot.depth_near == near


def test_it_can_be_undone(shot: Any, scene: bpy.types.Scene) -> None:
    bpy.ops.ed.undo_push(message="Before")
    bpy.ops.paintover.fix_range("EXEC_DEFAULT", True)
    assert bpy.context.scene.paintover.depth_range == "fixed"
    bpy.ops.ed.undo()
    assert bpy.context.scene.paintover.depth_range == "automatic"


def test_why_it_is_greyed_out(shot: Any, scene: bpy.types.Scene) -> None:
    scene.camera = None
    with pytest.raises(RuntimeError, match="no camera"):
        bpy.ops.paintover.fix_range()


def test_by_hand_and_the_wrong_way_round(shot: Any, scene: bpy.types.Scene) -> None:
    shot.depth_range, shot.depth_near, shot.depth_far = "fixed", 9, 5
    with pytest.raises(BadParameter, match="nearer"):
        properties.snapshot(scene)
    shot.depth_near = 2
    assert properties.snapshot(scene).depth_limits == (2, 5)
    shot.depth_range = "automatic"
    assert properties.snapshot(scene).depth_limits is None


def test_the_export_takes_the_same_range(shot: Any, scene: bpy.types.Scene, tmp_path: Path) -> None:
    def saved(folder: Path) -> np.ndarray:
        image = bpy.data.images.load(str(folder / "depth.png"))
        image.colorspace_settings.name = "Non-Color"
        return np.array(image.pixels).reshape(image.size[1], image.size[0], 4)[::-1, :, 0]

    shot.depth_range, shot.depth_near, shot.depth_far = "fixed", 4, 12
    shot.size = 64
    bpy.ops.paintover.export_passes(directory=str(tmp_path / "fixed"))
    seen = passes.render(scene, cameras.from_scene(scene, 64))
    np.testing.assert_allclose(
        saved(tmp_path / "fixed"), make_hint(seen, "depth", depth_limits=(4, 12))[..., 0], atol=2e-3
    )
    export(seen, tmp_path / "own")
    assert np.abs(saved(tmp_path / "own") - saved(tmp_path / "fixed")).max() > 0.05


def test_contrast_before_a_floor_that_never_ends(scene: bpy.types.Scene) -> None:
    """A floor up to the horizon leaves a ball some grey levels (the distances themselves would leave it none), and all
    of them once near and far are set around the ball."""
    add_sphere(scene)
    add_plane(scene, size=4000, location=(0, 0, -1))
    camera = add_camera(scene, location=(0, -6, 0.6))
    camera.data.clip_end = 1e5
    scene.render.resolution_x, scene.render.resolution_y = 128, 88  # a row lies just below the horizon
    seen = passes.render(scene, cameras.from_scene(scene, 128))
    ball = seen.object_id == next(int(number) for number, name in seen.names.items() if name == "Sphere")
    assert seen.depth[np.isfinite(seen.depth)].max() > 500
    assert np.ptp(make_hint(seen, "depth")[..., 0][ball]) > 25 / 255
    assert np.ptp(make_hint(seen, "depth", depth_limits=(5, 6))[..., 0][ball]) > 0.6
    linear = np.ptp(seen.depth[ball]) / np.ptp(seen.depth[np.isfinite(seen.depth)])
    assert linear < 0.005
