"""An artist's first session, in Blender with a window: the zip, the panel's real buttons under a real mouse, and what
is then to be seen on the screen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ..server_process import ServerProcess, running
from . import host

OUT = Path(__file__).parents[2] / "out" / "window"

pytestmark = [pytest.mark.skipif(not host.ROOT, reason=host.WHY_NOT), pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with the real engine, and so with mini."""
    with running(tmp_path_factory.mktemp("server"), engine="diffusers") as process:
        yield process


@pytest.fixture
def blender(tmp_path: Path, addon_zip: Path, server: ServerProcess) -> Iterator[host.Windowed]:
    with host.windowed(tmp_path, addon_zip, "scene.py", server.port) as window:
        yield window


def ball(screen: np.ndarray, state: dict[str, Any]) -> np.ndarray:
    """The ball's pixels, float (N, 3)."""
    place = state["ball"]
    part = screen[place["top"] : place["bottom"], place["left"] : place["right"]]
    return part.reshape(-1, 3).astype(np.float64)


def red(pixels: np.ndarray) -> float:
    """How much redder than green and blue the pixels are on average, -255…255."""
    return float((pixels[:, 0] - pixels[:, 1:].max(1)).mean())


def last(state: dict[str, Any]) -> dict[str, Any]:
    """The newest task; empty if there is none."""
    tasks = state["paintover"]["tasks"]
    return tasks[-1] if tasks else {}


SHOW = 'bpy.ops.wm.context_set_enum(data_path="space_data.shading.type", value="MATERIAL")'


def wait_for_color(blender: host.Windowed, picture: str, wanted: Callable[[float], bool]) -> float:
    """Take screenshots until the ball's redness is as `wanted`: Blender compiles its shader first. Returns it."""
    until = time.monotonic() + 60
    while True:
        state = blender.look()
        found = red(ball(blender.screenshot(OUT / picture), state))
        if wanted(found):
            return found
        assert time.monotonic() < until, f"the ball's redness is {found:.0f} in out/window/{picture}"


def test_an_artists_first_session(blender: host.Windowed) -> None:
    blender.wait_for(lambda state: state["paintover"], "the extension")
    blender.open_tab()
    blender.press("bpy.ops.paintover.connect()")
    blender.wait_for(lambda state: state["paintover"]["online"], "the connection")
    blender.type_into("paintover.prompt", "red")
    plain = wait_for_color(blender, "1-before.png", lambda found: True)

    def is_painted(found: float) -> bool:
        return found > plain + 60

    def is_plain(found: float) -> bool:
        return abs(found - plain) < 10

    blender.press("bpy.ops.paintover.texture()")
    blender.wait_for(lambda state: last(state).get("preview"), "the first preview")
    blender.look()
    blender.screenshot(OUT / "2-painting.png")
    state = blender.wait_for(lambda state: last(state)["state"] == "DONE", "the texture")
    assert last(state)["coverage"]["Ball"] > 0.95
    assert state["material"] == "Paintover Ball"
    assert state["shown"] == "SOLID", "Blender's own choice, which shows no textures"
    blender.screenshot(OUT / "3-painted-in-solid-view.png")
    blender.press(SHOW)
    blender.wait_for(lambda state: state["shown"] == "MATERIAL", "Material Preview")
    wait_for_color(blender, "3-painted.png", is_painted)

    blender.do("bpy.context.scene.paintover.steps = 150")  # time enough to cancel
    blender.type_into("paintover.prompt", "green")
    blender.press("bpy.ops.paintover.texture()")
    blender.wait_for(lambda state: last(state)["state"] == "RUNNING" and last(state)["fraction"] > 0, "a second job")
    blender.press(f'bpy.ops.paintover.cancel(job="{last(blender.look())["job"]}")')
    blender.wait_for(lambda state: last(state)["state"] == "CANCELLED", "its end")
    wait_for_color(blender, "4-cancelled.png", is_painted)

    viewport = blender.look()["viewport"]
    blender.move(viewport["left"] + viewport["width"] / 2, viewport["top"] + viewport["height"] - 60)
    blender.key("ctrl+z")  # the green prompt
    blender.key("ctrl+z")  # the painting
    blender.wait_for(lambda state: state["material"] == "", "the undo")
    wait_for_color(blender, "5-undone.png", is_plain)
    blender.key("ctrl+shift+z")
    blender.wait_for(lambda state: state["material"] == "Paintover Ball", "the redo")
    wait_for_color(blender, "6-redone.png", is_painted)
    blender.press("bpy.ops.paintover.revert()")
    blender.wait_for(lambda state: state["material"] == "", "the old material")
    wait_for_color(blender, "7-reverted.png", is_plain)

    blender.do("open_preferences()")
    blender.wait_for(lambda state: state["windows"] == 2, "the preferences")
    blender.x("xdotool", "search", "--sync", "--name", "Preferences", "windowmove", "300", "60")
    for _ in range(10):  # until they are drawn
        blender.look()
    blender.screenshot(OUT / "8-preferences.png")
    blender.do("close_preferences()")
    blender.wait_for(lambda state: state["windows"] == 1, "the end of the preferences")

    blender.do("bpy.ops.preferences.addon_disable(module=MODULE)")
    blender.wait_for(lambda state: state["paintover"] is None and state["tab"] != "Paintover", "the extension's end")
    blender.screenshot(OUT / "9-disabled.png")
    quit_blender(blender)


def test_quitting_in_mid_job(blender: host.Windowed) -> None:
    blender.wait_for(lambda state: state["paintover"], "the extension")
    blender.open_tab()
    blender.press("bpy.ops.paintover.connect()")
    blender.wait_for(lambda state: state["paintover"]["online"], "the connection")
    blender.do("bpy.context.scene.paintover.steps = 150")
    blender.press("bpy.ops.paintover.texture()")
    blender.wait_for(lambda state: last(state).get("state") == "RUNNING", "the job")
    blender.move(400, 300)
    quit_blender(blender)


def quit_blender(blender: host.Windowed) -> None:
    """Quit with the keyboard; Blender has to end by itself, and well."""
    blender.do("stop_watching()")
    blender.x("xdotool", "key", "ctrl+q")
    assert blender.finish() == 0, blender.tail()
    assert not list((blender.work / "tmp").glob("*crash*"))
    assert "Traceback" not in blender.tail()
