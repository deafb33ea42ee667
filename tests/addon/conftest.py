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
def session() -> Any:
    """A session that is connected to a script (scripted.py) instead of a server."""
    from paintover.session import Session

    from .scripted import ScriptedLink

    made = Session()
    made.link = ScriptedLink()
    return made
