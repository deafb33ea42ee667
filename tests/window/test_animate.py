"""A shot in Blender with a window: the panel's own buttons, Esc, and the render engine in its thread."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ..server_process import ServerProcess, running
from . import host
from .test_window import OUT, quit_blender

pytestmark = [pytest.mark.skipif(not host.ROOT, reason=host.WHY_NOT), pytest.mark.timeout(1200)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with running(tmp_path / "server") as process:
        yield process


@pytest.fixture
def blender(tmp_path: Path, server: ServerProcess) -> Iterator[host.Windowed]:
    with host.windowed(tmp_path, "animate_scene.py", server.port) as window:
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
