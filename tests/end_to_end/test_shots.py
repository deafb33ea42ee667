"""Shots, once through: real Blender, a real server, frames on disk; by the operator and by the render engine."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ..server_process import ServerProcess, running
from .conftest import Blender
from .film import CONNECT, FILM, SHOOT, pictures


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("mini"), engine="diffusers") as server:
        yield server


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
