"""Shots from the timeline to files, over a scripted link: what is sent, what is kept, what is painted again."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest

from paintover import properties, textures
from paintover.animate import cutting_room, files, timeline
from paintover.animate.task import ShotTask
from paintover.bridge import loras
from paintover.bridge.errors import ConnectionLost, NoCamera, RenderFailed, SceneError
from paintover.bridge.messages import Cancel, Follow
from paintover.bridge.parameters import Settings
from paintover.link import LinkState
from paintover.operators import animate as operators
from paintover.session import Session
from paintover.tasks import TaskState

from . import rna
from .scenes import add_camera, add_sphere, glow
from .shots import Server, film, move, paint, start

pytestmark = pytest.mark.usefixtures("registered")


def pixels(path: Path) -> np.ndarray:
    """A picture's file, uint8 (H, W, 3), as Blender reads it."""
    image = bpy.data.images.load(str(path))
    image.colorspace_settings.name = "Non-Color"
    flat = np.empty(image.size[0] * image.size[1] * 4, np.float32)
    image.pixels.foreach_get(flat)
    found = flat.reshape(image.size[1], image.size[0], 4)[::-1, :, :3]
    bpy.data.images.remove(image)
    return found


def render(session: Session, **arguments: Any) -> tuple[ShotTask, Server]:
    task, server = start(session, **arguments), Server(session)
    server.run(task)
    assert task.state is TaskState.DONE, task.error
    return task, server


def numbers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


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


