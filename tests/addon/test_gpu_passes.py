"""The graphics card's route: exact in every scene of the benchmark, never stale, and sound on broken input."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import bpy
import numpy as np
import pytest
from mathutils import Vector

from benchmarks import passes_accuracy, passes_scenes
from paintover import cameras, passes
from paintover.bridge.errors import NoGpu, SceneError
from paintover.passes import cycles, draw, gpu_context, gpu_route, ids, live, readback
from paintover.passes.changes import Changes
from paintover.passes.draw import Frame
from paintover.passes.instances import Reader
from paintover.passes.live import Live

from .scenes import add_camera, add_cube, add_plane, add_sphere, instancer

SIZE = 48, 32


def camera_of(scene: bpy.types.Scene, size: tuple[int, int] = SIZE) -> Any:
    return cameras.from_object(scene, scene.camera, *size)


@pytest.fixture
def drawn(scene: bpy.types.Scene) -> Iterator[Live]:
    """Live passes of the scene, with a camera that looks down from 4 above the origin."""
    add_camera(scene, location=(0, 0, 4)).rotation_euler = (0, 0, 0)
    with Live(scene) as live:
        yield live


def look(drawn: Live) -> Frame:
    return drawn.frame(camera_of(bpy.context.scene))


# ------------------------------------------------------------ exact

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


# ------------------------------------------------------------ never stale


def geometries(drawn: Live) -> dict[str, Any]:
    stage = drawn.read()
    return {stage.names[int(stage.ids[row])]: group.geometry for group in stage.groups for row in group.rows.tolist()}


def test_only_what_changed_is_read_again(drawn: Live, scene: bpy.types.Scene) -> None:
    cube, ball = add_cube(scene), add_sphere(scene, (3, 0, 0))
    first = geometries(drawn)
    assert set(first) == {"Cube", "Sphere"}
    cube.location.x = 1
    assert geometries(drawn) == first
    cube.data.vertices[0].co.x = 5
    cube.data.update()
    second = geometries(drawn)
    assert second["Sphere"] is first["Sphere"]
    assert second["Cube"] is not first["Cube"]
    assert second["Cube"].positions.max() == 5
    ball.modifiers.new("Array", "ARRAY")
    third = geometries(drawn)
    assert third["Cube"] is second["Cube"]
    assert len(third["Sphere"].triangles) == 2 * len(second["Sphere"].triangles)


def test_changes_are_noticed(scene: bpy.types.Scene) -> None:
    cube, ball = add_cube(scene), add_sphere(scene)
    bpy.ops.ed.undo_push(message="Before")
    noticed = Changes()
    try:
        assert noticed.take()[:2] == (True, True)
        bpy.context.view_layer.update()
        noticed.take()
        assert noticed.take() == (False, False, set())
        cube.data.vertices[0].co.x = 5
        cube.data.update()
        ball.location.x = 1
        bpy.context.view_layer.update()
        everything, anything, geometry = noticed.take()
        assert (everything, anything) == (False, True)
        assert {cube.session_uid, cube.data.session_uid} <= geometry
        assert ball.session_uid not in geometry
        bpy.ops.ed.undo_push(message="After")
        bpy.ops.ed.undo()
        assert noticed.take()[0]
        bpy.ops.wm.read_factory_settings(use_empty=True)
        assert noticed.take()[0]
    finally:
        noticed.close()


def test_reader_forgets_what_it_is_told_and_what_is_gone(scene: bpy.types.Scene) -> None:
    """An address may soon be that of other data."""
    cube, _ = add_cube(scene), add_sphere(scene)
    reader = Reader(for_render=False)

    def read() -> dict[str, Any]:
        stage = reader.read(bpy.context.evaluated_depsgraph_get(), ids.object_ids())
        return {stage.names[int(stage.ids[group.rows[0]])]: group.geometry for group in stage.groups}

    first = read()
    reader.forget({cube.data.session_uid})
    second = read()
    assert second["Sphere"] is first["Sphere"]
    assert second["Cube"] is not first["Cube"]
    gone = weakref.ref(second["Cube"])
    del first, second
    bpy.data.objects.remove(cube)
    assert set(read()) == {"Sphere"}
    assert gone() is None


def test_instances_keep_their_own_past(drawn: Live, scene: bpy.types.Scene) -> None:
    """When one of many goes, the others are not taken for it."""
    cube = add_cube(scene)
    cube.scale = (0.2, 0.2, 0.2)
    copies = []
    for x in (-1, 1):
        copies.append(bpy.data.objects.new("Copy", cube.data))
        copies[-1].location.x, copies[-1].scale = x, cube.scale
        scene.collection.objects.link(copies[-1])
    look(drawn)
    bpy.data.objects.remove(cube)
    copies[0].location.y = 0.1
    frame = look(drawn)
    left, right = frame.object_id[:, :24] > 0, frame.object_id[:, 24:] > 0
    assert left.any()
    assert right.any()
    assert (frame.motion[:, :24][left][:, 1] > 0.1).all()
    np.testing.assert_allclose(frame.motion[:, :24][left][:, 0], 0, atol=1e-3)
    assert not frame.motion[:, 24:].any()


def test_first_of_two_in_one_place_is_seen(drawn: Live, scene: bpy.types.Scene) -> None:
    plane = add_plane(scene, size=40)
    scene.collection.objects.link(plane.copy())
    frame = look(drawn)
    hit, *_, ob, _ = scene.ray_cast(bpy.context.evaluated_depsgraph_get(), (0, 0, 3), (0, 0, -1))
    assert hit
    assert {frame.names[int(number)] for number in np.unique(frame.object_id)} == {ob.name}


def test_camera_alone_reads_nothing(drawn: Live, scene: bpy.types.Scene) -> None:
    add_cube(scene)
    first = drawn.read()
    scene.camera.location.x = 1
    bpy.context.view_layer.update()
    assert drawn.read() is first


@pytest.mark.parametrize("change", ["move", "delete", "hide", "exclude", "frame", "scale", "replace"])
def test_next_frame_shows_the_change(change: str, drawn: Live, scene: bpy.types.Scene) -> None:
    plane = add_plane(scene, size=40)
    if change == "frame":
        for frame, height in ((1, 0.0), (2, 1.0)):
            plane.location.z = height
            plane.keyframe_insert("location", frame=frame)
        scene.frame_set(1)
    if change == "exclude":
        child = bpy.data.collections.new("Child")
        scene.collection.children.link(child)
        scene.collection.objects.unlink(plane)
        child.objects.link(plane)
    np.testing.assert_allclose(look(drawn).depth, 4, rtol=1e-6)
    expected = np.inf
    if change == "move":
        plane.location.z, expected = 1, 3
    elif change == "delete":
        bpy.data.objects.remove(plane)
    elif change == "hide":
        plane.hide_set(True)
    elif change == "exclude":
        bpy.context.view_layer.layer_collection.children["Child"].exclude = True
    elif change == "frame":
        scene.frame_set(2)
        expected = 3
    elif change == "scale":
        plane.scale = (0, 0, 0)
    elif change == "replace":
        bpy.data.objects.remove(plane)
        add_plane(scene, size=40, location=(0, 0, 2))
        expected = 2
    np.testing.assert_allclose(look(drawn).depth, expected, rtol=1e-6)


def test_undo_is_seen(drawn: Live, scene: bpy.types.Scene) -> None:
    add_plane(scene, size=40)
    bpy.ops.ed.undo_push(message="Before")
    bpy.context.object.location.z = 1
    bpy.ops.ed.undo_push(message="Moved")
    np.testing.assert_allclose(look(drawn).depth, 3, rtol=1e-6)
    bpy.ops.ed.undo()
    np.testing.assert_allclose(look(drawn).depth, 4, rtol=1e-6)
    bpy.ops.ed.redo()
    np.testing.assert_allclose(look(drawn).depth, 3, rtol=1e-6)


def test_another_file_is_seen(drawn: Live, scene: bpy.types.Scene) -> None:
    add_plane(scene, size=40)
    look(drawn)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    add_camera(bpy.context.scene, location=(0, 0, 4))
    assert np.isinf(look(drawn).depth).all()
    add_plane(bpy.context.scene, size=40, location=(0, 0, 1))
    np.testing.assert_allclose(look(drawn).depth, 3, rtol=1e-6)
    camera = camera_of(bpy.context.scene)
    bpy.context.scene.name = "Another"
    with pytest.raises(SceneError, match="gone"):
        drawn.frame(camera)


def test_closed_listens_no_more(scene: bpy.types.Scene) -> None:
    handlers = bpy.app.handlers
    every = handlers.depsgraph_update_post, handlers.frame_change_post, handlers.load_post, handlers.undo_post
    before = [list(one) for one in every]
    with Live(scene):
        assert [list(one) for one in every] != before
    assert [list(one) for one in every] == before


def test_object_that_appears_has_no_motion(drawn: Live, scene: bpy.types.Scene) -> None:
    look(drawn)
    add_plane(scene, size=40)
    assert not look(drawn).motion.any()


def test_new_topology_moves_with_its_object(drawn: Live, scene: bpy.types.Scene) -> None:
    plane = add_plane(scene, size=40)
    look(drawn)
    plane.location.x += 0.1
    plane.modifiers.new("Subdivision", "SUBSURF")
    motion = look(drawn).motion
    assert motion[..., 0].max() < -0.5


def test_local_view(drawn: Live, scene: bpy.types.Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    add_plane(scene, size=40)
    add_cube(scene, (0, 0, 0.5)).scale = (0.2, 0.2, 0.2)
    assert len(np.unique(look(drawn).object_id)) == 2
    for name in ("Plane", "Cube"):
        monkeypatch.setattr(live, "_shown", lambda space, name=name: (lambda ob: ob.name == name) if space else None)
        only = drawn.frame(camera_of(scene), space="local")  # type: ignore[arg-type]
        assert {only.names[int(number)] for number in np.unique(only.object_id) if number} == {name}
    assert len(np.unique(look(drawn).object_id)) == 2


# ------------------------------------------------------------ what renders, and by what


def test_render_settings_count(scene: bpy.types.Scene) -> None:
    """What is asked for as a picture is as it renders; live passes are as the viewport shows it."""
    plane = add_plane(scene, size=40)
    array = plane.modifiers.new("Array", "ARRAY")
    array.use_relative_offset, array.use_constant_offset = False, True
    array.constant_offset_displace = (0, 0, 1)
    array.show_viewport = False
    cube = add_cube(scene, (0, 0, 1))
    cube.scale, cube.hide_render = (0.2, 0.2, 0.2), True
    add_camera(scene, location=(0, 0, 4))
    seen = passes.render(scene, camera_of(scene))
    np.testing.assert_allclose(seen.depth, 3, rtol=1e-6)
    with Live(scene) as drawn:
        depth = look(drawn).depth
    assert depth[0, 0] == pytest.approx(4)
    assert depth[16, 24] == pytest.approx(2.8)


def test_invisible_to_the_camera(scene: bpy.types.Scene) -> None:
    add_plane(scene, size=40).visible_camera = False
    add_camera(scene)
    assert np.isinf(passes.render(scene, camera_of(scene)).depth).all()


def hair(scene: bpy.types.Scene) -> None:
    add_sphere(scene).modifiers.new("Hair", "PARTICLE_SYSTEM")
    bpy.context.object.particle_systems[0].settings.type = "HAIR"


def curves(scene: bpy.types.Scene) -> None:
    scene.collection.objects.link(bpy.data.objects.new("Hair", bpy.data.hair_curves.new("Hair")))


def volume(scene: bpy.types.Scene) -> None:
    scene.collection.objects.link(bpy.data.objects.new("Cloud", bpy.data.volumes.new("Cloud")))


def material_of(scene: bpy.types.Scene) -> Any:
    material = bpy.data.materials.new("Material")
    if bpy.app.version < (5, 0, 0):
        material.use_nodes = True
    add_sphere(scene).data.materials.append(material)
    return material


def transparent(scene: bpy.types.Scene) -> None:
    tree = material_of(scene).node_tree
    alpha = next(node for node in tree.nodes if node.type == "BSDF_PRINCIPLED").inputs["Alpha"]
    tree.links.new(tree.nodes.new("ShaderNodeTexNoise").outputs[0], alpha)


def displaced(scene: bpy.types.Scene) -> None:
    material = material_of(scene)
    material.displacement_method = "DISPLACEMENT"
    nodes, links = material.node_tree.nodes, material.node_tree.links
    output = next(node for node in nodes if node.type == "OUTPUT_MATERIAL")
    links.new(nodes.new("ShaderNodeDisplacement").outputs[0], output.inputs["Displacement"])


@pytest.mark.parametrize(
    ("build", "what"),
    [
        (hair, "particle hair on 'Sphere'"),
        (curves, "hair curves on 'Hair'"),
        (volume, "a volume on 'Cloud'"),
        (transparent, "transparency on 'Sphere'"),
        (displaced, "displacement on 'Sphere'"),
    ],
)
def test_cycles_draws_what_the_card_cannot(build: Any, what: str, scene: bpy.types.Scene) -> None:
    add_plane(scene, size=40)
    build(scene)
    add_camera(scene)
    said: list[str] = []
    read: list[bpy.types.Depsgraph] = []
    seen = passes.render(scene, camera_of(scene), say=said.append, also=read.append)
    assert np.isfinite(seen.depth).any()
    assert said == [f"Passes are rendered by Cycles: {what}"]
    assert len(read) == 1


def test_cycles_where_there_is_no_context(scene: bpy.types.Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    add_plane(scene, size=40)
    add_camera(scene, location=(0, 0, 4))
    monkeypatch.setattr(gpu_context, "_usable", lambda: False)
    said: list[str] = []
    np.testing.assert_allclose(passes.render(scene, camera_of(scene), say=said.append).depth, 4, rtol=1e-4)
    assert "graphics card" in said[0]
    with pytest.raises(NoGpu, match="context"):
        Live(scene)


@pytest.mark.parametrize("times", [1, 2])
def test_lost_context(times: int, scene: bpy.types.Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first loss costs another try; where drawing goes on failing, Cycles renders. Meshes are read once."""
    add_plane(scene, size=40)
    add_camera(scene, location=(0, 0, 4))
    failures = [RuntimeError("lost")] * times
    work = draw.Drawer.draw

    def fail(*arguments: Any, **options: Any) -> Frame:
        if failures:
            raise failures.pop()
        return work(*arguments, **options)

    monkeypatch.setattr(draw.Drawer, "draw", fail)
    said: list[str] = []
    read: list[bpy.types.Depsgraph] = []
    seen = passes.render(scene, camera_of(scene), say=said.append, also=read.append)
    np.testing.assert_allclose(seen.depth, 4, rtol=1e-4)
    assert len(said) == times - 1
    assert len(read) == 1


