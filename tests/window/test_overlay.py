"""Passes over the viewport, in Blender with a window: they are what is on the screen, follow the view and every change,
are drawn only when something changed, and end with what they belong to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from . import host

OUT = Path(__file__).parents[2] / "out" / "window"

pytestmark = [pytest.mark.skipif(not host.ROOT, reason=host.WHY_NOT), pytest.mark.timeout(1200)]


@pytest.fixture
def blender(tmp_path: Path, addon_zip: Path) -> Iterator[host.Windowed]:
    with host.windowed(tmp_path, addon_zip, "overlay_scene.py") as window:
        window.wait_for(lambda state: state["paintover"], "the extension")
        yield window


def drawn(blender: host.Windowed) -> list[int]:
    """Number of the drawing that each viewport shows."""
    return list(blender.look()["overlay"]["drawn"])


def settle(blender: host.Windowed, order: str, picture: str) -> np.ndarray:
    """Have an order run, wait until the viewport was drawn anew, and look at it: float (H, W, 3), 0…255."""
    before = drawn(blender)
    blender.do(order)
    blender.wait_for(lambda state: state["overlay"]["drawn"] != before, f"passes after: {order}")
    return see(blender, picture)


def see(blender: host.Windowed, picture: str) -> np.ndarray:
    for _ in range(2):
        state = blender.look()
    place = state["viewport"]
    screen = blender.screenshot(OUT / picture)
    part = screen[place["top"] : place["top"] + place["height"], place["left"] : place["left"] + place["width"]]
    return part.astype(np.float64)


def test_passes_over_the_viewport(blender: host.Windowed) -> None:
    plain = see(blender, "overlay-0-off.png")
    assert blender.look()["overlay"]["on"] is False
    depth = settle(blender, "scene.settings().show = True", "overlay-1-depth.png")
    grey = np.ptp(depth, axis=-1) <= 2
    assert grey.mean() > 0.9, "but for Blender's own gizmos above it"
    height, width, _ = depth.shape
    assert depth[height // 8, width // 2].tolist() == [0, 0, 0], "nothing is there"
    assert depth[height * 3 // 4, width * 2 // 5, 0] > depth[height // 2, width * 2 // 5, 0] + 20 > 100, "the floor"
    assert not np.allclose(plain, depth, atol=20)

    # Nothing changes: nothing is drawn, however often Blender draws its viewport.
    before = drawn(blender)
    for _ in range(5):
        blender.do("scene.redraw()")
        blender.look()
    assert drawn(blender) == before

    normal = settle(blender, "scene.settings().what = 'normal'", "overlay-2-normal.png")
    assert normal[height // 8, width // 2] == pytest.approx((128, 128, 255), abs=2)
    turned = settle(blender, "scene.orbit(0.5)", "overlay-3-turned.png")
    assert (np.abs(turned - normal).max(-1) > 30).mean() > 0.02
    settle(blender, "scene.settings().what = 'edge'", "overlay-4-edge.png")
    ids = settle(blender, "scene.settings().what = 'object_id'", "overlay-5-objects.png")
    settle(blender, "scene.settings().what = 'motion'", "overlay-6-motion.png")
    moved = settle(blender, "bpy.data.objects['Ball'].location.x += 0.2", "overlay-6-motion.png")
    assert (moved.max(-1) > 100).mean() > 0.004
    settle(blender, "scene.settings().what = 'position'", "overlay-7-position.png")
    settle(blender, "scene.settings().what = 'uv'", "overlay-8-uv.png")
    blender.do("scene.settings().opacity = 0.5")
    half = see(blender, "overlay-9-half.png")
    assert not np.allclose(half, ids, atol=20)
    blender.do("scene.settings().opacity = 1")

    # A change of the scene, its undo, an object that goes, a lost context.
    settle(blender, "scene.settings().what = 'depth'", "overlay-a.png")
    blender.do("bpy.ops.ed.undo_push(message='Moved')")
    before = see(blender, "overlay-a.png")
    gone = settle(blender, "bpy.data.objects.remove(bpy.data.objects['Other'])", "overlay-b-gone.png")
    assert (np.abs(gone - before).max(-1) > 30).mean() > 0.003
    settle(blender, "bpy.ops.ed.undo_push(message='Gone'); bpy.ops.ed.undo()", "overlay-c-undone.png")
    np.testing.assert_allclose(see(blender, "overlay-c-undone.png"), before, atol=3)
    settle(blender, "scene.lose_context(); scene.orbit(-0.5)", "overlay-d.png")
    assert blender.look()["overlay"]["failed"] == ""


def test_ranges_views_and_what_is_left_out(blender: host.Windowed) -> None:
    height, width, _ = settle(blender, "scene.settings().show = True", "overlay-e.png").shape
    # A range by hand that is the wrong way round is said; then it is put right.
    blender.do("s = bpy.context.scene.paintover; s.depth_range, s.depth_near, s.depth_far = 'fixed', 9, 8")
    blender.do("scene.redraw()")
    see(blender, "overlay-e-said.png")
    order = "s.depth_near, s.depth_far = 8, 30; scene.redraw()"
    fixed = settle(blender, order, "overlay-f-fixed.png")
    assert len(np.unique(fixed[height // 3 :].reshape(-1, 3), axis=0)) > 60

    # An orthographic viewport has its eye where the perspective one's is, so the range fits there, too.
    order = "scene.viewport().spaces.active.region_3d.view_perspective = 'ORTHO'; scene.redraw()"
    flat = settle(blender, order, "overlay-k-orthographic.png")
    pivot = height * 11 // 20, width // 2
    assert flat[pivot][0] == pytest.approx(fixed[pivot][0], abs=10)
    assert len(np.unique(flat[height // 3 :].reshape(-1, 3), axis=0)) > 60
    settle(blender, order.replace("ORTHO", "CAMERA"), "overlay-l-camera.png")

    # What no pass has is said; a render with it, which uses the graphics card itself, costs nothing.
    settle(blender, "scene.draw_with_ink()", "overlay-m-ink.png")
    assert blender.look()["overlay"]["notes"] == ["Not shown: grease pencil on 'Ink'"]
    render = settle(blender, "scene.render_passes(); scene.orbit(0.3); scene.redraw()", "overlay-n-after-a-render.png")
    state = blender.look()
    assert state["said"] == ["Grease pencil is in no pass: 'Ink'"]
    assert state["overlay"]["failed"] == ""
    assert np.ptp(render[height // 3 :]) > 100


def test_it_ends_cleanly(blender: host.Windowed) -> None:
    settle(blender, "scene.settings().show = True", "overlay-g.png")
    blender.do("scene.split()")
    blender.wait_for(lambda state: len(state["overlay"]["drawn"]) == 2, "the second viewport's passes")
    blender.look()
    see(blender, "overlay-h-two.png")
    blender.do("scene.close_one(); scene.orbit(0.1)")
    blender.wait_for(lambda state: len(state["overlay"]["drawn"]) == 1, "the end of one viewport's passes")
    assert blender.look()["overlay"]["handlers"] == 1
    blender.do("bpy.ops.wm.read_homefile(app_template='')")
    state: dict[str, Any] = blender.wait_for(lambda state: not state["overlay"]["on"], "the end with the file")
    assert state["overlay"]["handlers"] == 0
    settle(blender, "scene.settings().show = True", "overlay-i-another-file.png")
    blender.do("bpy.ops.preferences.addon_disable(module=MODULE)")
    blender.wait_for(lambda state: state["paintover"] is None, "the extension's end")
    blender.do("bpy.ops.preferences.addon_enable(module=MODULE)")
    blender.wait_for(lambda state: state["paintover"], "the extension again")
    settle(blender, "scene.settings().show = True", "overlay-j-again.png")
    blender.do("stop_watching(); bpy.app.timers.register(bpy.ops.wm.quit_blender, first_interval=0.5)")
    assert blender.finish(120) == 0, blender.tail()
    assert "Traceback" not in blender.tail()
