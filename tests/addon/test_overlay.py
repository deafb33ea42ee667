"""The overlay's pictures and its camera. What only a window has is in tests/window/test_overlay.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import bpy
import numpy as np
import pytest
from mathutils import Matrix

from paintover import cameras, overlay
from paintover.bridge.hints import depth_hint, make_hint
from paintover.bridge.parameters import EdgeStyle
from paintover.passes import pictures
from paintover.passes.live import Live

from .looking import camera_of, render
from .scenes import add_camera, add_cube, add_plane, add_sphere


def test_hints_are_those_of_jobs_and_exports(scene: bpy.types.Scene) -> None:
    add_sphere(scene)
    add_plane(scene, size=6, location=(0, 0, -1))
    add_camera(scene)
    seen = render(scene)
    with Live(scene) as live:
        frame = live.frame(seen.camera, edges=EdgeStyle())
    for what in ("depth", "normal", "edge"):
        found = overlay.picture(frame, what, None)
        assert (np.abs(found - make_hint(seen, what)).max(-1) < 2 / 255).mean() > 0.99, what
    limits = (3.0, 9.0)
    np.testing.assert_array_equal(overlay.picture(frame, "depth", limits), depth_hint(frame.depth, limits))
    np.testing.assert_array_equal(
        overlay.picture(frame, "object_id", None), pictures.of_passes(seen)["object_id"].astype(np.float32)
    )


@pytest.mark.parametrize("what", [choice[0] for choice in overlay.CHOICES])
def test_every_picture_is_one(what: str, scene: bpy.types.Scene) -> None:
    cube = add_cube(scene)
    add_camera(scene)
    with Live(scene, uv_layers={} if what == "uv" else None) as live:
        live.frame(camera_of(scene))
        cube.location.x = 0.1
        frame = live.frame(camera_of(scene), position=what == "position", edges=EdgeStyle())
    found = overlay.picture(frame, what, None)
    assert found.shape == (*frame.depth.shape, 3)
    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= 1
    assert len(np.unique(found[np.isfinite(frame.depth)], axis=0)) > 1 or what == "object_id"


def test_motion_colours(scene: bpy.types.Scene) -> None:
    motion = np.array([[(16.0, 0), (-16, 0), (0, 16), (0, 0), (8, 0), (np.inf, np.inf)]], np.float32)
    right, left, down, still, slower, behind = pictures.motion_colors(motion)[0]
    assert not still.any()
    assert not behind.any()
    np.testing.assert_allclose(slower, right / 2, atol=1e-6)
    assert np.abs(right - left).max() > 0.5 < np.abs(right - down).max()


def view(matrix: Matrix, projection: Any, distance: float) -> Any:
    return SimpleNamespace(view_matrix=matrix, window_matrix=projection, view_distance=distance)


def test_a_perspective_viewport_is_a_camera(scene: bpy.types.Scene) -> None:
    add_camera(scene)
    ours = camera_of(scene)
    found = cameras.from_view(view(Matrix(ours.view.tolist()), Matrix(ours.projection.tolist()), 5), 48, 32)
    np.testing.assert_allclose(found.view, ours.view, atol=1e-6)
    np.testing.assert_allclose(found.projection, ours.projection, atol=1e-6)


def test_an_orthographic_viewport_sees_behind_its_eye(scene: bpy.types.Scene) -> None:
    """It shows from −1000 to 1000 before its eye: a plane 3 behind it is as visible as a cube before it."""
    add_plane(scene, size=2, location=(0, 0, 3))
    projection = Matrix(((0.1, 0, 0, 0), (0, 0.15, 0, 0), (0, 0, -0.001, 0), (0, 0, 0, 1)))
    looking_down = view(Matrix.Identity(4), projection, 10)
    region = SimpleNamespace(width=48, height=32)
    camera, back = overlay._camera(looking_down, region)
    with Live(scene) as live:
        frame = live.frame(camera)
        assert frame.depth[16, 24] == pytest.approx(1000 - 3, rel=1e-6)
        assert back == pytest.approx(1000 - 10)
        hint = overlay.picture(frame, "depth", (5.0, 8.0), back)  # 7 before where the perspective eye would be
    expected = 0.2 + 0.8 * (1 / 7 - 1 / 8) / (1 / 5 - 1 / 8)
    np.testing.assert_allclose(hint[16, 24], expected, atol=3e-3)
    assert not hint[0, 0].any()


def test_large_viewports_are_drawn_smaller(scene: bpy.types.Scene) -> None:
    add_camera(scene)
    ours = camera_of(scene)
    looking = view(Matrix(ours.view.tolist()), Matrix(ours.projection.tolist()), 5)
    camera, _ = overlay._camera(looking, SimpleNamespace(width=5120, height=2880))
    assert (camera.width, camera.height) == (1024, 576)
    camera, _ = overlay._camera(looking, SimpleNamespace(width=300, height=200))
    assert (camera.width, camera.height) == (300, 200)


def test_registering_twice_leaves_nothing(scene: bpy.types.Scene) -> None:
    before = list(bpy.app.handlers.load_post)
    for _ in range(2):
        overlay.register()
        settings = bpy.context.window_manager.paintover_overlay
        settings.show = True  # in background there is nothing to draw on
        assert overlay._handler is None
        overlay.unregister()
    assert list(bpy.app.handlers.load_post) == before
    assert not hasattr(bpy.context.window_manager, "paintover_overlay")