def test_both_routes_number_alike(scene: bpy.types.Scene) -> None:
    add_sphere(scene)
    cube = add_cube(scene, (1, 0, 0))
    cube.scale = (0.3, 0.3, 0.3)
    cube.modifiers.new("Instances", "NODES").node_group = instancer()
    add_camera(scene)
    camera = camera_of(scene)
    (one,), (other,) = gpu_route.render(scene, [camera]), cycles.render(scene, [camera])
    assert one.names == other.names
    assert (one.object_id == other.object_id).mean() > 0.995
    ours, theirs = one.edge >= 128, other.edge >= 128
    for lines, others in ((ours, theirs), (theirs, ours)):
        near = np.max([np.roll(others, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)], axis=0)
        assert lines.sum() > 100
        assert near[lines].mean() > 0.95


def shadow_catcher(scene: bpy.types.Scene) -> None:
    bpy.data.objects["Floor"].is_shadow_catcher = True


def holdout(scene: bpy.types.Scene) -> None:
    bpy.data.objects["Ball"].is_holdout = True


def on_vertices(scene: bpy.types.Scene) -> None:
    cube = add_cube(scene)
    cube.scale, cube.parent = (0.3, 0.3, 0.3), bpy.data.objects["Ball"]
    bpy.data.objects["Ball"].instance_type = "VERTS"


