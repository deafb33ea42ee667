"""Shots from the timeline to files, over a scripted link: what is sent, and what each frame shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest

from paintover.animate import files
from paintover.bridge.errors import NoCamera
from paintover.bridge.parameters import Settings
from paintover.session import Session
from paintover.tasks import TaskState

from . import rna
from .scenes import add_camera, add_sphere, glow
from .shots import Server, film, numbers, paint, pixels, render, start

pytestmark = pytest.mark.usefixtures("registered")


def test_a_shot_is_painted_into_files_with_their_request(
    session: Session, scene: bpy.types.Scene, tmp_path: Path
) -> None:
    film(scene, tmp_path)
    task, server = render(session)
    (shot,) = server.shots.values()
    assert (shot.numbers, shot.continues, shot.cuts) == ((1, 2, 3, 4, 5, 6), "", ())
    assert (shot.width, shot.height) == (96, 64)
    assert [frame.number for frame in server.frames] == [1, 4, 2, 3, 6, 5]
    assert numbers(tmp_path) == [f"Scene_{number:04}.png" for number in range(1, 7)]
    for frame in server.frames:
        path = tmp_path / f"Scene_{frame.number:04}.png"
        np.testing.assert_allclose(pixels(path) * 255, paint(frame), atol=0.5)
        request = files.read_request(path)
        assert request
        assert (request["frame"], request["job"], request["key"]) == (frame.number, task.job, frame.key)
        assert Settings(**request["settings"]) == frame.settings
    assert task.notes == [f"6 frames, in {tmp_path}"]
    moved = {frame.number: (frame.passes.depth < np.inf).argmax(1).max() for frame in server.frames}
    assert moved[6] > moved[1] + 2, "each shows its own moment"
    assert len(bpy.data.scenes) == 1


def test_the_scene_stays_as_it_was(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    cube = film(scene, tmp_path)
    scene.timeline_markers.new("paint: ice", frame=3)
    scene.render.use_motion_blur = True
    rig = bpy.data.objects.new("Rig.L", None)
    scene.collection.objects.link(rig)
    rig["bend"] = 0.0
    rig.keyframe_insert('["bend"]', frame=1)
    rig["bend"] = 9.0
    rig.keyframe_insert('["bend"]', frame=6)
    ball = add_sphere(scene, (0, 0, 2))
    ball.driver_add("location", 0).driver.expression = "frame * 0.1"
    material = bpy.data.materials.new("Tinted")
    material.diffuse_color = (0, 0, 0, 1)
    material.keyframe_insert("diffuse_color", frame=1)
    material.diffuse_color = (1, 1, 1, 1)
    material.keyframe_insert("diffuse_color", frame=6)
    ball.data.materials.append(material)
    scene.frame_set(2)
    cube.location.z = 0.7  # set by hand, not keyed yet
    rig["bend"] = 5.0
    bpy.context.view_layer.update()
    blocks = [scene, cube, rig, ball, material, scene.camera, scene.camera.data]

    def state() -> dict[str, Any]:
        found = {}
        for block in blocks:
            found |= rna.walk(block, block.name)
        return {path: value for path, value in found.items() if ".paintover." not in path}

    before = state()
    render(session)
    after = state()
    assert rig["bend"] == 5.0
    assert {path: (before.get(path), after.get(path)) for path in before | after
            if before.get(path) != after.get(path)} == {}  # fmt: skip
    assert not [image for image in bpy.data.images if image.name == "Render Result"]


def test_frames_are_without_motion_blur_or_border_and_that_is_said(
    session: Session, scene: bpy.types.Scene, tmp_path: Path
) -> None:
    film(scene, tmp_path)
    _, sharp = render(session)
    scene.render.use_motion_blur = scene.render.use_border = True
    scene.render.border_max_x = 0.5
    task, blurred = render(session, again=True)
    assert task.notes[0] == "Not in the painted frames: motion blur, the render border."
    for one, other in zip(sharp.frames, blurred.frames, strict=True):
        for name in ("depth", "normal", "edge", "object_id"):
            assert np.array_equal(getattr(one.passes, name), getattr(other.passes, name)), (one.number, name)
        assert all(
            np.array_equal(a.place, b.place, equal_nan=True) for a, b in zip(one.links, other.links, strict=True)
        )


def test_links_lead_where_surfaces_are(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    film(scene, tmp_path)
    _, server = render(session)
    frames = {frame.number: frame for frame in server.frames}
    assert {link.frame for link in frames[3].links} == {1, 4, 2}
    for frame in frames.values():
        seen = frame.passes.depth < np.inf
        for link in frame.links:
            rows, columns = np.nonzero(seen)
            place = link.place[seen]
            x, y = np.floor(columns + 0.5 + place[:, 0]), np.floor(rows + 0.5 + place[:, 1])
            depth = frames[link.frame].passes.depth
            inside = (x >= 1) & (y >= 1) & (x < depth.shape[1] - 1) & (y < depth.shape[0] - 1)
            there = depth[y[inside].astype(int), x[inside].astype(int)]
            share = (abs(there - place[inside, 2]) < 0.15).mean()
            assert share > 0.8, "most of it is seen there, at that depth"


def test_below_full_strength_the_scenes_own_render_comes_along(
    session: Session, scene: bpy.types.Scene, tmp_path: Path
) -> None:
    cube = film(scene, tmp_path, frames=3)
    cube.data.materials.append(glow((1, 0, 0)))
    scene.view_settings.view_transform = "Standard"
    settings = scene.paintover
    for frame, strength in ((2, 1.0), (3, 0.5)):
        settings.strength = strength
        settings.keyframe_insert("strength", frame=frame)
    _, server = render(session)
    colors = {frame.number: frame.passes.color for frame in server.frames}
    assert colors[1] is colors[2] is None
    assert colors[3] is not None
    seen = next(frame for frame in server.frames if frame.number == 3).passes.object_id > 0
    assert (colors[3][seen][:, 0] > 200).mean() > 0.9, "the red cube, where frame 3 has it"


def test_a_motion_adapter_paints_every_frame(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    film(scene, tmp_path)
    scene.paintover.animate_motion = "walk"
    _, server = render(session)
    assert [frame.number for frame in server.frames] == [1, 2, 3, 4, 5, 6], "none waits for a keyframe ahead"
    assert all(frame.key for frame in server.frames)


def test_objects_that_appear_hide_and_change_their_mesh(
    session: Session, scene: bpy.types.Scene, tmp_path: Path
) -> None:
    cube = film(scene, tmp_path)
    cube.hide_render = True
    cube.keyframe_insert("hide_render", frame=1)
    cube.hide_render = False
    cube.keyframe_insert("hide_render", frame=3)
    ball = add_sphere(scene, (0, 0, 1.5))
    detail = ball.modifiers.new("Subdivision", "SUBSURF")
    detail.render_levels = 0
    detail.keyframe_insert("render_levels", frame=3)
    detail.render_levels = 2
    detail.keyframe_insert("render_levels", frame=4)
    _, server = render(session)
    names = {frame.number: set(frame.passes.names.values()) for frame in server.frames}
    assert names[1] == {"Sphere"}
    assert names[4] == {"Sphere", "Cube"}
    ids = {name: int(key) for frame in server.frames for key, name in frame.passes.names.items()}
    five = next(frame for frame in server.frames if frame.number == 5)
    ball_pixels = five.passes.object_id == ids["Sphere"]
    for link in five.links:
        assert np.isfinite(link.place[ball_pixels]).all(), "a mesh with other vertices moves as its object does"


def test_a_shot_is_of_the_view_layer_that_it_began_in(
    session: Session, scene: bpy.types.Scene, tmp_path: Path
) -> None:
    film(scene, tmp_path)
    window = bpy.context.window_manager.windows[0]
    first, second = scene.view_layers[0], scene.view_layers.new("Second")
    collection = bpy.data.collections.new("Balls")
    scene.collection.children.link(collection)
    ball = add_sphere(scene, (0, 0, 1.5))
    collection.objects.link(ball)
    scene.collection.objects.unlink(ball)
    first.layer_collection.children["Balls"].exclude = True
    window.view_layer = second
    task, server = start(session), Server(session)
    server.run(task, until=lambda: len(server.kept) >= 2)
    window.view_layer = first  # the artist goes on working, in the other one
    server.run(task)
    assert task.state is TaskState.DONE, task.error
    assert {tuple(sorted(frame.passes.names.values())) for frame in server.frames} == {("Cube", "Sphere")}


def test_a_render_size_that_changes(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    film(scene, tmp_path)
    task, server = start(session), Server(session)
    server.run(task, until=lambda: len(server.kept) >= 2)
    scene.render.resolution_x = 500
    server.run(task)
    assert task.state is TaskState.DONE
    assert {frame.passes.depth.shape for frame in server.frames} == {(64, 96)}, "all have the size of the first"


def test_hair_is_said_to_be_missing(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    cube = film(scene, tmp_path)
    cube.modifiers.new("Hair", "PARTICLE_SYSTEM")
    cube.particle_systems[0].settings.type = "HAIR"
    task, _ = render(session)
    assert "Not in a shot's passes: particle hair on 'Cube'." in task.notes


def test_no_camera(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    film(scene, tmp_path)
    scene.camera = None
    with pytest.raises(NoCamera):
        start(session)
    scene.camera = add_camera(scene)
    task, server = start(session), Server(session)
    server.run(task, until=lambda: len(server.kept) >= 2)
    bpy.data.objects.remove(scene.camera)
    server.run(task)
    assert task.state is TaskState.FAILED
    assert isinstance(task.error, NoCamera)
