"""Fix Range for Shot in Blender with a window: Esc ends it, and the scene is as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from . import host

OPERATOR = "PAINTOVER_OT_fix_range"

pytestmark = [pytest.mark.skipif(not host.ROOT, reason=host.WHY_NOT), pytest.mark.timeout(600)]


@pytest.fixture
def blender(tmp_path: Path, addon_zip: Path) -> Iterator[host.Windowed]:
    with host.windowed(tmp_path, addon_zip, "fix_range_scene.py") as window:
        window.wait_for(lambda state: state["paintover"], "the extension")
        yield window


def test_escape_ends_it_and_the_scene_is_as_before(blender: host.Windowed) -> None:
    viewport = blender.look()["viewport"]
    blender.move(viewport["left"] + viewport["width"] / 2, viewport["top"] + viewport["height"] / 2)
    before = blender.look()
    assert before["scene"]["frame"][:2] == [7, 0.25]
    assert before["running"] == []

    blender.do("scene.fix_range()")
    blender.wait_for(lambda state: state["frame"] in range(8, 50_000), "the first frames of the shot")
    state = blender.look()
    assert state["running"] == [OPERATOR]
    assert state["scene"]["objects"]["Ball"] != before["scene"]["objects"]["Ball"]
    blender.key("Escape")
    blender.wait_for(lambda state: not state["running"], "the end of the operator")
    for _ in range(5):
        assert blender.look()["scene"] == before["scene"]

    # It was Esc that ended it: a short shot ends by itself, and has a range.
    blender.do("bpy.context.scene.frame_end = 3; scene.fix_range()")
    after = blender.wait_for(lambda state: state["scene"]["settings"]["depth_range"] == "fixed", "the range")["scene"]
    assert after["frame"][:2] == [7, 0.25]
    assert 0 < float(after["settings"]["depth_near"]) < float(after["settings"]["depth_far"])
