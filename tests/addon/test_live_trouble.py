"""The live view where something gets in its way: cameras without a direction, files of the same second."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import bpy
import pytest

from paintover.bridge.errors import SceneError
from paintover.bridge.live_messages import LiveValues
from paintover.live import record
from paintover.session import Session

from .live_session import arrive, go, picture, scripted, settle, turn

pytestmark = pytest.mark.usefixtures("registered")


@pytest.fixture
def session(scene: bpy.types.Scene) -> Iterator[Session]:
    with scripted() as made:
        yield made


@pytest.mark.parametrize("scale", [(0, 0, 0), (1, 1, 0)])
def test_a_camera_without_a_direction_is_said_and_goes_on_later(
    session: Session, scale: tuple[float, float, float]
) -> None:
    scene = bpy.context.scene
    live = go(session)
    settle(session)
    scene.camera.scale = scale
    scene.view_layers[0].update()
    arrive(session, LiveValues({"camera_orbit": 90.0}))
    settle(session)
    assert session.live is live, session.error
    scene.camera.scale = (1, 1, 1)
    turn()
    frames = settle(session)
    arrive(session, picture(frames[-1].number))
    arrive(session, LiveValues({"camera_orbit": 45.0}))
    assert settle(session)[-1].number > frames[-1].number


def test_two_recordings_of_one_second_are_two(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = bpy.context.scene
    scene.paintover.live_folder = str(tmp_path)
    live = go(session)
    (frame,) = settle(session)
    monkeypatch.setattr(time, "strftime", lambda form: form)
    paths = []
    for color in (10, 200, 90):
        live.recording = record.Recording(scene)
        arrive(session, picture(frame.number, color))
        recording, live.recording = live.recording, None
        recording.finish()
        paths.append(recording.path)
    first, second, third = (bpy.data.images.load(str(path / "00001.png")).pixels[0] * 255 for path in paths)
    assert (round(first), round(second), round(third)) == (10, 200, 90)


def test_a_recording_whose_folder_is_gone_is_no_strip(scene: bpy.types.Scene, tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="no longer in"):
        record.place(scene, tmp_path / "gone", ["00001.png", "00002.png"], 1)


def test_two_snapshots_of_one_second_are_two(scene: bpy.types.Scene, tmp_path: Path) -> None:
    scene.paintover.live_folder = str(tmp_path / "snapshots")
    paths = [record.snapshot(scene, content, "now") for content in (b"one", b"two", b"three")]
    assert [path.read_bytes() for path in paths] == [b"one", b"two", b"three"]
    assert sorted(paths) == sorted((tmp_path / "snapshots").iterdir())
    assert {path.suffix for path in paths} == {".png"}
