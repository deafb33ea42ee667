"""The render engine's own arithmetic, and what it is in Blender. The rendering itself is in tests/end_to_end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import bpy
import numpy as np
import pytest

import paintover
from paintover import render_engine
from paintover.live import events


@pytest.fixture
def enabled(scene: bpy.types.Scene) -> Any:
    paintover.register()
    yield scene
    paintover.unregister()


def test_pictures_in_another_size() -> None:
    ramp = np.tile(np.arange(8, dtype=np.float32)[None, :, None], (6, 1, 3))
    larger = render_engine.resized(ramp, 12, 16)
    assert larger.shape == (12, 16, 3)
    np.testing.assert_allclose(larger[5, :, 0], np.clip((np.arange(16) + 0.5) / 2 - 0.5, 0, 7), atol=1e-6)
    assert render_engine.resized(ramp, 6, 8) is ramp
    assert render_engine.resized(ramp[:1, :1], 3, 3).shape == (3, 3, 3)


def test_the_part_that_a_border_cuts_out() -> None:
    border = {"border_min_x": 0.5, "border_max_x": 0.9, "border_min_y": 0.2, "border_max_y": 0.61}
    engine = SimpleNamespace(resolution_x=100, resolution_y=50)
    part = render_engine._Part(engine, SimpleNamespace(use_border=True, **border))
    rows, columns = np.mgrid[0:50, 0:100]
    cut = part.cut(np.stack([rows, columns], -1))
    assert cut.shape == (20, 40, 2)
    assert cut[0, 0].tolist() == [20, 50], "20 rows above, 10 rows below"
    # Blender's own arithmetic: 0.7 × 10 in single precision is 7, in double 6.99999988.
    odd = SimpleNamespace(use_border=True, **{**border, "border_max_y": float(np.float32(0.7))})
    assert render_engine._Part(SimpleNamespace(resolution_x=100, resolution_y=10), odd).height == 5
    whole = render_engine._Part(engine, SimpleNamespace(use_border=False, **border))
    assert whole.cut(np.zeros((50, 100, 1))).shape == (50, 100, 1)


def test_blender_offers_the_engine_its_passes_and_panels(enabled: bpy.types.Scene) -> None:
    enabled.render.engine = render_engine.IDNAME
    panels = render_engine._shared_panels()
    assert len(panels) > 20
    assert all(render_engine.IDNAME in panel.COMPAT_ENGINES for panel in panels)
    bpy.context.view_layer.update_render_passes()
    if bpy.app.version < (5, 0):
        enabled.use_nodes = True
        node = enabled.node_tree.nodes.new("CompositorNodeRLayers")
    else:
        tree = bpy.data.node_groups.new("Compositor", "CompositorNodeTree")
        node = tree.nodes.new("CompositorNodeRLayers")
    node.scene = enabled
    names = {socket.name for socket in node.outputs if socket.enabled}
    assert {"Depth", "Normal", "Edge", "Object ID", "Motion"} <= names


def test_a_shot_can_be_asked_for_over_osc(enabled: bpy.types.Scene) -> None:
    assert events.OPERATORS["animation/run"] == "render_shot"
    with pytest.raises(Exception, match="Not connected"):
        events.run("animation/run", None)
