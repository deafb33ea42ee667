"""What is edited in other modes than Object Mode is seen live: strokes that Blender keeps apart from the mesh, paint,
poses, Edit Mode."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..server_process import running
from . import host
from .test_live_viewport import go_live
from .test_window import OUT, quit_blender

pytestmark = [pytest.mark.skipif(not host.ROOT, reason=host.WHY_NOT), pytest.mark.timeout(1200)]


@pytest.fixture
def blender(tmp_path: Path, addon_zip: Path) -> Iterator[host.Windowed]:
    with (
        running(tmp_path / "server", engine="fake") as process,
        host.windowed(tmp_path, addon_zip, "live_scene.py", process.port) as window,
    ):
        yield window


def settle(blender: host.Windowed) -> dict[str, Any]:
    """Until nothing is under way: then nothing is to be painted as long as nothing changes."""
    number = -1
    for _ in range(20):
        state = blender.wait_for(lambda state: state["flying"] == 0, "the last frame")
        if state["number"] == number:
            return state
        number = state["number"]
        for _ in range(5):
            blender.look()
    raise AssertionError(f"frames are painted while nothing changes\n{state}\n{blender.tail()}")


def stroke(blender: host.Windowed, up: int = 0) -> list[dict[str, Any]]:
    """Drag the left button over Suzanne's face; returns what was seen meanwhile."""
    viewport = blender.look()["viewport"]
    x, y = viewport["left"] + viewport["width"] // 2 - 40, viewport["top"] + viewport["height"] // 2 - up
    blender.move(x, y)
    blender.look()
    blender.x("xdotool", "mousedown", "1")
    seen = []
    for step in range(20):
        blender.move(x + 4 * step, y - step)
        seen.append(blender.look())
    blender.x("xdotool", "mouseup", "1")
    return seen


@pytest.mark.parametrize("kind", ["dyntopo", "multires"])
def test_strokes_that_are_kept_apart_show_when_they_end(blender: host.Windowed, kind: str) -> None:
    go_live(blender)
    blender.do(f"scene.sculpt({kind!r})")
    blender.wait_for(lambda state: state["mode"] == "SCULPT", "Sculpt Mode")
    before = settle(blender)
    blender.screenshot(OUT / f"live-{kind}-0.png")
    meanwhile = stroke(blender)
    assert any("SCULPT_OT_brush_stroke" in state["modal"] for state in meanwhile)
    assert {state["surface"] for state in meanwhile} == {before["surface"]}, "nothing can be seen of it yet"
    blender.wait_for(lambda state: state["surface"] != before["surface"], "what the stroke has done")
    first = settle(blender)
    blender.screenshot(OUT / f"live-{kind}-1.png")
    stroke(blender, up=40)
    blender.wait_for(lambda state: state["surface"] != first["surface"], "what the second stroke has done")
    second = settle(blender)
    blender.screenshot(OUT / f"live-{kind}-2.png")
    blender.do("bpy.ops.ed.undo()")
    blender.wait_for(lambda state: state["surface"] != second["surface"], "the undo")
    undone = settle(blender)
    assert undone["mode"] == "SCULPT", "one step back is one stroke back"
    assert undone["surface"] == pytest.approx(first["surface"], abs=1)
    blender.do("bpy.ops.ed.redo()")
    blender.wait_for(lambda state: state["surface"] != undone["surface"], "the redo")
    redone = settle(blender)
    assert redone["surface"] == pytest.approx(second["surface"], abs=1)
    assert redone["blocks"] == before["blocks"], "nothing stays behind"
    blender.do("bpy.ops.object.mode_set(mode='OBJECT')")
    blender.wait_for(lambda state: state["mode"] == "OBJECT", "Object Mode")
    after = settle(blender)
    blender.screenshot(OUT / f"live-{kind}-3.png")
    assert after["surface"] == pytest.approx(redone["surface"], abs=1), "that is what was sculpted"
    assert after["trouble"] == ""
    quit_blender(blender)


@pytest.mark.parametrize("mode", ["EDIT", "POSE"])
def test_what_is_moved_shows_as_it_moves(blender: host.Windowed, mode: str) -> None:
    go_live(blender)
    blender.do(f"scene.mode({mode!r})")
    blender.wait_for(lambda state: state["mode"] != "OBJECT", "the mode")
    before = settle(blender)
    viewport = before["viewport"]
    x, y = viewport["left"] + viewport["width"] // 2, viewport["top"] + viewport["height"] // 2
    blender.move(x, y)
    blender.key("g")
    surfaces = set()
    for step in range(20):
        blender.move(x + 3 * step, y - step)
        surfaces.add(blender.look()["surface"])
    blender.screenshot(OUT / f"live-{mode.lower()}.png")
    blender.key("Return")
    assert len(surfaces - {before["surface"]}) >= 3
    settle(blender)
    quit_blender(blender)


@pytest.mark.parametrize("mode", ["WEIGHT_PAINT", "VERTEX_PAINT"])
def test_paint_shows_while_a_stroke_goes_on(blender: host.Windowed, mode: str) -> None:
    """Weights by what they do to a modifier; colours where the painting starts from the viewport's picture."""
    go_live(blender)
    blender.do("bpy.context.scene.paintover.live_strength = 0.5")
    blender.do(f"scene.mode({mode!r})")
    blender.wait_for(lambda state: state["mode"] != "OBJECT", "the mode")
    before = settle(blender)
    meanwhile = stroke(blender)
    blender.screenshot(OUT / f"live-{mode.lower()}.png")
    assert any("PAINT_OT" in name for state in meanwhile for name in state["modal"])
    assert len({state["number"] for state in meanwhile} - {before["number"]}) >= 3
    settle(blender)
    quit_blender(blender)
