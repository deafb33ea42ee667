"""Shots, once through: real Blender, a real server, frames on disk; by the operator and by the render engine."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ..server_process import ServerProcess, running
from .conftest import Blender

FILM = """
install()
scene, ob = bpy.context.scene, cube()
camera()
for frame, x in ((1, -1.0), (8, 1.0)):
    ob.location.x = x
    ob.keyframe_insert("location", frame=frame)
scene.frame_start, scene.frame_end = 1, 8
scene.render.resolution_x, scene.render.resolution_y = 192, 128
settings = scene.paintover
settings.prompt, settings.seed, settings.size, settings.steps, settings.animate_interval = "moss", 3, 192, 4, 4
settings.shot_folder = os.path.abspath("frames")
scene.render.filepath = os.path.abspath("rendered") + "/"
scene.view_settings.view_transform = "Standard"
scene.frame_set(3)
bpy.ops.wm.save_as_mainfile(filepath=os.path.abspath("film.blend"))
"""
CONNECT = "tell(connected=list(bpy.ops.paintover.connect()))\n"
SHOOT = FILM + CONNECT + "tell(painted=list(bpy.ops.paintover.render_shot()))\n"


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("mini"), engine="diffusers") as server:
        yield server


def pictures(folder: Path) -> dict[str, np.ndarray]:
    found = {}
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as picture:
            found[path.name] = np.asarray(picture.convert("RGB"))
    return found


def test_a_shot_by_mini_and_what_is_made_of_it(blender: Blender, mini: ServerProcess) -> None:
    told = blender.run(
        SHOOT
        + """
task = part("session").session.tasks[-1]
tell(notes=task.notes, frame=scene.frame_current, x=round(ob.location.x, 4))
tell(again=list(bpy.ops.paintover.render_shot()), fresh=part("session").session.tasks[-1].pace.painted)
tell(strip=list(bpy.ops.paintover.shot_to_sequencer()), video=list(bpy.ops.paintover.shot_to_video(codec="H264")))
settings.look_every = 3
tell(look=list(bpy.ops.paintover.look_first()), words=part("session").session.tasks[-1].notes[-1])
bpy.data.images["Paintover Look First"].save(filepath=os.path.abspath("sheet.png"))
""",
        port=mini.port,
        timeout=500,
    )
    assert told["painted"] == told["again"] == told["strip"] == told["video"] == told["look"] == ["FINISHED"]
    assert told["fresh"] == 0, "the same scene gives the same fingerprints"
    assert told["frame"] == 3
    assert told["x"] == pytest.approx(-1 + 2 * 0.198, abs=0.05), "where frame 3 has it"
    frames = pictures(blender.folder / "frames")
    assert list(frames) == [f"Scene_{number:04}.png" for number in range(1, 9)]
    assert (blender.folder / "frames" / "Scene.mp4").stat().st_size > 2000
    first, last = frames["Scene_0001.png"].astype(float), frames["Scene_0008.png"].astype(float)
    assert first.shape == (128, 192, 3)
    assert abs(first - last).mean() > 3, "the cube moves"
    greens = first[50:78, 40:70].mean((0, 1))
    assert greens[1] > greens[2], f"moss is green: {greens}"
    assert "roughly" in told["words"]


def test_frames_outlive_blender(blender: Blender, fake_server: ServerProcess, tmp_path: Path, addon_zip: Path) -> None:
    whole = Blender(tmp_path / "whole", addon_zip)
    whole.folder.mkdir()
    assert whole.run(SHOOT, port=fake_server.port)["painted"] == ["FINISHED"]
    process = blender.start(SHOOT, port=fake_server.port)
    assert process.stdout is not None
    for line in process.stdout:
        if "Frame 3 of 8" in line:
            break
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    process.stdout.close()
    kept = pictures(blender.folder / "frames")
    assert 3 <= len(kept) < 8
    told = blender.run(SHOOT + 'tell(fresh=part("session").session.tasks[-1].pace.painted)', port=fake_server.port)
    assert told["painted"] == ["FINISHED"]
    assert told["fresh"] == 8 - len(kept)
    assert not list((blender.folder / "frames").glob("*.part*"))
    found, wanted = pictures(blender.folder / "frames"), pictures(whole.folder / "frames")
    assert list(found) == list(wanted)
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted), "as if nothing had happened"


def test_frames_outlive_the_server(blender: Blender, addon_zip: Path, tmp_path: Path) -> None:
    with running(tmp_path / "first") as first:
        port = first.port
        process = blender.start(SHOOT.replace("frame_end = 1, 8", "frame_end = 1, 40"), port=port)
        assert process.stdout is not None
        for line in process.stdout:
            if "Frame 3 of" in line:
                break
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait(60)
    with running(tmp_path / "first", "fake", "--port", str(port)):
        told = blender.finish(process)
    assert told["painted"] == ["FINISHED"]
    assert len(pictures(blender.folder / "frames")) == 40


def test_two_blenders_share_a_server(
    blender: Blender, fake_server: ServerProcess, addon_zip: Path, tmp_path: Path
) -> None:
    other = Blender(tmp_path / "other", addon_zip)
    other.folder.mkdir()
    processes = [one.start(SHOOT, port=fake_server.port) for one in (blender, other)]
    told = [one.finish(process) for one, process in zip((blender, other), processes, strict=True)]
    assert [one["painted"] for one in told] == [["FINISHED"], ["FINISHED"]]
    mine, theirs = pictures(blender.folder / "frames"), pictures(other.folder / "frames")
    assert len(mine) == 8
    assert all(np.array_equal(mine[name], theirs[name]) for name in mine), "the same scene, whoever was first"


ENGINE = FILM + 'scene.render.engine = "PAINTOVER"\n'


def test_the_render_engine_paints_an_animation(blender: Blender, fake_server: ServerProcess) -> None:
    told = blender.run(
        ENGINE
        + """