def on_faces(scene: bpy.types.Scene) -> None:
    on_vertices(scene)
    ball = bpy.data.objects["Ball"]
    ball.instance_type, ball.show_instancer_for_render = "FACES", False


def indirect_only(scene: bpy.types.Scene) -> None:
    child = bpy.data.collections.new("Child")
    scene.collection.children.link(child)
    scene.collection.objects.unlink(bpy.data.objects["Ball"])
    child.objects.link(bpy.data.objects["Ball"])
    bpy.context.view_layer.layer_collection.children["Child"].indirect_only = True


@pytest.mark.parametrize("change", [shadow_catcher, holdout, on_vertices, on_faces, indirect_only])
def test_drawn_as_cycles_does(change: Any, scene: bpy.types.Scene) -> None:
    add_sphere(scene).name = "Ball"
    add_plane(scene, size=6, location=(0, 0, -1)).name = "Floor"
    change(scene)
    add_camera(scene)
    camera = camera_of(scene, (96, 64))
    (ours,), (theirs,) = gpu_route.render(scene, [camera]), cycles.render(scene, [camera])
    assert ours.names == theirs.names
    assert (ours.object_id == theirs.object_id).mean() > 0.998


# ------------------------------------------------------------ materials that are not everywhere


def card(scene: bpy.types.Scene, *, mixed: bool = False, channel: str = "Alpha", **options: Any) -> bpy.types.Image:
    """A leaf card 2 above a floor: a picture of 8 × 4 random pixels says where it is."""
    add_plane(scene, size=40, location=(0, 0, -2)).name = "Floor"
    plane = add_plane(scene, size=2.4)
    plane.name = "Leaf"
    for loop in plane.data.uv_layers[0].uv:
        loop.vector = loop.vector * 2.3 - Vector((0.6, 0.7))  # beyond the picture, for what is there
    image = bpy.data.images.new("Leaf", 8, 4, alpha=True)
    pixels = np.repeat(np.random.default_rng(3).random((4, 8, 1)) > 0.5, 4, 2).astype(np.float32)
    if channel == "Color":
        pixels[..., 3] = 1
        image.colorspace_settings.name = "Non-Color"  # this generates its pixels again
    image.pixels.foreach_set(pixels.ravel())
    material = bpy.data.materials.new("Leaf")
    if bpy.app.version < (5, 0, 0):
        material.use_nodes = True
    plane.data.materials.append(material)
    nodes, links = material.node_tree.nodes, material.node_tree.links
    texture = nodes.new("ShaderNodeTexImage")
    texture.image = image
    for name, value in options.items():
        setattr(texture, name, value)
    shader = next(node for node in nodes if node.type == "BSDF_PRINCIPLED")
    if mixed:
        mix, output = nodes.new("ShaderNodeMixShader"), next(node for node in nodes if node.type == "OUTPUT_MATERIAL")
        links.new(texture.outputs[channel], mix.inputs[0])
        links.new(nodes.new("ShaderNodeBsdfTransparent").outputs[0], mix.inputs[1])
        links.new(shader.outputs[0], mix.inputs[2])
        links.new(mix.outputs[0], output.inputs["Surface"])
    else:
        links.new(texture.outputs[channel], shader.inputs["Alpha"])
    add_camera(scene, "ortho", location=(0, 0, 4)).rotation_euler = (0.2, 0.1, 0)
    scene.camera.data.ortho_scale = 3
    return image


