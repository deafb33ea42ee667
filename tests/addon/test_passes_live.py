"""Live passes: never stale, and nothing is read twice."""

from __future__ import annotations

import weakref
from typing import Any

import bpy
import numpy as np
import pytest

from paintover.bridge.errors import SceneError
from paintover.passes import ids, live
from paintover.passes.changes import Changes
from paintover.passes.instances import Reader
from paintover.passes.live import Live

from .looking import camera_of, look
from .scenes import add_camera, add_cube, add_plane, add_sphere


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


def test_a_renamed_scene_is_the_same_and_one_of_another_file_is_not(drawn: Live, scene: bpy.types.Scene) -> None:
    add_plane(scene, size=40)
    scene.name = "Another"
    np.testing.assert_allclose(look(drawn).depth, 4, rtol=1e-6)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.scene.name = "Another"
    add_camera(bpy.context.scene, location=(0, 0, 4))
    with pytest.raises(SceneError, match="gone"):
        drawn.frame(camera_of(bpy.context.scene))


def test_another_view_layer_is_seen(drawn: Live, scene: bpy.types.Scene) -> None:
    add_plane(scene, size=40)
    look(drawn)
    empty = scene.view_layers.new("Empty")
    empty.layer_collection.exclude = True
    for collection in empty.layer_collection.children:
        collection.exclude = True
    bpy.context.view_layer.objects.active.hide_set(True, view_layer=empty)
    seen = drawn.draw(drawn.read(view_layer="Empty"), camera_of(scene))
    assert np.isinf(seen.depth).all()
    assert np.isinf(look(drawn).depth).all(), "from then on"
    seen = drawn.draw(drawn.read(view_layer=scene.view_layers[0].name), camera_of(scene))
    np.testing.assert_allclose(seen.depth, 4, rtol=1e-6)


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