scene.render.resolution_x, scene.render.resolution_y = 384, 256
tell(rendered=list(bpy.ops.render.render(animation=True)))
tell(shots=len(part("render_engine")._shots), frame=scene.frame_current)
bpy.ops.paintover.connect()
bpy.ops.paintover.render_shot()
""",
        port=fake_server.port,
    )
    assert told["rendered"] == ["FINISHED"]
    assert told["shots"] == 0
    rendered, painted = pictures(blender.folder / "rendered"), pictures(blender.folder / "frames")
    assert list(rendered) == [f"{number:04}.png" for number in range(1, 9)]
    for number in range(1, 9):
        picture = rendered[f"{number:04}.png"]
        assert picture.shape == (256, 384, 3), "in the render's own size"
        small = picture.reshape(128, 2, 192, 2, 3).mean((1, 3))
        difference = abs(small - painted[f"Scene_{number:04}.png"])
        assert np.median(difference) <= 2, "the frames are those that Render Shot paints"


def test_f12_and_its_passes(blender: Blender, fake_server: ServerProcess) -> None:
    told = blender.run(
        ENGINE
        + """
import numpy as np
image = scene.render.image_settings
if hasattr(image, "media_type"):
    image.media_type = "MULTI_LAYER_IMAGE"
image.file_format, image.color_depth = "OPEN_EXR_MULTILAYER", "32"
scene.render.filepath = os.path.abspath("still.exr")
scene.render.film_transparent = True
tell(rendered=list(bpy.ops.render.render(write_still=True)))
""",
        port=fake_server.port,
    )
    assert told["rendered"] == ["FINISHED"]
    head = (blender.folder / "still.exr").read_bytes()[:20000]
    for name in (b"Depth.Z", b"Normal.X", b"Edge.X", b"Object ID.X", b"Motion.X", b"Combined.A"):
        assert name in head, f"{name!r} is not in the file"


def test_f12_without_a_server_or_a_camera_says_so(blender: Blender, fake_server: ServerProcess) -> None:
    told = blender.run(
        ENGINE
        + """
preferences = bpy.context.preferences.addons[MODULE].preferences
port, preferences.port = preferences.port, 1
tell(nobody=failure(bpy.ops.render.render))
preferences.port = port
markers = scene.timeline_markers
bpy.data.objects.remove(scene.camera)
tell(blind=failure(bpy.ops.render.render))
""",
        port=fake_server.port,
    )
    assert "No Paintover server answers" in told["nobody"]
    assert "camera" in told["blind"].lower()


def test_what_stands_in_the_way_is_said(blender: Blender, fake_server: ServerProcess) -> None:
    told = blender.run(
        FILM
        + CONNECT
        + """
Path("file").write_text("")
settings.shot_folder = os.path.abspath("file/frames")
tell(unwritable=failure(bpy.ops.paintover.render_shot))
settings.shot_folder = os.path.abspath("frames")
tell(nothing=failure(bpy.ops.paintover.shot_to_video))
bpy.data.objects.remove(scene.camera)
tell(blind=failure(bpy.ops.paintover.render_shot))
""",
        port=fake_server.port,
    )
    assert "cannot be written" in told["unwritable"]
    assert "Animate > Output" in told["unwritable"]
    assert "Render Shot" in told["nothing"]
    assert "no camera" in told["blind"]
