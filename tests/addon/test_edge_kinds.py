"""Edges of every kind: only where they are asked for, and by both routes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import bpy
import numpy as np
import pytest

from paintover.bridge.parameters import EdgeStyle
from paintover.passes import gpu_route

from .looking import NO_LINES, ROUTES, edges, length, only
from .scenes import add_cube, add_plane, add_sphere, select


@pytest.mark.parametrize("route", ROUTES)
def test_no_kinds_no_lines(route: Any, above: Any, scene: bpy.types.Scene) -> None:
    ob = add_cube(scene)
    ob.rotation_euler = (0.4, 0.5, 0.6)
    assert not edges(scene, NO_LINES, route=route).any()
    assert edges(scene, route=route).any()


@pytest.mark.parametrize("route", ROUTES)
def test_kinds_of_a_cube(route: Any, above: Any, scene: bpy.types.Scene) -> None:
    add_cube(scene).rotation_euler = (0.4, 0.5, 0.6)
    outline, crease = (edges(scene, only(kind), 128, route) for kind in ("silhouette", "crease"))
    both = edges(scene, EdgeStyle(), 128, route)
    assert outline[56:72, 56:72].max() == 0 < outline.max()
    assert crease[48:80, 48:80].max() >= 128  # the three edges at the near corner
    assert 150 < length(outline) < length(both)
    assert not edges(scene, only("border", "mark", "intersection"), 128, route).any()


@pytest.mark.parametrize("route", ROUTES)
def test_crease_angle(route: Any, above: Any, scene: bpy.types.Scene) -> None:
    """Two faces at 60°."""
    mesh = bpy.data.meshes.new("Roof")
    mesh.from_pydata(
        [(x, y, z) for x, z in ((-1, 0), (0, 0.577), (1, 0)) for y in (-1, 1)], [], [(0, 1, 3, 2), (2, 3, 5, 4)]
    )
    scene.collection.objects.link(bpy.data.objects.new("Roof", mesh))
    for angle, seen in ((50.0, True), (70.0, False)):
        edge = edges(scene, only("crease", crease_angle=angle), route=route)
        assert bool(edge[20:44, 30:34].any()) == seen
    mesh.polygons.foreach_set("use_smooth", [True, True])
    mesh.update()
    assert not edges(scene, only("crease"), route=gpu_route).any()  # the shading passes over it


@pytest.mark.parametrize("route", ROUTES)
def test_smooth_surfaces_have_an_outline_only(route: Any, above: Any, scene: bpy.types.Scene) -> None:
    add_sphere(scene, fine=True)
    edge = edges(scene, size=128, route=route)
    distance = np.hypot(*(np.mgrid[:128, :128] - 63.5)) / 32
    assert edge[distance < 0.94].max() == 0
    assert length(edge) == pytest.approx(2 * np.pi * 32, rel=0.2)


@pytest.mark.parametrize("route", ROUTES)
def test_borders_of_materials(route: Any, above: Any, scene: bpy.types.Scene) -> None:
    bpy.ops.mesh.primitive_grid_add(x_subdivisions=2, y_subdivisions=1, size=3)
    grid = bpy.context.object
    for name in ("One", "Other"):
        grid.data.materials.append(bpy.data.materials.new(name))
    assert not edges(scene, only("border"), route=route).any()
    grid.data.polygons[1].material_index = 1
    edge = edges(scene, only("border"), route=route)
    assert (edge[32] >= 128).sum() == 1
    assert set(np.nonzero(edge >= 128)[1]) == {32} or set(np.nonzero(edge >= 128)[1]) == {31}
    grid.material_slots[1].material = bpy.data.materials["One"]
    assert not edges(scene, only("border"), route=route).any()


@pytest.mark.parametrize("route", ROUTES)
def test_borders_of_objects(route: Any, above: Any, scene: bpy.types.Scene) -> None:
    """An outline before another object is a border, one before the background is not."""
    add_plane(scene, size=1.03, location=(-1.2, 0, 1))
    add_plane(scene, size=2.03, location=(-1.5, 0, 0))
    edge = edges(scene, only("border"), 128, route)
    assert (edge[64] >= 128).any()
    assert not edge[:40].any()  # of the larger one, which has nothing behind it
    assert length(edge) == pytest.approx(4 * 33, rel=0.15)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("joined", [False, True])
def test_intersections(joined: bool, route: Any, above: Any, scene: bpy.types.Scene) -> None:
    """A plane that rises through another one."""
    one, two = add_plane(scene, size=3), add_plane(scene, size=2)
    two.rotation_euler.y = 0.7
    two.location.x = 0.02
    if joined:
        bpy.context.view_layer.update()
        select(one)
        two.select_set(True)
        bpy.ops.object.join()
    edge = edges(scene, only("intersection"), 128, route)
    assert (edge[40:90] >= 128).sum(1).tolist() == [1] * 50
    assert set(np.nonzero(edge[40:90] >= 128)[1]) == {64}
    assert length(edge) == pytest.approx(64, rel=0.1)


def test_freestyle_marks(above: Any, scene: bpy.types.Scene) -> None:
    bpy.ops.mesh.primitive_grid_add(x_subdivisions=2, y_subdivisions=2, size=3)
    mesh = bpy.context.object.data
    assert not edges(scene, only("mark")).any()
    inner = [edge.index for edge in mesh.edges if not any(mesh.vertices[v].co.x for v in edge.vertices)]
    assert len(inner) == 2
    if bpy.app.version < (5, 0, 0):
        for index in inner:
            mesh.edges[index].use_freestyle_mark = True
    else:
        marks = mesh.attributes.new("freestyle_edge", "BOOLEAN", "EDGE")
        for index in inner:
            marks.data[index].value = True
    mesh.update()
    edge = edges(scene, only("mark"))
    assert set(np.nonzero(edge >= 128)[1]) == {32}
    assert length(edge) == pytest.approx(48, abs=2)
    assert not edges(scene, replace(EdgeStyle(), mark=False))[20:40, 28:36].any()
