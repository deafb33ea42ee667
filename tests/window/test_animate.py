"""A shot in Blender with a window: the panel's own buttons, Esc, and the render engine in its thread."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paintover.bridge.messages import CANCELLED, DONE, FAILED, QUEUED, RUNNING, Jobs, JobSummary, ListJobs

from ..server.shot_client import shot
from ..server_process import ServerProcess, running
from ..waiting import wait_until
from . import host
from .test_window import OUT, quit_blender

pytestmark = [pytest.mark.skipif(not host.ROOT, reason=host.WHY_NOT), pytest.mark.timeout(1200)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with running(tmp_path / "server") as process:
        yield process


@pytest.fixture
def blender(tmp_path: Path, addon_zip: Path, server: ServerProcess) -> Iterator[host.Windowed]:
    with host.windowed(tmp_path, addon_zip, "animate_scene.py", server.port) as window:
        yield window


def connect(blender: host.Windowed) -> None:
    blender.wait_for(lambda state: state["paintover"], "the extension")
    blender.open_tab()
    blender.press("bpy.ops.paintover.connect()")
    blender.wait_for(lambda state: state["paintover"]["online"], "the connection")


def last(state: dict[str, Any]) -> dict[str, Any]:
    tasks = state["paintover"]["tasks"]
    return tasks[-1] if tasks else {}


def scene_of(state: dict[str, Any]) -> tuple[Any, ...]:
    return state["frame"], state["turn"], state["x"], state["scenes"]


def test_a_shot_is_painted_while_the_artist_works(blender: host.Windowed) -> None:
    connect(blender)
    before = scene_of(blender.look())
    blender.screenshot(OUT / "animate-1-panel.png")
    blender.do("bpy.context.scene.paintover.look_every = 20")
    blender.press("bpy.ops.paintover.look_first()")
    blender.wait_for(lambda state: state["sheet"] and last(state)["state"] == "DONE", "the contact sheet")
    blender.look()
    blender.press("bpy.ops.paintover.render_shot()")
    blender.wait_for(lambda state: len(state["frames"]) >= 3, "the first frames")
    blender.look()
    blender.screenshot(OUT / "animate-2-painting.png")
    state = blender.look()
    assert scene_of(state) == before, "the scene stays at its own frame, with what is not keyed"
    viewport = state["viewport"]
    blender.move(viewport["left"] + viewport["width"] / 2, viewport["top"] + viewport["height"] / 2)
    blender.key("Escape")
    state = blender.wait_for(lambda state: last(state)["state"] == "CANCELLED", "Esc")
    there = len(state["frames"])
    assert 3 <= there < 60
    blender.do("bpy.context.scene.frame_end = 24")
    blender.press("bpy.ops.paintover.render_shot()")
    state = blender.wait_for(lambda state: last(state)["state"] in ("DONE", "FAILED"), "the rest")
    assert last(state)["error"] == ""
    assert {f"Scene_{number:04}.png" for number in range(1, 25)} <= set(state["frames"])
    assert scene_of(state) == before
    blender.screenshot(OUT / "animate-3-done.png")
    quit_blender(blender)


def test_render_shot_can_be_pressed_again_where_the_mouse_is(blender: host.Windowed) -> None:
    connect(blender)
    blender.do("bpy.context.scene.frame_end = 4")
    button = "bpy.ops.paintover.render_shot()"
    for count in (1, 2):  # the first time there is no outcome above the button yet, and it moves
        blender.do("import shutil; shutil.rmtree('/mnt/frames', ignore_errors=True)")
        blender.press(button)
        blender.wait_for(
            lambda state, count=count: [task["state"] for task in state["paintover"]["tasks"]] == ["DONE"] * count,
            "the shot",
        )
    blender.look()
    shown = blender.screenshot(OUT / "animate-6-again.png")
    x, y = blender.find(button)
    words = shown[y - 4 : y + 12, x - 60 : x + 20]
    assert words.max() > 200, "they are white: it is no longer greyed out"
    quit_blender(blender)


def test_f12_in_a_window(blender: host.Windowed) -> None:
    connect(blender)
    before = scene_of(blender.look())
    blender.do("bpy.context.scene.render.engine = 'PAINTOVER'")
    blender.do("bpy.context.scene.frame_end = 6")
    blender.do("bpy.context.scene.render.filepath = '/mnt/rendered/'")
    blender.do("bpy.ops.render.render('INVOKE_DEFAULT', animation=True)")
    rendered = blender.work / "rendered"
    blender.wait_for(
        lambda state: len(list(rendered.glob("*.png"))) == 6 and not state["rendering"], "the animation", timeout=400
    )
    assert scene_of(blender.look()) == before
    blender.screenshot(OUT / "animate-4-f12.png")
    pictures = [np.asarray(host.Image.open(path).convert("RGB")) for path in sorted(rendered.glob("*.png"))]
    assert all(picture.shape == (256, 384, 3) and picture.std() > 5 for picture in pictures)
    assert (pictures[0] != pictures[-1]).any()
    blender.do("scene.viewport().spaces.active.shading.type = 'RENDERED'")
    blender.do("scene.viewport().spaces.active.region_3d.view_perspective = 'CAMERA'")
    for _ in range(10):
        blender.look()
    shown = blender.screenshot(OUT / "animate-5-rendered.png")
    viewport = blender.look()["viewport"]
    middle = shown[
        viewport["top"] + viewport["height"] // 3 : viewport["top"] + 2 * viewport["height"] // 3,
        viewport["left"] + viewport["width"] // 3 : viewport["left"] + 2 * viewport["width"] // 3,
    ]
    assert middle.std() > 10, "the newest frame is there"
    quit_blender(blender)


def test_both_at_once(blender: host.Windowed) -> None:
    """The server does one shot at a time, and Blender renders or reads frames for a shot: neither waits for ever."""
    connect(blender)
    rendered = blender.work / "rendered"
    blender.do("bpy.context.scene.frame_end = 40")
    blender.do("bpy.context.scene.render.engine = 'PAINTOVER'")
    blender.do("bpy.context.scene.render.filepath = '/mnt/rendered/'")
    blender.press("bpy.ops.paintover.render_shot()")
    blender.wait_for(lambda state: len(state["frames"]) >= 3, "the first frames")
    blender.do("bpy.ops.render.render('INVOKE_DEFAULT', animation=True)")
    state = blender.wait_for(
        lambda state: not state["rendering"] and last(state)["state"] in ("DONE", "FAILED"), "both", timeout=120
    )
    assert (last(state)["state"], last(state)["error"]) == ("DONE", "")
    assert len(state["frames"]) == len(list(rendered.glob("*.png"))) == 40
    blender.do("bpy.ops.paintover.render_shot('INVOKE_DEFAULT', again=True)")
    blender.wait_for(lambda state: last(state)["stage"].startswith("Frame"), "the shot, once more")
    blender.do("bpy.ops.render.render('INVOKE_DEFAULT', animation=True)")
    blender.wait_for(lambda state: last(state)["stage"] == "Waiting for Blender's render", "the render's turn")
    blender.do("part('session').session.cancel()")
    blender.wait_for(lambda state: last(state)["state"] == "CANCELLED", "that it is let go")
    blender.wait_for(lambda state: not state["rendering"], "the render alone", timeout=120)
    quit_blender(blender)


def test_the_window_of_a_render_may_be_closed(blender: host.Windowed) -> None:
    """What was drawn on the graphics card while it was there must not take Blender along, when it is freed later."""
    connect(blender)
    blender.do("bpy.context.scene.render.engine = 'PAINTOVER'")
    blender.do("bpy.context.scene.frame_end = 3")
    blender.do("bpy.context.scene.render.filepath = '/mnt/rendered/'")
    blender.do("bpy.context.preferences.view.render_display_type = 'WINDOW'")
    blender.do("bpy.ops.wm.save_as_mainfile(filepath='/mnt/film.blend')")  # of one window
    blender.do("bpy.ops.wm.open_mainfile(filepath='/mnt/film.blend')")
    viewport = blender.look()["viewport"]
    blender.move(viewport["left"] + 300, viewport["top"] + 300)
    blender.x("xdotool", "key", "ctrl+F12")
    rendered = blender.work / "rendered"
    blender.wait_for(lambda state: len(list(rendered.glob("*.png"))) == 3 and not state["rendering"], "the animation")
    assert blender.look()["windows"] == 2
    blender.do("bpy.ops.wm.open_mainfile(filepath='/mnt/film.blend')")
    blender.wait_for(lambda state: state["windows"] == 1, "the end of the render's window")
    blender.do("bpy.ops.paintover.render_shot('INVOKE_DEFAULT')")
    blender.wait_for(lambda state: last(state).get("state") == "DONE", "a shot")
    quit_blender(blender)


def jobs(server: ServerProcess) -> list[JobSummary]:
    with server.client() as client:
        client.send(ListJobs())
        while not isinstance(message := client.receive(60), Jobs):
            pass
        return list(message.jobs)


def test_esc_ends_a_render(blender: host.Windowed, server: ServerProcess) -> None:
    blender.wait_for(lambda state: state["paintover"], "the extension")
    blender.do("bpy.context.scene.render.engine = 'PAINTOVER'")
    blender.do("bpy.context.scene.paintover.steps = 100")  # the fake engine takes a second for each keyframe
    blender.do("bpy.context.scene.render.filepath = '/mnt/rendered/'")
    rendered = blender.work / "rendered"
    state = blender.look()
    blender.move(state["viewport"]["left"] + 200, state["viewport"]["top"] + 200)
    blender.do("bpy.ops.render.render('INVOKE_DEFAULT', animation=True)")
    blender.wait_for(lambda state: list(rendered.glob("*.png")), "the first frame")
    assert [job.state for job in jobs(server)] == [RUNNING]
    escape(blender)
    wait_until(lambda: [job.state for job in jobs(server)] == [CANCELLED])
    with server.client() as other:
        other.submit(shot())  # of which no frame comes: what Blender asks for now has to wait
        wait_until(lambda: jobs(server)[-1].state == RUNNING)
        blender.do("bpy.ops.render.render('INVOKE_DEFAULT')")
        wait_until(lambda: jobs(server)[-1].state == QUEUED)
        blender.do("scene.viewport().tag_redraw()")
        blender.look()  # Blender goes on meanwhile, as with any other engine
        escape(blender)
        wait_until(lambda: jobs(server)[-1].state == CANCELLED)
        other.cancel(jobs(server)[1].job)
    there = sorted(rendered.iterdir())
    assert 1 <= len(there) < 60
    for path in there:
        with host.Image.open(path) as picture:
            assert np.asarray(picture.convert("RGB")).std() > 5, f"{path.name} is whole"
    blender.do("bpy.context.scene.paintover.steps = 4")
    blender.do("bpy.context.scene.frame_end = 3")
    blender.do("bpy.context.scene.render.filepath = '/mnt/again/'")
    blender.do("bpy.ops.render.render('INVOKE_DEFAULT', animation=True)")
    again = blender.work / "again"
    blender.wait_for(lambda state: len(list(again.glob("*.png"))) == 3 and not state["rendering"], "the next render")
    blender.do("bpy.ops.render.render('INVOKE_DEFAULT')")
    blender.wait_for(lambda state: not state["rendering"] and jobs(server)[-1].state == DONE, "F12")
    assert not [job for job in jobs(server) if job.state in (RUNNING, FAILED)]
    quit_blender(blender)


def escape(blender: host.Windowed) -> None:
    blender.key("Escape")
    blender.wait_for(lambda state: not state["rendering"], "Esc")
