"""Files of a shot: pictures with their requests, strips and videos, folders and disks that fail."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import bpy
import numpy as np
import pytest

from paintover import png
from paintover.animate import cutting_room, files
from paintover.bridge.errors import RenderFailed, SceneError
from paintover.bridge.messages import Cancel
from paintover.session import Session
from paintover.tasks import TaskState

from .shots import Server, film, numbers, pixels, render, start

pytestmark = pytest.mark.usefixtures("registered")


def test_a_file_that_was_never_saved_needs_a_folder(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    film(scene, tmp_path)
    scene.paintover.shot_folder = "//paintover"
    with pytest.raises(SceneError, match="never saved"):
        start(session)
    scene.paintover.shot_folder = ""  # else the frames would go to wherever Blender was started
    with pytest.raises(SceneError, match="No folder"):
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
    plain.write_bytes(png.encode(image))
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
    fits = min(scene.render.resolution_x / 96, scene.render.resolution_y / 64)
    assert found.transform.scale_x == pytest.approx(fits), "it fills the scene's picture, not its middle"
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
