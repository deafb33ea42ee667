"""The live viewport in Blender with a window: a real mouse orbits, a real server paints, and the screen shows it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paintover.bridge.live_messages import LiveJoin, LiveSet, LiveTrigger

from ..server_process import ServerProcess, running
from . import host
from .test_window import OUT, quit_blender

pytestmark = [pytest.mark.skipif(not host.ROOT, reason=host.WHY_NOT), pytest.mark.timeout(1200)]


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServerProcess]:
    with running(tmp_path / "server", engine=getattr(request, "param", "fake")) as process:
        yield process


@pytest.fixture
def blender(tmp_path: Path, addon_zip: Path, server: ServerProcess) -> Iterator[host.Windowed]:
    with host.windowed(tmp_path, addon_zip, "live_scene.py", server.port) as window:
        yield window


def go_live(blender: host.Windowed) -> dict[str, Any]:
    blender.wait_for(lambda state: state["paintover"], "the extension")
    blender.open_tab()
    blender.press("bpy.ops.paintover.connect()")
    blender.wait_for(lambda state: state["paintover"]["online"], "the connection")
    blender.press("bpy.ops.paintover.live_toggle()")
    return blender.wait_for(lambda state: state.get("draws"), "the first painting on the screen")


def middle(screen: np.ndarray, place: dict[str, int]) -> np.ndarray:
    """A painted frame's inner part, float (N, 3)."""
    across, up = (place["right"] - place["left"]) // 4, (place["bottom"] - place["top"]) // 4
    part = screen[place["top"] + up : place["bottom"] - up, place["left"] + across : place["right"] - across]
    return part.reshape(-1, 3).astype(np.float64)


def orbit(blender: host.Windowed) -> None:
    """Drag the middle button over the viewport."""
    viewport = blender.look()["viewport"]
    x, y = viewport["left"] + viewport["width"] // 3, viewport["top"] + viewport["height"] // 2
    blender.move(x, y)
    blender.look()
    blender.x("xdotool", "mousedown", "2")
    for step in range(8):
        blender.move(x + 15 * (step + 1), y)
        blender.look()
    blender.x("xdotool", "mouseup", "2")
    blender.look()


def test_the_viewport_paints_as_it_moves(blender: host.Windowed, server: ServerProcess) -> None:
    first = go_live(blender)
    assert first["prompt"] == "moss"
    state = blender.wait_for(lambda state: state["flying"] == 0, "the frame to be painted")
    shown = middle(blender.screenshot(OUT / "live-1.png"), state["place"])
    assert np.abs(shown - state["color"]).max() <= 2, "the picture is on the screen as it came"
    still = blender.look()["number"]
    for _ in range(20):
        blender.look()
    assert blender.look()["number"] == still, "what stands still is not painted again"

    orbit(blender)
    moved = blender.wait_for(lambda state: state["flying"] == 0, "the last frame")
    assert moved["view"] != first["view"]
    assert moved["number"] > still
    assert moved["draws"] > state["draws"]

    blender.type_into("paintover.prompt", "rusty iron")
    moved = blender.wait_for(lambda state: state["color"] != first["color"], "the other prompt's picture")
    with server.client() as client:
        client.send(LiveJoin())
        client.send(LiveSet({"prompt": "blue ice", "steps": 7}))
        blender.wait_for(lambda state: (state["prompt"], state["steps"]) == ("blue ice", 7), "the stage's values")
        blender.wait_for(lambda state: state["color"] != moved["color"], "their picture")
        blender.do("bpy.context.scene.frame_set(7)")
        blender.do("bpy.ops.ed.undo()")
        for _ in range(5):
            blender.look()
        assert blender.look()["prompt"] == "blue ice", "an undo does not reach the stage"
        client.send(LiveTrigger("cancel"))
        blender.wait_for(lambda state: "Nothing is being painted" in state["trouble"], "why there is nothing to cancel")

    blender.do("bpy.ops.paintover.live_record()")
    blender.do("bpy.data.objects['Suzanne'].location.x = 0.5")
    blender.wait_for(lambda state: state["flying"] == 0 and state["number"] > moved["number"], "a sculpted frame")
    orbit(blender)
    blender.do("bpy.ops.paintover.live_record()")
    state = blender.wait_for(lambda state: state["recorded"], "the recording")
    (folder,) = (blender.work / "live").iterdir()
    assert len(list(folder.glob("*.png"))) == state["recorded"]
    blender.do("bpy.ops.paintover.live_to_timeline()")
    blender.do("bpy.ops.paintover.live_snapshot()")
    assert len(list((blender.work / "live").glob("snapshot*.png"))) == 1
    blender.do("bpy.ops.paintover.live_to_mesh()")
    blender.wait_for(lambda state: state["painted"] == "Paintover Suzanne", "the paint on the mesh")
    blender.do("part('pump')._redraw()")  # there is a new button in the panel
    blender.look()
    blender.screenshot(OUT / "live-2.png")

    blender.press("bpy.ops.paintover.live_toggle()")
    blender.wait_for(lambda state: not state["live"], "the end")
    blender.screenshot(OUT / "live-3.png")
    quit_blender(blender)


