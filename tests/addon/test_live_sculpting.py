"""Live passes of what Sculpt Mode keeps apart from the mesh: Dynamic Topology and Multires."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import bpy
import numpy as np
import pytest

from paintover.live import strokes
from paintover.passes import sculpting
from paintover.session import Session

from ..waiting import wait_until
from .live_session import arrive, go, picture, scripted, settle

pytestmark = pytest.mark.usefixtures("registered")
KINDS = ("dyntopo", "multires")


@pytest.fixture
def session(scene: bpy.types.Scene) -> Iterator[Session]:
    with scripted() as made:
        yield made


def in_viewport(operator: Any, **values: Any) -> None:
    window = bpy.context.window_manager.windows[0]
    area = next(area for area in window.screen.areas if area.type == "VIEW_3D")
    region = next(region for region in area.regions if region.type == "WINDOW")
    with bpy.context.temp_override(window=window, area=area, region=region):
        assert operator("EXEC_DEFAULT", **values) == {"FINISHED"}


def enter(kind: str) -> bpy.types.Object:
    """The ball of the live scene, a little bent, in Sculpt Mode."""
    ball = bpy.data.objects["Sphere"]
    for vertex in ball.data.vertices:
        if vertex.co.x > 0:
            vertex.co.x *= 1.3
    if kind == "multires":
        ball.modifiers.new("Multires", "MULTIRES")
        for _ in range(2):
            bpy.ops.object.multires_subdivide(modifier="Multires", mode="CATMULL_CLARK")
        ball.modifiers.new("After", "DISPLACE").strength = 3.0  # Sculpt Mode does not show it
    bpy.ops.ed.undo_push(message="Before")  # in background there is no undo before, and sculpting crashes
    in_viewport(bpy.ops.object.mode_set, mode="SCULPT")
    if kind == "dyntopo":
        in_viewport(bpy.ops.sculpt.dynamic_topology_toggle)
    return ball


def sculpt(kind: str, strength: float = 0.3) -> None:
    """What a stroke would do, and needs no mouse."""
    if kind == "dyntopo":
        bpy.context.scene.tool_settings.sculpt.symmetrize_direction = "NEGATIVE_X"
        in_viewport(bpy.ops.sculpt.symmetrize)
    else:
        in_viewport(bpy.ops.sculpt.mesh_filter, type="INFLATE", strength=strength, iteration_count=1)


def newest(session: Session) -> np.ndarray:
    """The depth of the newest frame, once there is none to come."""
    assert session.live is not None
    bpy.context.view_layer.update()  # as Blender does with every turn of its loop
    live = session.live

    def brought() -> bool:
        session.tick()
        return not live._strokes.due or strokes._editing()

    wait_until(brought, 60)
    frames = settle(session)
    for _ in range(6):
        arrive(session, picture(frames[-1].number))
        before, frames = frames, settle(session)
        if len(frames) == len(before):
            return np.nan_to_num(frames[-1].passes.depth, posinf=0.0)
    raise AssertionError("frames are sent while nothing changes")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_sculpted_shows_as_it_is_in_object_mode(session: Session, kind: str) -> None:
    live = go(session)
    ball = enter(kind)
    before = newest(session)
    blocks = [len(getattr(bpy.data, of)) for of in ("objects", "scenes", "meshes")]
    sculpt(kind)
    sculpted = newest(session)
    assert np.abs(sculpted - before).max() > 0.05
    if kind == "multires":
        sculpt(kind, -0.2)
        again = newest(session)
        assert np.abs(again - sculpted).max() > 0.05
        sculpted = again
        ball.modifiers["After"].show_viewport = False
    assert [len(getattr(bpy.data, of)) for of in ("objects", "scenes", "meshes")] == blocks
    assert ball.mode == "SCULPT"
    in_viewport(bpy.ops.object.mode_set, mode="OBJECT")
    np.testing.assert_allclose(newest(session), sculpted, atol=1e-4)
    assert live.error is None
    assert not sculpting._read


def test_the_level_that_is_sculpted_counts(session: Session) -> None:
    go(session)
    ball = enter("multires")
    ball.modifiers["Multires"].levels, ball.modifiers["Multires"].sculpt_levels = 2, 1
    newest(session)
    ((_, variants),) = sculpting._read.values()
    (found,) = variants.values()
    assert found is not None
    mesh = ball.data
    assert len(found.positions) == len(mesh.vertices) + len(mesh.edges) + len(mesh.polygons), "one level"
    ball.modifiers["Multires"].sculpt_levels = 2
    newest(session)
    ((_, variants),) = sculpting._read.values()
    (finer,) = variants.values()
    assert finer is not None
    assert len(finer.positions) > 3 * len(found.positions)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_touched_while_a_stroke_goes_on(
    session: Session, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(session)
    enter(kind)
    before = newest(session)
    monkeypatch.setattr(strokes, "_editing", lambda: True)
    sculpt(kind)
    np.testing.assert_array_equal(newest(session), before)
    monkeypatch.undo()
    assert np.abs(newest(session) - before).max() > 0.05


def test_strokes_elsewhere_are_left_to_blender(session: Session) -> None:
    """Sculpt Mode on a plain mesh: nothing is brought anywhere."""
    live = go(session)
    bpy.ops.ed.undo_push(message="Before")
    in_viewport(bpy.ops.object.mode_set, mode="SCULPT")
    newest(session)
    layer = bpy.context.view_layer
    assert not live._strokes.bring(bpy.context.scene, layer)
    assert not live._strokes.due
    in_viewport(bpy.ops.sculpt.mesh_filter, type="INFLATE", strength=0.3, iteration_count=1)
    assert not live._strokes.bring(bpy.context.scene, layer)


def test_quick_strokes_are_not_held_up(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """What took long is only done again after a pause that is as long."""
    live = go(session)
    enter("dyntopo")
    newest(session)
    clock, brought, layer = [1000.0], live._strokes, bpy.context.view_layer
    monkeypatch.setattr(strokes.time, "monotonic", lambda: clock[0])
    brought._cost = 2.0
    for _ in range(3):
        sculpt("dyntopo")
        clock[0] += 0.5
        assert not brought.bring(bpy.context.scene, layer)
        assert brought.due
    clock[0] += 1.9
    assert not brought.bring(bpy.context.scene, layer)
    clock[0] += 0.2
    assert brought.bring(bpy.context.scene, layer)
    assert not brought.due
