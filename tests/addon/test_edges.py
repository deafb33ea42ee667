"""Edges: in the true place, steady, and of even width."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np
import pytest

from benchmarks import passes_edges
from paintover import cameras
from paintover.bridge.parameters import EdgeStyle
from paintover.passes import draw
from paintover.passes.live import Live

from .looking import ROUTES, edges, length
from .scenes import KINDS, add_camera, add_cube, add_plane, add_sphere

# ------------------------------------------------------------ where they are


@pytest.mark.parametrize("name", passes_edges.solids())
def test_lines_of_analytic_solids(name: str, scene: bpy.types.Scene) -> None:
    solid = passes_edges.solids()[name]
    solid.build(scene)
    with Live(scene) as live:
        for camera in passes_edges.views(scene, 2):
            edge = live.frame(camera, edges=EdgeStyle()).edge
            precision, recall = passes_edges.compare(edge, passes_edges.true_points(solid, camera))
            assert precision >= 0.98
            assert recall >= 0.98
            assert passes_edges.compare(np.roll(edge, 3, 1), passes_edges.true_points(solid, camera))[0] < 0.9


def test_both_rims_of_a_cap_that_is_seen_nearly_from_the_side(scene: bpy.types.Scene) -> None:
    """It is a few pixels high, and each of them spans dozens of pixels of depth."""
    solid = passes_edges.solids()["cylinder"]
    solid.build(scene)
    *_, camera = passes_edges.views(scene, 8)
    with Live(scene) as live:
        edge = live.frame(camera, edges=EdgeStyle()).edge
    precision, recall = passes_edges.compare(edge, passes_edges.true_points(solid, camera))
    assert precision >= 0.99
    assert recall >= 0.99


def test_steady_while_things_turn(scene: bpy.types.Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes_edges, "FRAMES", 5)
    assert passes_edges.flicker().value <= 0.01
    still = np.zeros((64, 64), bool)
    still[20] = True
    motion = np.zeros((64, 64, 2), np.float32)
    frames = [(still.copy(), motion) for _ in range(5)]
    assert passes_edges.unsteady(frames) == (0, 3 * 64)
    frames[2][0][40, 10:20] = True  # for one frame
    assert passes_edges.unsteady(frames) == (10, 3 * 64 + 10)


@pytest.mark.parametrize("kind", KINDS)
def test_outlines_are_where_depth_ends(kind: str, scene: bpy.types.Scene) -> None:
    add_sphere(scene, fine=True)
    camera = add_camera(scene, kind)
    size = scene.render.resolution_x, scene.render.resolution_y
    with Live(scene) as live:
        frame = live.frame(cameras.from_object(scene, camera, *(4 * n for n in size)), edges=EdgeStyle())
    hit = np.isfinite(frame.depth)
    border = np.zeros(hit.shape, bool)
    border[:, 1:] |= hit[:, 1:] != hit[:, :-1]
    border[1:] |= hit[1:] != hit[:-1]
    assert border.sum() > 100

    def grown(what: np.ndarray) -> np.ndarray:
        return np.max([np.roll(what, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)], axis=0)

    assert frame.edge is not None
    line = frame.edge >= 128
    assert grown(line)[border].all()
    assert grown(border)[line].all()


def test_tiles_join_and_any_width_is_read(above: Any, scene: bpy.types.Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    add_cube(scene).rotation_euler = (0.3, 0.4, 0.5)
    whole = edges(scene, size=61)
    monkeypatch.setattr(draw, "TILE", 23)
    tiled = edges(scene, size=61)
    assert (np.abs(whole.astype(int) - tiled) < 8).mean() > 0.995
    assert length(whole) > 100


def test_long_lines_past_the_camera(scene: bpy.types.Scene) -> None:
    """A floor's border that runs from behind the camera is drawn like that of a floor of many pieces."""
    add_camera(scene, location=(0.5, -3, 1.0))
    pictures = []
    for cuts in (1, 200):
        bpy.ops.mesh.primitive_grid_add(x_subdivisions=cuts, y_subdivisions=cuts, size=12)
        pictures.append(edges(scene, size=128))
        bpy.data.objects.remove(bpy.context.object)
    assert length(pictures[0]) > 100
    assert np.abs(pictures[0].astype(int) - pictures[1]).mean() < 0.5


# ------------------------------------------------------------ width


@pytest.mark.parametrize("width", [1.0, 2.5, 6.0])
@pytest.mark.parametrize("turn", [0.0, 0.3, np.pi / 4])
def test_width_is_even(width: float, turn: float, above: Any, scene: bpy.types.Scene) -> None:
    """The lines' area is their length by their width, at any angle."""
    ob = add_plane(scene, size=2)
    ob.rotation_euler.z = turn
    size = 256
    side = size / 4 * 2
    edge = edges(scene, EdgeStyle(width=width), size)
    # Four sides; outer corners are round, inner ones overlap.
    corners = (np.pi / 4 - 1) * width**2
    assert length(edge) == pytest.approx(4 * side * width + corners, rel=0.02)
    assert edge.max() >= 127


@pytest.mark.parametrize("route", ROUTES)
def test_wider_lines_by_both_routes(route: Any, above: Any, scene: bpy.types.Scene) -> None:
    add_plane(scene, size=2.03)
    one, four = (length(edges(scene, EdgeStyle(width=width), 128, route)) for width in (1.0, 4.0))
    assert four == pytest.approx(4 * one, rel=0.15)