def painted_box(screen: np.ndarray, state: dict[str, Any]) -> dict[str, int]:
    """Where the viewport shows the painting's one colour."""
    view = state["viewport"]
    canvas = screen[view["top"] : view["top"] + view["height"], view["left"] : view["left"] + view["width"]]
    there = np.abs(canvas.astype(int) - state["color"]).max(-1) <= 2
    rows, columns = (np.flatnonzero(there.mean(axis) > 0.1) for axis in (1, 0))
    left, top = view["left"], view["top"]
    return {
        "left": left + columns[0], "right": left + columns[-1] + 1, "top": top + rows[0], "bottom": top + rows[-1] + 1
    }  # fmt: skip


CAMERA_VIEW = """
view = scene.viewport().spaces.active.region_3d
view.view_perspective = "CAMERA"
view.view_camera_zoom, view.view_camera_offset = {zoom}, {offset}
scene.viewport().tag_redraw()
"""


def test_the_scenes_camera_is_painted_as_a_whole(blender: host.Windowed) -> None:
    """What its frame shows, 16:9, is what is painted, and lies on that frame; also zoomed and moved."""
    go_live(blender)
    blender.do("bpy.context.scene.paintover.live_camera = 'SCENE'")
    blender.do("scene.viewport().spaces.active.show_region_ui = False")  # it lies over the frame
    for number, (zoom, offset) in enumerate([(0, (0, 0)), (-8, (0.15, -0.1))]):
        before = blender.look()["draws"]
        blender.do(CAMERA_VIEW.format(zoom=zoom, offset=offset))
        state = blender.wait_for(
            lambda now: now["size"] == [344, 192] and not now["flying"] and now["draws"] > before + 1,  # noqa: B023
            "a painting",
        )
        box = painted_box(blender.screenshot(OUT / f"live-camera-{number}.png"), state)
        assert box == pytest.approx(state["camera_frame"], abs=2)
    blender.do("bpy.context.scene.camera.data.shift_x = 0.3")
    state = blender.wait_for(lambda now: now["number"] > state["number"] and not now["flying"], "the shifted camera")
    box = painted_box(blender.screenshot(OUT / "live-camera-shifted.png"), state)
    assert box == pytest.approx(state["camera_frame"], abs=2)
    blender.do("render = bpy.context.scene.render; render.resolution_x, render.resolution_y = 1080, 1920")
    state = blender.wait_for(lambda now: now["size"] == [192, 344] and not now["flying"], "the upright camera")
    blender.do("scene.viewport().tag_redraw()")
    box = painted_box(blender.screenshot(OUT / "live-camera-upright.png"), blender.look())
    assert box == pytest.approx(state["camera_frame"], abs=2)
    quit_blender(blender)


def test_playing_the_timeline(blender: host.Windowed) -> None:
    state = go_live(blender)
    blender.do("bpy.ops.screen.animation_play()")
    playing = blender.wait_for(lambda now: now["number"] > state["number"] + 5, "frames of the timeline")
    assert playing["frame"] != state["frame"]
    blender.do("bpy.ops.screen.animation_cancel()")
    quit_blender(blender)


def test_it_stays_live_when_it_is_maximised_or_out_of_sight(blender: host.Windowed) -> None:
    state = go_live(blender)
    viewport = state["viewport"]
    blender.do("scene.in_viewport(bpy.ops.screen.screen_full_area)")
    blender.wait_for(lambda now: now["viewport"]["height"] > viewport["height"], "the viewport over the whole window")
    before = blender.look()
    orbit(blender)
    state = blender.wait_for(lambda now: now["number"] > before["number"] and not now["flying"], "its paintings")
    assert state["draws"] > before["draws"]
    shown = middle(blender.screenshot(OUT / "live-maximised.png"), state["place"])
    assert np.abs(shown - state["color"]).max() <= 2
    blender.do("bpy.ops.screen.back_to_previous()")
    blender.wait_for(lambda now: now["viewport"]["height"] == viewport["height"], "the layout as it was")

    blender.do("bpy.context.window.workspace = next(one for one in bpy.data.workspaces if one.name != 'Layout')")
    state = blender.wait_for(lambda now: "not on the screen" in now["trouble"], "why nothing is painted")
    assert state["live"]
    blender.do("bpy.context.window.workspace = bpy.data.workspaces['Layout']")
    blender.wait_for(lambda now: now["number"] > state["number"] and not now["trouble"], "its paintings again")
    quit_blender(blender)


