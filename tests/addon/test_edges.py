"""Edges: in the true place, of even width, of the kinds that are asked for, and hidden where something is in front."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import bpy
import numpy as np
import pytest
from mathutils import Matrix, Vector

from benchmarks import passes_edges
from paintover import cameras
from paintover.bridge.parameters import EdgeStyle
from paintover.passes import cycles, draw, gpu_route
from paintover.passes.live import Live

from .scenes import KINDS, add_camera, add_cube, add_plane, add_sphere, instancer

NONE = EdgeStyle(silhouette=False, crease=False, border=False, mark=False, intersection=False)
ROUTES = (gpu_route, cycles)


def edges(scene: bpy.types.Scene, style: EdgeStyle | None = None, size: int = 64, route: Any = gpu_route) -> np.ndarray:
    camera = cameras.from_object(scene, scene.camera, size, size)
    edge: np.ndarray = route.render(scene, [camera], edges=style)[0].edge
    return edge


def length(edge: np.ndarray) -> float:
    """Pixels of lines, a pixel half covered counted half."""
    return float(edge.sum() / 255)


def only(*kinds: str, **others: Any) -> EdgeStyle:
    return replace(NONE, **dict.fromkeys(kinds, True), **others)


@pytest.fixture
def above(scene: bpy.types.Scene) -> bpy.types.Object:
    """An orthographic camera that sees 4 by 4 from above."""
    camera = add_camera(scene, "ortho", location=(0, 0, 9))
    camera.data.ortho_scale, camera.rotation_euler = 4, (0, 0, 0)
    scene.render.resolution_x = scene.render.resolution_y = 64
    return camera


def select(ob: bpy.types.Object) -> None:
    bpy.ops.object.select_all(action="DESELECT")
    ob.select_set(True)
    bpy.context.view_layer.objects.active = ob


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


# ------------------------------------------------------------ kinds


@pytest.mark.parametrize("route", ROUTES)
def test_no_kinds_no_lines(route: Any, above: Any, scene: bpy.types.Scene) -> None:
    ob = add_cube(scene)
    ob.rotation_euler = (0.4, 0.5, 0.6)
    assert not edges(scene, NONE, route=route).any()
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


# ------------------------------------------------------------ what hides them


def test_hidden_lines(above: Any, scene: bpy.types.Scene) -> None:
    cube = add_cube(scene)
    cube.rotation_euler = (0.4, 0.5, 0.6)
    alone = edges(scene)
    cover = add_plane(scene, size=3, location=(0, 0, 3))
    covered = edges(scene)
    assert alone[12:52, 12:52].any()
    assert not covered[12:52, 12:52].any()
    cover.location.z = -3
    assert (edges(scene)[12:52, 12:52] == alone[12:52, 12:52]).mean() > 0.98


def test_of_a_cube_seen_from_the_front_four_lines_are_seen(scene: bpy.types.Scene) -> None:
    """The farther four are hidden, although they run a little inside the outline."""
    add_cube(scene)
    add_camera(scene, location=(0, -5, 0))
    edge = edges(scene, size=128)
    rows, columns = np.nonzero(edge >= 128)
    assert np.ptp(rows) == np.ptp(columns)
    inside = edge[rows.min() + 2 : rows.max() - 1, columns.min() + 2 : columns.max() - 1]
    assert inside.size > 1000
    assert not inside.any()


def test_holdouts_hide_lines_and_cut_what_is_seen(above: Any, scene: bpy.types.Scene) -> None:
    add_plane(scene, size=2)
    add_cube(scene, (0, 0, -3)).scale = (0.5, 0.5, 0.5)
    cover = add_plane(scene, size=3, location=(1.02, 0, 3))
    cover.is_holdout = True
    edge = edges(scene)
    assert not edge[:, 28:].any()  # lines behind it, and its own before the background
    assert (edge[20:44, 23:26] >= 128).any(1).all()  # where it cuts the plane
    cover.is_holdout = False
    assert edges(scene)[:, 28:].any()


def leaf(scene: bpy.types.Scene) -> bpy.types.Object:
    """A card with a picture of a disc as its alpha."""
    card = add_plane(scene, size=3)
    image = bpy.data.images.new("Leaf", 64, 64, alpha=True)
    y, x = np.mgrid[:64, :64] - 31.5
    pixels = np.ones((64, 64, 4), np.float32)
    pixels[..., 3] = np.hypot(x, y) < 20
    image.pixels.foreach_set(pixels.ravel())
    material = bpy.data.materials.new("Leaf")
    if bpy.app.version < (5, 0, 0):
        material.use_nodes = True
    tree = material.node_tree
    tree.nodes.clear()
    texture, shader = tree.nodes.new("ShaderNodeTexImage"), tree.nodes.new("ShaderNodeBsdfPrincipled")
    texture.image = image
    tree.links.new(texture.outputs["Alpha"], shader.inputs["Alpha"])
    tree.links.new(shader.outputs[0], tree.nodes.new("ShaderNodeOutputMaterial").inputs["Surface"])
    card.data.materials.append(material)
    return card


def test_outline_of_a_mask(above: Any, scene: bpy.types.Scene) -> None:
    leaf(scene)
    edge = edges(scene, size=128)
    radius = np.hypot(*(np.mgrid[:128, :128] - 63.5)) / (128 / 4)
    disc = 20 / 64 * 3
    line = edge >= 128
    assert line.sum() > 2 * np.pi * disc * 32 * 0.8
    assert np.abs(radius[line] - disc).max() < 0.1  # and the card's own border is not there


def test_culled_backs_have_no_lines(above: Any, scene: bpy.types.Scene) -> None:
    plane = add_plane(scene, size=2)
    material = bpy.data.materials.new("Front")
    material.use_backface_culling = True
    plane.data.materials.append(material)
    scene.render.engine = "BLENDER_EEVEE_NEXT" if bpy.app.version < (5, 0, 0) else "BLENDER_EEVEE"
    assert edges(scene).any()
    plane.rotation_euler.x = np.pi
    assert not edges(scene).any()
    scene.render.engine = "CYCLES"
    assert edges(scene).any()


# ------------------------------------------------------------ meshes of every sort


def test_instances_are_drawn_like_real_ones(scene: bpy.types.Scene) -> None:
    cube = add_cube(scene)
    cube.scale = (0.3, 0.3, 0.3)
    cube.modifiers.new("Instances", "NODES").node_group = instancer()
    add_camera(scene, location=(4, -5, 2))
    instanced = edges(scene, size=96)
    bpy.ops.object.duplicates_make_real()
    real = [ob for ob in scene.objects if ob.type == "MESH"]
    assert len(real) > 1
    for ob in real:
        ob.modifiers.clear()
    cube.hide_render = len(real) == 4
    assert length(instanced) > 60
    assert (instanced == edges(scene, size=96)).mean() > 0.99


@pytest.mark.parametrize("scale", [(1, 1, 1), (-1, 1, 1), (2, 0.5, -1)])
def test_mirrored_objects(scale: tuple[float, float, float], above: Any, scene: bpy.types.Scene) -> None:
    ball = add_sphere(scene, fine=True)
    ball.scale = scale
    edge = edges(scene, size=128)
    y, x = np.mgrid[:128, :128] - 63.5
    distance = np.hypot(x / scale[0], y / scale[1]) / 32
    assert edge[distance < 0.9].max() == 0
    assert edge[distance > 1.1].max() == 0
    assert (edge >= 128).sum() > 150


def test_split_meshes_have_no_seams(above: Any, scene: bpy.types.Scene) -> None:
    ball = add_sphere(scene, fine=True)
    select(ball)
    whole = edges(scene, size=128)
    bpy.ops.object.mode_set(mode="EDIT")
    bpy.ops.mesh.select_all(action="SELECT")
    bpy.ops.mesh.edge_split(type="EDGE")
    bpy.ops.object.mode_set(mode="OBJECT")
    ball.data.normals_split_custom_set_from_vertices([v.co.normalized() for v in ball.data.vertices])
    split = edges(scene, size=128)
    assert len(ball.data.vertices) > 10_000
    assert np.abs(whole.astype(int) - split).max() < 40


def test_edited_meshes_get_new_lines(above: Any, scene: bpy.types.Scene) -> None:
    plane = add_plane(scene, size=2)
    with Live(scene) as live:

        def look(style: EdgeStyle) -> np.ndarray:
            edge = live.frame(cameras.from_object(scene, scene.camera, 64, 64), edges=style).edge
            assert edge is not None
            return edge

        first = look(EdgeStyle())
        assert not look(NONE).any()
        assert (look(EdgeStyle()) == first).all()
        assert first[16].any()
        for vertex in plane.data.vertices:
            vertex.co.xy = vertex.co.xy * 0.5
        plane.data.update()
        second = look(EdgeStyle())
        assert length(second) == pytest.approx(length(first) / 2, rel=0.1)
        assert not second[:20].any()


def test_broken_and_empty(above: Any, scene: bpy.types.Scene) -> None:
    assert not edges(scene).any()
    plane = add_plane(scene, size=2)
    plane.data.vertices[1].co.x = float("nan")
    plane.data.update()
    assert length(edges(scene)) > 60  # of the triangle that is left
    for vertex in plane.data.vertices:
        vertex.co = (0, 0, 0)
    plane.data.update()
    edges(scene)
    plane.data.vertices[1].co.x = plane.data.vertices[2].co.x = float("nan")
    plane.data.update()
    assert not edges(scene).any()
    plane.scale = (0, 0, 0)
    edges(scene)


def test_far_from_the_origin(scene: bpy.types.Scene) -> None:
    camera = add_camera(scene)
    cube = add_cube(scene)
    here = edges(scene, size=128)
    offset = Vector((10_000, -5_000, 300))
    cube.location += offset
    camera.matrix_world = Matrix.Translation(offset) @ camera.matrix_world
    bpy.context.view_layer.update()
    there = edges(scene, size=128)
    assert (np.abs(here.astype(int) - there) < 64).mean() > 0.99
