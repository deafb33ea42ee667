"""Passes on the graphics card in Blender with a window: drawn from a timer, between two redraws of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from . import host

pytestmark = [pytest.mark.skipif(not host.ROOT, reason=host.WHY_NOT), pytest.mark.timeout(1200)]


@pytest.fixture
def blender(tmp_path: Path, addon_zip: Path) -> Iterator[host.Windowed]:
    with host.windowed(tmp_path, addon_zip, "passes_scene.py") as window:
        yield window


def draw(blender: host.Windowed, what: str, space: str = "None") -> dict[str, Any]:
    blender.do(f"scene.draw({what!r}, {space})")
    found: dict[str, Any] = blender.wait_for(lambda state: what in state["found"], what)["found"][what]
    return found


def test_live_passes_in_a_window(blender: host.Windowed) -> None:
    blender.wait_for(lambda state: state["paintover"], "the extension")
    first = draw(blender, "first")
    assert first["names"] == ["Ball", "Suzanne"]
    assert first["mismatch"] < 0.005
    assert first["depth"] < 1e-5
    assert first["motion"] == 0
    blender.do("bpy.data.objects['Ball'].location.z += 0.5")
    moved = draw(blender, "moved")
    assert moved["mismatch"] < 0.005
    assert 1 < moved["motion"] < 100
    blender.do("scene.local_view()")
    assert draw(blender, "local", "scene.viewport().spaces.active")["names"] == ["Ball"]
    assert draw(blender, "everything")["names"] == ["Ball", "Suzanne"]
    blender.do("scene.draw_render()")
    render = blender.wait_for(lambda state: "render" in state["found"], "the render")["found"]["render"]
    assert render["said"] == []
    assert render["hits"] == pytest.approx(moved["hits"], rel=0.02)
    blender.do("scene.close(); stop_watching(); bpy.app.timers.register(bpy.ops.wm.quit_blender, first_interval=0.5)")
    assert blender.finish(120) == 0, blender.tail()