def test_a_render_by_the_engine_while_it_is_live(blender: host.Windowed) -> None:
    """The render's window has a graphics context of its own: with it drawing begins anew, and nothing of the old one
    may be left to bring Blender down later."""
    go_live(blender)
    blender.do("bpy.ops.paintover.texture()")
    blender.wait_for(lambda state: state["painted"], "the painted texture")
    blender.do("bpy.context.scene.render.engine = 'PAINTOVER'")
    blender.do("bpy.context.scene.render.resolution_x = bpy.context.scene.render.resolution_y = 128")
    orbit(blender)
    blender.key("F12")
    blender.wait_for(lambda state: state["windows"] == 2 and state["rendering"], "the render's window")
    blender.wait_for(lambda state: not state["rendering"], "the end of the render")
    before = blender.look()["number"]
    blender.key("Escape")
    orbit(blender)
    blender.wait_for(lambda state: state["number"] > before and not state["flying"], "its paintings")
    blender.do("import gc; gc.collect()")
    quit_blender(blender)


@pytest.mark.parametrize("kind", ["plain", "modifiers"])
def test_sculpting(blender: host.Windowed, kind: str) -> None:
    """A stroke is painted while it goes on, not only when it ends."""
    go_live(blender)
    blender.do(f"scene.sculpt({kind!r})")
    before = blender.wait_for(lambda state: state["mode"] == "SCULPT" and state["flying"] == 0, "Sculpt Mode")
    viewport = before["viewport"]
    x, y = viewport["left"] + viewport["width"] // 2, viewport["top"] + viewport["height"] // 2
    blender.move(x - 40, y)
    blender.look()
    blender.x("xdotool", "mousedown", "1")
    surfaces = set()
    for step in range(40):
        blender.move(x - 40 + 2 * step, y - step // 2)
        surfaces.add(blender.look()["surface"])
    blender.screenshot(OUT / f"live-sculpt-{kind}.png")
    assert len(surfaces - {before["surface"]}) >= 3, "what the stroke does is seen while it goes on"
    blender.x("xdotool", "mouseup", "1")
    done = blender.wait_for(lambda state: state["flying"] == 0, "the last frame")
    assert done["number"] > before["number"]
    quit_blender(blender)


@pytest.mark.parametrize("server", ["diffusers"], indirect=True)
def test_a_real_model(blender: host.Windowed) -> None:
    """mini-turbo paints; between its paintings the viewport shows the newest one in the view of the moment."""
    go_live(blender)
    blender.do("bpy.context.scene.paintover.prompt = 'red brick'")
    blender.do("bpy.context.scene.paintover.control_depth = True")
    state = blender.wait_for(lambda state: state["state"] == "running" and not state["flying"], "a painting", 600)
    blender.screenshot(OUT / "live-mini-1.png")
    viewport = state["viewport"]
    x, y = viewport["left"] + viewport["width"] // 3, viewport["top"] + viewport["height"] // 2
    blender.move(x, y)
    blender.look()
    blender.x("xdotool", "mousedown", "2")
    views = []
    for step in range(10):
        blender.move(x + 6 * (step + 1), y)
        views.append(blender.look())
    blender.screenshot(OUT / "live-mini-2.png")
    blender.x("xdotool", "mouseup", "2")
    painted = views[-1]["pictures"] - state["pictures"]
    drawn = views[-1]["draws"] - state["draws"]
    assert views[-1]["view"] != state["view"]
    assert drawn > painted, "more views were shown than painted"
    blender.wait_for(lambda state: not state["flying"], "the last painting", 600)
    blender.screenshot(OUT / "live-mini-3.png")
    blender.do("bpy.context.scene.paintover.live_camera = 'SCENE'")
    blender.look()
    blender.wait_for(lambda state: not state["flying"], "the scene camera's painting", 600)
    blender.screenshot(OUT / "live-mini-4.png")
    quit_blender(blender)


def test_the_show_goes_on(blender: host.Windowed, server: ServerProcess, tmp_path: Path) -> None:
    """The painting process dies, the server dies, the area closes, another file is opened, Blender quits."""
    go_live(blender)
    os.kill(server.worker().pid, signal.SIGKILL)
    before = blender.look()["number"]
    orbit(blender)
    blender.wait_for(lambda state: state["number"] > before and not state["flying"], "paintings of another worker")

    server.process.kill()
    server.process.wait()
    state = blender.wait_for(lambda state: not state["paintover"]["online"], "the loss to be noticed")
    assert state["live"]
    orbit(blender)  # the held painting goes with the view
    assert blender.look()["draws"] > state["draws"]
    with running(tmp_path / "server", "fake", "--port", str(server.port)):
        blender.wait_for(lambda state: state["paintover"]["online"] and state["state"] == "running", "the new server")
        before = blender.look()["number"]
        orbit(blender)
        blender.wait_for(lambda state: state["number"] > before and not state["flying"], "its paintings")

        blender.do("bpy.ops.wm.read_homefile()")
        state = blender.wait_for(lambda state: not state["live"], "the end of what was live in the other file")
        assert state["paintover"]["online"]
        blender.do("bpy.ops.mesh.primitive_monkey_add()")
        blender.do("bpy.ops.paintover.live_toggle()")  # from a timer: no viewport of its own, the scene's camera
        blender.wait_for(lambda state: state["live"] and state["number"] and not state["flying"], "live there")
        quit_blender(blender)
