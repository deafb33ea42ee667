"""Runs in real Blender: the add-on is staged as it ships, and every test starts with an empty file."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bpy
import pytest

ROOT = Path(__file__).parents[2]
STAGE = Path(tempfile.mkdtemp(prefix="paintover-stage-"))


sys.path[:0] = [str(STAGE), str(ROOT)]

import build_addon  # noqa: E402

build_addon.stage(STAGE)


def pytest_unconfigure() -> None:
    shutil.rmtree(STAGE, ignore_errors=True)


@pytest.fixture(autouse=True)
def scene() -> bpy.types.Scene:
    """The scene of a fresh, empty file."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    return bpy.context.scene


@pytest.fixture
def registered(scene: bpy.types.Scene) -> Iterator[Any]:
    """The scene's settings, with the properties registered."""
    from paintover import properties

    properties.register()
    yield scene.paintover
    properties.unregister()


@pytest.fixture
def drawn(scene: bpy.types.Scene) -> Iterator[Any]:
    """Live passes of the scene, with a camera that looks down from 4 above the origin."""
    from paintover.passes.live import Live

    from .scenes import add_camera

    add_camera(scene, location=(0, 0, 4)).rotation_euler = (0, 0, 0)
    with Live(scene) as live:
        yield live


@pytest.fixture
def above(scene: bpy.types.Scene) -> bpy.types.Object:
    """An orthographic camera that sees 4 by 4 from above."""
    from .scenes import add_camera

    camera = add_camera(scene, "ortho", location=(0, 0, 9))
    camera.data.ortho_scale, camera.rotation_euler = 4, (0, 0, 0)
    scene.render.resolution_x = scene.render.resolution_y = 64
    return camera


@pytest.fixture(params=["gpu", "cycles"])
def route(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The test runs by both ways of drawing, and fails if the wanted one is not the one taken."""
    from paintover.bridge.errors import NoGpu
    from paintover.passes import cycles, gpu_route

    other = "cycles" if request.param == "gpu" else "gpu"

    def refuse(*_: Any) -> None:
        raise NoGpu(reason="of the test") if other == "gpu" else AssertionError("Cycles was asked")

    monkeypatch.setattr(gpu_route if other == "gpu" else cycles, "render", refuse)
    return str(request.param)


@pytest.fixture
def by_cycles(route: str) -> None:
    if route != "cycles":
        pytest.skip("of Cycles")


@pytest.fixture
def session() -> Any:
    """A session that is connected to a script (scripted.py) instead of a server."""
    from paintover.session import Session

    from .scripted import ScriptedLink

    made = Session()
    made.link = ScriptedLink()
    return made
