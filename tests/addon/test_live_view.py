"""The live view inside Blender, over a scripted link: what is sent when, whose values count, and how it ends."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import bpy
import numpy as np
import pytest

from paintover import cameras, png
from paintover.bridge.errors import NoCamera, OutOfMemory, RenderFailed
from paintover.bridge.live_messages import LiveEvent, LiveJoin, LiveLeave, LiveTrouble, LiveValues
from paintover.bridge.messages import Failure
from paintover.live import events, painter, record, view
from paintover.live.capture import Capture
from paintover.live.painter import LiveView
from paintover.passes import gpu_context
from paintover.session import Session

from ..waiting import wait_until
from .live_session import arrive, go, picture, scripted, settle, turn
from .scenes import add_camera, add_sphere

pytestmark = pytest.mark.usefixtures("registered")


@pytest.fixture
def session(scene: bpy.types.Scene) -> Iterator[Session]:
    with scripted() as made:
        yield made


# ------------------------------------------------------------ frames


def test_only_what_changed_is_sent(session: Session) -> None:
    live = go(session)
    assert isinstance(session.link.sent[0], LiveJoin)  # type: ignore[attr-defined]
    (first,) = settle(session)
    assert first.passes.depth.shape == (64, 64)
    arrive(session, picture(first.number))
    assert live.picture is not None
    assert len(settle(session)) == 1, "nothing has changed"
    turn()
    assert len(settle(session)) == 2
    bpy.data.objects["Sphere"].location.x += 0.1
    _, second, third = settle(session)
    assert second.number < third.number
    arrive(session, picture(third.number))
    bpy.context.scene.camera.data.lens += 5
    assert len(settle(session)) == 4
    arrive(session, LiveValues({"output_width": 128}))
    assert settle(session)[-1].passes.depth.shape == (64, 128)


def test_one_frame_is_painted_and_one_waits(session: Session) -> None:
    live = go(session)
    for _ in range(6):
        turn()
        settle(session)
    frames = settle(session)
    assert len(frames) == painter.IN_FLIGHT == 2
    arrive(session, picture(frames[0].number))
    newest = settle(session)[-1]
    np.testing.assert_array_equal(newest.passes.camera.view, live._present_camera(bpy.context.scene).view)  # type: ignore[union-attr]
    assert len(settle(session)) == 3
    arrive(session, picture(newest.number))  # the one before it was superseded, and never comes
    turn()
    assert len(settle(session)) == 4
    turn()
    assert len(settle(session)) == 5


def test_nothing_is_drawn_while_the_stage_does_not_play(session: Session) -> None:
    go(session, play=False)
    assert not settle(session)
    arrive(session, LiveValues({"play": True}))
    assert len(settle(session)) == 1


def test_pictures_of_other_sources_are_not_taken_for_ones_own(session: Session) -> None:
    live = go(session)
    (frame,) = settle(session)
    arrive(session, picture(-1), picture(frame.number - 1000))
    assert live.picture is None
    arrive(session, picture(frame.number, 10))
    arrive(session, picture(-1), picture(frame.number, 20))
    assert live.picture is not None
    assert live.picture[0, 0, 0] == 20, "the same frame painted once more"


def test_without_a_camera_it_says_so_and_goes_on_when_there_is_one(session: Session) -> None:
    live = go(session)
    camera, bpy.context.scene.camera = bpy.context.scene.camera, None
    settle(session)
    assert isinstance(live.error, NoCamera)
    bpy.context.scene.camera = camera
    frame = settle(session)[-1]
    arrive(session, picture(frame.number))
    assert live.error is None


# ------------------------------------------------------------ events and troubles


def test_events_do_what_their_buttons_do(session: Session) -> None:
    live = go(session)
    arrive(session, LiveEvent("cancel"))
    assert "cancel" in str(live.error)
    arrive(session, LiveEvent("no/such"))
    assert "no/such" in str(live.error)


def test_troubles_are_shown_until_a_painting_arrives(session: Session) -> None:
    live = go(session)
    (frame,) = settle(session)
    arrive(session, LiveTrouble(Failure.of(OutOfMemory(reason="test"))))
    assert isinstance(live.error, OutOfMemory)
    for _ in range(2):  # of frames that are refused no painting comes
        turn()
        frame = settle(session)[-1]
        arrive(session, LiveTrouble(Failure.of(OutOfMemory(reason="test"))))
    turn()
    assert len(settle(session)) == 4
    arrive(session, picture(frame.number))
    assert live.error is None


def test_what_is_known_of_frames_that_are_never_painted_does_not_pile_up(session: Session) -> None:
    live = go(session)
    for _ in range(12):
        turn()
        frames = settle(session)
        arrive(session, LiveTrouble(Failure.of(OutOfMemory(reason="test"))))
        assert len(live._flying) <= painter.IN_FLIGHT
    assert len(frames) > 10
    arrive(session, picture(frames[-2].number))
    assert live._shown == frames[-2].number, "what may still be painted is known"
    assert live.known is not None


def test_the_camera_follows_the_stage(session: Session) -> None:
    scene = bpy.context.scene
    live = go(session)
    scene.camera.location = (0, -5, 0)
    scene.camera.rotation_euler = (np.pi / 2, 0, 0)
    scene.view_layers[0].update()
    settle(session)
    arrive(session, LiveValues({"camera_orbit": 90.0, "camera_elevation": 30.0}))
    settle(session)
    place = np.array(scene.camera.matrix_world.translation)
    # It looked at the ball's front, 1 from the middle: 4 away from there.
    expected = np.array([0, -1, 0]) + 4 * np.array([np.cos(np.radians(30)), 0, 0.5])
    np.testing.assert_allclose(place, expected, atol=1e-3)
    ahead = -np.array(scene.camera.matrix_world)[:3, 2]
    np.testing.assert_allclose(ahead, ([0, -1, 0] - place) / 4, atol=1e-3)
    arrive(session, LiveValues({"camera_distance": 9.0}))
    settle(session)
    assert np.linalg.norm(np.array(scene.camera.matrix_world.translation) - [0, -1, 0]) == pytest.approx(9, abs=1e-3)
    assert live.error is None


def test_the_timeline_follows_timecode(session: Session) -> None:
    scene = bpy.context.scene
    scene.frame_start, scene.frame_end, scene.render.fps, scene.render.fps_base = 11, 50, 30, 1.001
    scene.frame_set(20)
    go(session, timeline=0.5)
    settle(session)
    assert scene.frame_current == 20, "it was so before"
    for seconds, frame in ((1.0, 41), (np.float32(7 * 1.001 / 30), 18), (0.0, 11), (3600.0, 50), (-1.0, 50)):
        arrive(session, LiveValues({"timeline": float(seconds)}))
        settle(session)
        assert scene.frame_current == frame
    scene.frame_set(13)
    settle(session)
    assert scene.frame_current == 13, "nobody has sent a time since"


def test_a_camera_stays_where_it_is_when_the_stage_is_joined(session: Session) -> None:
    scene = bpy.context.scene
    add_camera(scene)
    rig = events.Rig()
    before = scene.camera.matrix_world.copy()
    rig.move(scene, scene.view_layers[0], {"camera_orbit": 45.0})
    assert scene.camera.matrix_world == before
    rig.move(scene, scene.view_layers[0], {"camera_orbit": 45.0, "camera_distance": 3.0})
    assert scene.camera.matrix_world != before


# ------------------------------------------------------------ the end


def viewport() -> bpy.types.Area:
    return next(a for a in bpy.context.window_manager.windows[0].screen.areas if a.type == "VIEW_3D")


def test_it_ends_with_its_scene_its_file_and_its_connection(session: Session) -> None:
    go(session)
    scene = bpy.data.scenes.new("Other")
    bpy.context.window.scene = scene
    bpy.data.scenes.remove(bpy.data.scenes["Scene"])
    session.tick()
    assert session.live is None
    assert "gone" in str(session.error)
    painter._parameters.clear()
    live = go(session)
    session.leave_file()
    assert live.closed
    assert session.live is None
    assert isinstance(session.link.sent[-1], LiveLeave)  # type: ignore[attr-defined]
    live = go(session)
    session.disconnect()
    assert live.closed


def test_a_renamed_scene_and_view_layer_stay_live(session: Session) -> None:
    live = go(session)
    (frame,) = settle(session)
    arrive(session, picture(frame.number))
    bpy.context.scene.name = "Renamed"
    bpy.context.view_layer.name = "Renamed, too"
    turn()
    assert len(settle(session)) >= 2
    assert live.error is None


def test_what_another_view_layer_shows_is_painted(session: Session) -> None:
    live = go(session)
    live._viewport = view.Viewport.of(viewport())
    (frame,) = settle(session)
    arrive(session, picture(frame.number))
    layer = bpy.context.scene.view_layers.new("Empty")
    bpy.data.objects["Sphere"].hide_set(True, view_layer=layer)
    frame = settle(session)[-1]
    arrive(session, picture(frame.number))
    assert np.isfinite(frame.passes.depth).any()
    bpy.context.window_manager.windows[0].view_layer = layer
    frame = settle(session)[-1]
    assert np.isinf(frame.passes.depth).all()
    arrive(session, picture(frame.number))
    bpy.context.window_manager.windows[0].scene = bpy.data.scenes.new("Other")
    bpy.data.scenes["Scene"].paintover.live_camera = "VIEWPORT"
    settle(session)
    assert "another scene" in str(live.error)
    assert "'Scene'" in live.error.hint  # type: ignore[union-attr]


def test_a_recording_is_kept_whatever_ends_it(session: Session, tmp_path: Path) -> None:
    bpy.context.scene.paintover.live_folder = str(tmp_path)
    live = go(session)
    (frame,) = settle(session)
    live.recording = recording = record.Recording(bpy.context.scene)
    arrive(session, picture(frame.number))
    session.leave_file()
    assert "another file" in str(session.error)
    assert "Go Live" in session.error.hint  # type: ignore[union-attr]
    assert record.Recording.last is recording, "it can be put on the timeline"
    assert recording.frames >= 1
    assert len(list(recording.path.iterdir())) == recording.frames
    assert record.place(bpy.context.scene, recording.path, recording.files(), 1)


def test_a_closed_viewport_ends_it(session: Session) -> None:
    area = viewport()
    live = LiveView(bpy.context.scene, area)
    session.start_live(live)
    session.tick()
    assert session.live is live
    area.type = "CONSOLE"
    session.tick()
    area.type = "VIEW_3D"
    assert session.live is None
    assert "closed" in str(session.error)


# ------------------------------------------------------------ what is kept


def test_a_recording_plays_as_fast_as_it_was_seen(session: Session, tmp_path: Path) -> None:
    scene = bpy.context.scene
    scene.render.fps, scene.frame_current = 100, 5
    scene.paintover.live_folder = str(tmp_path)
    live = go(session)
    (frame,) = settle(session)
    live.recording = record.Recording(scene)
    begun = time.monotonic()
    for color in (10, 20, 30):
        arrive(session, picture(frame.number, color))
        shown = time.monotonic()  # not before: a machine that stalls makes a painting late, and then it is seen later
        while time.monotonic() < shown + 0.1:
            session.tick()
    recording = live.stop_recording()
    assert recording is not None
    seconds = time.monotonic() - begun
    files = recording.files()
    assert 15 <= len(files) <= 100 * seconds + 2
    assert sorted(path.name for path in recording.path.iterdir()) == files
    colors = []
    for name in files:
        image = bpy.data.images.load(str(recording.path / name))
        colors.append(round(image.pixels[0] * 255))
    assert sorted(set(colors)) == [10, 20, 30]
    assert colors == sorted(colors)
    name = record.place(scene, recording.path, files, 5)
    editor = scene.sequence_editor
    strip = (editor.strips if hasattr(editor, "strips") else editor.sequences)[name]
    assert len(strip.elements) == len(files)
    width, height = bpy.data.images.load(str(recording.path / files[0])).size
    fits = min(scene.render.resolution_x / width, scene.render.resolution_y / height)
    assert strip.transform.scale_x == pytest.approx(fits), "it fills the scene's picture"


def test_a_recording_that_cannot_be_written_says_so(session: Session, tmp_path: Path) -> None:
    scene = bpy.context.scene
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    scene.paintover.live_folder = str(blocked)
    with pytest.raises(Exception, match="cannot be made"):
        record.Recording(scene)
    scene.paintover.live_folder = "//paintings"
    with pytest.raises(Exception, match="never saved"):
        record.Recording(scene)
    scene.paintover.live_folder = " "  # else it would be written to wherever Blender was started
    with pytest.raises(Exception, match="No folder"):
        record.Recording(scene)


def test_what_waits_for_a_slow_disk_when_a_recording_ends_is_written(
    scene: bpy.types.Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.paintover.live_folder = str(tmp_path)
    scene.render.fps = 100
    recording = record.Recording(scene)
    ending = threading.Thread(target=recording.finish)
    write = record._write

    def slow(path: Path, data: bytes) -> None:
        if not ending.ident:  # more comes, and then the end, while the disk is still at the first file
            recording.add(np.full((8, 8, 3), 20, np.uint8))
            recording.add(np.full((8, 8, 3), 30, np.uint8))
            ending.start()
            wait_until(lambda: recording._queue.qsize() == 3, 20)
        write(path, data)

    monkeypatch.setattr(record, "_write", slow)
    recording.add(np.full((8, 8, 3), 10, np.uint8))
    wait_until(lambda: ending.ident and not ending.is_alive(), 20)
    last = bpy.data.images.load(str(recording.path / recording.files()[-1]))
    assert round(last.pixels[0] * 255) == 30
    assert recording.left_out == 0


def test_a_full_disk_leaves_whole_files_alone(scene: bpy.types.Scene, tmp_path: Path) -> None:
    scene.paintover.live_folder = str(tmp_path)
    recording = record.Recording(scene)
    small, large = (np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8) for side in (8, 64))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
    try:
        recording.add(small)
        wait_until(lambda: recording.frames, 5)
        recording.add(large)
        wait_until(lambda: recording.error, 5)
        with pytest.raises(RenderFailed):
            record.snapshot(scene, png.encode(large), "now")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    recording.finish()
    assert sorted(path.name for path in recording.path.iterdir()) == recording.files()
    assert [path.name for path in tmp_path.iterdir()] == [recording.path.name]


def test_a_recording_says_what_ended_it(tmp_path: Path) -> None:
    scene = bpy.context.scene
    scene.paintover.live_folder = str(tmp_path)
    recording = record.Recording(scene)
    recording.add(np.zeros((8, 8, 3), np.uint8))
    recording.add(np.zeros((8, 8, 2), np.uint8))  # no picture
    wait_until(lambda: recording.error, 5)
    assert "recording" in recording.error.message
    recording.add(np.zeros((8, 8, 3), np.uint8))
    recording.finish()
    assert recording.error


def test_where_image_to_image_starts_from_is_the_viewports_own_picture(session: Session) -> None:
    scene = bpy.context.scene
    gpu_context.ensure()
    add_camera(scene, location=(0, -6, 0))
    add_sphere(scene, (0, 0, 1.2))
    scene.view_layers[0].update()
    window = bpy.context.window_manager.windows[0]
    area = next(a for a in window.screen.areas if a.type == "VIEW_3D")
    image = Capture.image((window, area), cameras.from_object(scene, scene.camera, 96, 64))
    assert image.shape == (64, 96, 3)
    assert image.dtype == np.uint8
    upper, lower = image[16, 48].astype(int), image[56, 48].astype(int)
    assert np.abs(upper - lower).max() > 20, "the ball is in the upper half"
    assert np.abs(lower - image[56, 5]).max() <= 2, "no grid, no outline: overlays are left out"
    assert area.spaces.active.overlay.show_overlays