@pytest.mark.parametrize(
    "options",
    [
        {"interpolation": "Linear"},
        {"interpolation": "Closest"},
        {"interpolation": "Closest", "extension": "MIRROR"},
        {"interpolation": "Closest", "extension": "EXTEND"},
        {"interpolation": "Closest", "extension": "CLIP"},
        {"mixed": True},
        {"channel": "Color", "mixed": True},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
def test_leaf_card_is_no_rectangle(options: dict[str, Any], scene: bpy.types.Scene) -> None:
    """Where a picture says how much of the surface is there, it is where Cycles sees it. (Below the threshold, which
    between pixels is where they mix, Cycles takes it or leaves it at random.)"""
    card(scene, **options)
    camera = camera_of(scene, (96, 64))
    (ours,), (theirs,) = gpu_route.render(scene, [camera]), cycles.render(scene, [camera])
    assert set(ours.names.values()) == {"Leaf", "Floor"}
    leaf = ours.object_id == ids.object_ids()["Leaf"]
    assert 0.05 < leaf.mean() < 0.5
    same = ours.object_id == theirs.object_id
    assert same[leaf].mean() > 0.99
    assert same.mean() > (0.99 if options.get("interpolation") == "Closest" else 0.8)
    np.testing.assert_allclose(ours.depth[same], theirs.depth[same], rtol=1e-4)


@pytest.mark.parametrize(("alpha", "threshold", "seen"), [(0.3, 0.5, False), (0.7, 0.5, True), (0.3, 0.2, True)])
def test_alpha_threshold(alpha: float, threshold: float, seen: bool, scene: bpy.types.Scene) -> None:
    node = next(node for node in material_of(scene).node_tree.nodes if node.type == "BSDF_PRINCIPLED")
    node.inputs["Alpha"].default_value = alpha
    scene.view_layers[0].pass_alpha_threshold = threshold
    add_camera(scene)
    camera = camera_of(scene)
    hit = np.isfinite(gpu_route.render(scene, [camera])[0].depth)
    assert hit.any() == seen
    if seen:
        assert (hit == np.isfinite(cycles.render(scene, [camera])[0].depth)).mean() > 0.99


def test_backs_are_culled_where_the_engine_culls(scene: bpy.types.Scene) -> None:
    material_of(scene).use_backface_culling = True
    add_camera(scene, location=(0, 0, 0.2))  # inside the ball
    for engine, seen in (("CYCLES", True), ("BLENDER_EEVEE" + "_NEXT" * (bpy.app.version < (5, 0, 0)), False)):
        scene.render.engine = engine
        assert np.isfinite(passes.render(scene, camera_of(scene)).depth).any() == seen
        with Live(scene) as drawn:
            assert np.isfinite(look(drawn).depth).any() == seen
    bpy.data.objects["Sphere"].scale.x = -1  # mirrored, its outside is still outside
    scene.camera.location.z = 5
    assert passes.render(scene, camera_of(scene)).depth.min() == pytest.approx(4, abs=0.1)


def test_painted_mask_is_seen(scene: bpy.types.Scene) -> None:
    image = card(scene, interpolation="Closest")
    with Live(scene) as drawn:
        leaf = ids.object_ids()["Leaf"]
        before = look(drawn).object_id == leaf
        assert before.any()
        image.pixels.foreach_set(np.zeros(4 * 8 * 4, np.float32))
        image.update()
        assert not (look(drawn).object_id == leaf).any()


# ------------------------------------------------------------ broken input


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
