"""Passes as files: wherever the artist wants them, and an error where nothing comes of it."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
import pytest

from paintover.bridge.errors import RenderFailed
from paintover.bridge.scene import Camera, Passes
from paintover.operators.export_passes import export
from paintover.passes import exr

MAGIC = bytes([0x76, 0x2F, 0x31, 0x01])
"""The first bytes of an OpenEXR file (OpenEXR File Layout)."""


def wall() -> Passes:
    """What a camera sees of nothing but a wall, 2 in front of it."""
    lens = np.array([[2.0, 0, 0, 0], [0, 2, 0, 0], [0, 0, -1.002, -0.2], [0, 0, -1, 0]])
    depth, normal = np.full((64, 64), 2, np.float32), np.zeros((64, 64, 3), np.float16)
    normal[..., 2] = 1
    edge, ids = np.zeros((64, 64), np.uint8), np.ones((64, 64), np.uint16)
    return Passes(Camera("Camera", np.eye(4), lens, 64, 64), depth, normal, edge, ids, {"1": "Wall"})


@pytest.mark.parametrize("name", ["a {b} c", "{blend_name}", "{{x}}", "}{", "100% #1 ###", "plain"])
def test_a_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    export(wall(), folder)
    names = {"passes.exr", "camera.json", "depth.png", "normal.png", "edge.png", "object_id.png"}
    assert {path.name for path in folder.iterdir()} == names
    assert [path.name for path in tmp_path.iterdir()] == [name], "and nothing beside it"
    exact = (folder / "passes.exr").read_bytes()
    assert exact.startswith(MAGIC)
    assert b"Object ID.X" in exact


def test_what_was_not_written_is_said_with_a_next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, set_up = tmp_path / "passes.exr", exr._set_up
    path.write_bytes(MAGIC + b"of yesterday")

    def elsewhere(render: bpy.types.RenderSettings, width: int, height: int, _: Path) -> None:
        set_up(render, width, height, tmp_path / "elsewhere.exr")

    monkeypatch.setattr(exr, "_set_up", elsewhere)
    with pytest.raises(RenderFailed, match="was not written") as error:
        exr.save(wall(), path)
    assert "another folder" in error.value.hint
    assert path.read_bytes() == MAGIC + b"of yesterday", "what was there is not lost for that"
    monkeypatch.undo()
    exr.save(wall(), path)
    assert path.stat().st_size > 1000
    assert {file.name for file in tmp_path.iterdir()} == {"passes.exr", "elsewhere.exr"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device without room")
def test_a_full_disk_is_said(tmp_path: Path) -> None:
    """Blender says of this one that it saved it."""
    (tmp_path / "passes.exr.part").symlink_to("/dev/full")
    with pytest.raises(RenderFailed, match="was not written"):
        exr.save(wall(), tmp_path / "passes.exr")
    assert list(tmp_path.iterdir()) == []