def test_what_is_there_and_has_not_changed_is_kept(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    cube = film(scene, tmp_path)
    _, server = render(session)
    task = start(session)
    server.run(task)
    assert len(server.shots) == 1
    assert task.notes == [f"6 frames, 6 of them from before, in {tmp_path}"]
    move(cube, (2, 0, 0), 6)  # frames 2 to 6 change
    task = start(session)
    server.run(task)
    assert task.pace.painted == 5, "frame 1 is what it was"
    assert len(server.shots) == 2


def test_only_frames_that_changed_are_painted(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    cube = film(scene, tmp_path)
    ball = add_sphere(scene, (0, 1, 0))
    move(ball, (0, 1, 0), 5)
    render_, server = render(session)
    known = server.known
    job = render_.job
    move(ball, (0, 1, 1), 6)
    cube.select_set(True)
    task, server = start(session), Server(session)
    server.known = known
    server.run(task)
    (shot,) = server.shots.values()
    assert (shot.continues, shot.first) == (job, 4)
    assert task.pace.painted == 2, "frames 6 and 5: 5 takes paint from 6"


def test_a_server_that_has_forgotten_paints_it_all(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    film(scene, tmp_path)
    render(session)
    (tmp_path / "Scene_0005.png").unlink()
    task, server = render(session)
    (shot,) = server.shots.values()
    assert shot.continues == ""
    assert task.pace.painted == 6


def test_missing_frames_in_the_middle(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    film(scene, tmp_path, frames=30)
    _, server = render(session)
    known, before = server.known, (tmp_path / "Scene_0012.png").read_bytes()
    for number in (5, 28):
        (tmp_path / f"Scene_{number:04}.png").unlink()
    task, server = start(session), Server(session)
    server.known = known
    server.run(task)
    assert task.state is TaskState.DONE
    assert task.pace.painted == 2
    assert len(server.shots) == 2, "what lies between is not painted"
    assert len(server.frames) < 14
    assert len(numbers(tmp_path)) == 30
    assert (tmp_path / "Scene_0012.png").read_bytes() == before


def test_it_goes_on_after_blender_has_crashed(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    film(scene, tmp_path)
    scene.paintover.seed = -1
    task, server = start(session), Server(session)
    server.run(task, until=lambda: len(server.kept) >= 2)
    session.tasks.clear()  # as if it had never been
    seed = task.settings.seed
    (tmp_path / ".Scene_0002.png.part").write_bytes(b"half a picture")
    again = start(session)
    server.run(again)
    assert again.state is TaskState.DONE
    assert again.settings.seed == seed, "the frames are one shot"
    assert again.pace.painted < 5
    assert len([name for name in numbers(tmp_path) if name.endswith(".png")]) == 6


def test_cancel_and_the_next_run_goes_on(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    film(scene, tmp_path)
    task, server = start(session), Server(session)
    server.run(task, until=lambda: len(server.kept) >= 3)
    session.cancel(task.job)
    server.run(task)
    assert task.state is TaskState.CANCELLED
    done = len(numbers(tmp_path))
    assert 3 <= done < 6
    again = start(session)
    server.run(again)
    assert again.pace.painted == 6 - done


def test_an_end_among_what_arrives_is_the_end(
    session: Session, scene: bpy.types.Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film(scene, tmp_path)
    task, server = start(session), Server(session)
    server.run(task, until=lambda: len(server.kept) >= 2)
    session.cancel(task.job)
    server.run(task)
    assert task.state is TaskState.CANCELLED
    for _ in range(3):
        session.tick()
    assert "Traceback" not in capsys.readouterr().err


def test_settings_and_prompts_animate(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    film(scene, tmp_path)
    settings = scene.paintover
    settings.guidance = 2.0
    settings.keyframe_insert("guidance", frame=1)
    settings.guidance = 12.0
    settings.keyframe_insert("guidance", frame=6)
    settings.driver_add("control_depth_scale").driver.expression = "frame / 10"
    settings.driver_add("steps").driver.expression = "frame * 100"
    ice = settings.prompts.add()
    ice.text, ice.weight = "blue ice", 0.0
    ice.keyframe_insert("weight", frame=3)
    ice.weight = 1.0
    ice.keyframe_insert("weight", frame=4)
    scene.timeline_markers.new("Paint: red brick", frame=5)
    scene.timeline_markers.new("just a marker", frame=2)
    _, server = render(session)
    found = {frame.number: frame.settings for frame in server.frames}
    assert (found[1].guidance, found[6].guidance) == (2.0, 12.0)
    assert found[1].guidance < found[2].guidance < found[4].guidance
    assert [round(found[n].control_depth_scale, 3) for n in range(1, 7)] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert found[2].steps == 150, "what goes beyond its range stays at its end"
    assert found[1].prompt == found[3].prompt == "moss"
    assert found[4].prompt == "moss::1.0000 blue ice::1.0000"
    assert found[5].prompt == "red brick::1.0000 blue ice::1.0000"


def test_weights_of_loras_animate(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    film(scene, tmp_path)
    settings = scene.paintover
    assert properties.snapshot(scene).lora == ""
    settings.lora = "film:0.8"
    for name in ("sketch", " "):
        settings.loras.add().text = name
    for frame, weight in ((1, 0.0), (6, 1.0)):
        settings.loras[0].weight = weight
        settings.loras[0].keyframe_insert("weight", frame=frame)
    _, server = render(session)
    found = {frame.number: loras.parse(frame.settings.lora) for frame in server.frames}
    assert all([one.name for one in each] == ["film", "sketch"] and each[0].weight == 0.8 for each in found.values())
    weights = [found[number][1].weight for number in range(1, 7)]
    assert weights == sorted(weights)
    assert (weights[0], weights[-1]) == (0.0, 1.0)
    assert 0 < weights[2] < 1
    settings.lora = ""
    scene.frame_set(6)
    assert properties.snapshot(scene).lora == "sketch:1.0000"


def test_the_lists_over_time(scene: bpy.types.Scene) -> None:
    classes = [cls for cls in operators.CLASSES if cls.bl_idname.endswith(("_add", "_remove"))]
    assert len(classes) == 4
    for cls in classes:
        bpy.utils.register_class(cls)
    try:
        for kind in ("prompt", "lora"):
            add, remove = (getattr(bpy.ops.paintover, f"{kind}_{verb}") for verb in ("add", "remove"))
            assert not remove.poll()
            for text in "abc":
                add()
                getattr(scene.paintover, f"{kind}s")[-1].text = text
            setattr(scene.paintover, f"{kind}_index", 1)
            remove()
            assert [one.text for one in getattr(scene.paintover, f"{kind}s")] == ["a", "c"]
            assert getattr(scene.paintover, f"{kind}_index") == 0
    finally:
        for cls in classes:
            bpy.utils.unregister_class(cls)


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


def test_cameras_that_markers_bind_are_cuts(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    film(scene, tmp_path)
    first = scene.camera
    other = add_camera(scene, location=(-4, -3, 3))
    scene.camera = first
    scene.timeline_markers.new("A", frame=1).camera = first
    scene.timeline_markers.new("B", frame=4).camera = other
    hidden = scene.timeline_markers.new("C", frame=5)
    hidden.camera = add_camera(scene, location=(0, 0, 9))
    hidden.camera.hide_render = True
    scene.camera = first
    task, server = render(session)
    assert [shot.numbers for shot in server.shots.values()] == [(1, 2, 3), (4, 5, 6)]
    begins = {frame.number for frame in server.frames if not frame.links}
    assert begins == {1, 4}
    assert {frame.number: frame.passes.camera.name for frame in server.frames}[5] == other.name
    assert task.pace.done == 6
    scene.timeline_markers[1].frame = 5
    task, server = render(session)
    assert [shot.numbers for shot in server.shots.values()] == [(1, 2, 3, 4), (5, 6)]


def test_steps_and_ranges_that_run_backwards(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    film(scene, tmp_path)
    scene.frame_start, scene.frame_end, scene.frame_step = 0, 10, 4
    scene.paintover.shot_backwards = True
    _, server = render(session)
    (shot,) = server.shots.values()
    assert shot.numbers == (8, 4, 0)
    assert numbers(tmp_path) == ["Scene_0000.png", "Scene_0004.png", "Scene_0008.png"]


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


def test_a_file_that_was_never_saved_needs_a_folder(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    film(scene, tmp_path)
    scene.paintover.shot_folder = "//paintover"
    with pytest.raises(SceneError, match="never saved"):
        start(session)


def test_a_folder_that_cannot_be_written(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    film(scene, tmp_path)
    (tmp_path / "file").write_text("no folder")
    scene.paintover.shot_folder = str(tmp_path / "file" / "frames")
    with pytest.raises(RenderFailed, match="cannot be written"):
        start(session)


def test_a_disk_that_becomes_full(
    session: Session, scene: bpy.types.Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film(scene, tmp_path)
    task, server = start(session), Server(session)
    server.run(task, until=lambda: len(server.kept) >= 2)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        server.run(task)
    assert task.state is TaskState.FAILED
    assert task.error is not None
    assert "No space left" in task.error.message
    assert any(isinstance(message, Cancel) for message in server.got), "the server need not wait for more"
    assert 2 <= len(numbers(tmp_path)) < 6, "no half of a picture"
    server.answer()
    again = start(session)
    server.run(again)
    assert again.state is TaskState.DONE
    assert again.pace.painted < 5


def test_timeline_words() -> None:
    markers = [(10, "paint: red brick"), (20, "cut"), (30, " Paint:  blue ice ")]
    assert [timeline.words_at(markers, frame) for frame in (9, 10, 29, 30)] == [
        None, "red brick", "red brick", "blue ice",
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", [".png", ".exr"])
def test_files_hold_pictures_and_requests(tmp_path: Path, suffix: str) -> None:
    image = np.random.default_rng(1).integers(0, 256, (37, 50, 3), np.uint8)
    image[:20] = 40
    kind = next(name for name, end in files.FORMATS.items() if end == suffix)
    folder = files.Folder(tmp_path, "Shot", kind)
    path = folder.write(-12, image, {"prompt": "grün", "frame": -12})
    assert path.name == f"Shot_-0012{suffix}"
    assert folder.request(-12) == {"prompt": "grün", "frame": -12}
    found = pixels(path)
    if suffix == ".png":
        np.testing.assert_allclose(found * 255, image, atol=0.01)
    else:
        np.testing.assert_allclose(found, files.linear(image), rtol=1e-3, atol=1e-6)
    long = {"prompt": "ü" * 60_000}
    folder.write(7, image, long)
    assert folder.request(7) == long
    assert files.read_request(tmp_path / "nothing.png") is None
    plain = tmp_path / "plain.png"
    plain.write_bytes(textures.png(image))
    assert files.read_request(plain) is None


def test_frames_as_a_strip_and_as_a_video(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    film(scene, tmp_path)
    render(session)
    (tmp_path / "Scene_0001.png").unlink()
    (tmp_path / "Scene_0004.png").unlink()
    folder = files.Folder(tmp_path, "Scene", "PNG")
    names, missing = cutting_room.held(scene, folder)
    assert [int(name[6:10]) for name in names] == [2, 2, 3, 3, 5, 6]
    assert missing == 2
    strip = cutting_room.place(scene, folder, names)
    editor = scene.sequence_editor
    found = (editor.strips if hasattr(editor, "strips") else editor.sequences)[strip]
    assert (int(found.frame_start), len(found.elements)) == (1, 6)
    before = len(bpy.data.scenes), len(bpy.data.images)
    for codec in cutting_room.codecs():
        path = cutting_room.video(scene, folder, names, codec)
        assert path.stat().st_size > 1000
        clip = bpy.data.movieclips.load(str(path))
        assert (clip.frame_duration, tuple(clip.size)) == (6, (96, 64))
        bpy.data.movieclips.remove(clip)
    assert (len(bpy.data.scenes), len(bpy.data.images)) == before
    assert not [name for name in numbers(tmp_path) if ".part" in name]
    assert cutting_room.codecs() == (["H264", "PRORES"] if bpy.app.version >= (4, 5) else ["H264"])
    scene.frame_start, scene.frame_end = 50, 60
    with pytest.raises(SceneError, match="no painted frames"):
        cutting_room.held(scene, folder)


def test_a_connection_that_is_lost_is_made_again(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    film(scene, tmp_path)
    task, server = start(session), Server(session)
    server.run(task, until=lambda: len(server.kept) >= 2)
    session.link.events.clear()  # what was on its way
    session.link.events.append(ConnectionLost())
    session.link.state = LinkState.OFFLINE
    session.tick()
    assert not task.ended
    assert "connecting again" in task.stage
    assert session.reconnects
    session.link.sent.clear()
    session.link.state = LinkState.ONLINE
    task.take_up(session.link)
    assert [message.job for message in session.link.sent if isinstance(message, Follow)] == [task.job]
    server.run(task)
    assert task.state is TaskState.DONE
    assert len(numbers(tmp_path)) == 6


def test_another_file_ends_a_shot(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    film(scene, tmp_path)
    task, server = start(session), Server(session)
    server.run(task, until=lambda: len(server.kept) >= 2)
    session.leave_file()
    assert task.state is TaskState.CANCELLED
    assert Cancel(task.job) in session.link.sent, "nobody else can send its frames"
