"""The live view's parameters: both sides' values without an echo, what undo and a lost connection leave."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import bpy
import numpy as np
import pytest

from paintover import properties
from paintover.bridge.errors import ConnectionLost
from paintover.bridge.live import LIVE, LIVE_BY_NAME
from paintover.bridge.live_messages import LiveSet, LiveValues
from paintover.link import LinkState
from paintover.live import view
from paintover.live.painter import LiveView
from paintover.operators import live as operators
from paintover.session import Session

from .live_session import DEFAULTS, arrive, go, picture, scripted, settle

pytestmark = pytest.mark.usefixtures("registered")


@pytest.fixture
def session(scene: bpy.types.Scene) -> Iterator[Session]:
    with scripted() as made:
        yield made


def test_both_sides_parameters_without_an_echo(session: Session) -> None:
    scene = bpy.context.scene
    scene.paintover.prompt = "mine"
    scene.paintover.blackout = 1.0
    link: Any = session.link
    go(session, prompt="theirs", feedback_amount=0.25)
    assert [message.values for message in link.of(LiveSet)] == [{"prompt": "mine"}]
    assert scene.paintover.feedback_amount == 0.25
    assert scene.paintover.blackout == 0, "a scene does not darken a stage by joining"
    assert scene.paintover.live_seed == 7
    assert scene.paintover.seed == -1, "jobs keep their own"
    settle(session)
    assert len(link.of(LiveSet)) == 1
    arrive(session, LiveValues({"smooth": 0.1, "prompt": "from OSC", "tempo_quantize": 4, "live_nonsense": 1}))
    settle(session)
    assert len(link.of(LiveSet)) == 1, "what came is not sent back, also as a float of 32 bits"
    assert scene.paintover.prompt == "from OSC"
    assert scene.paintover.tempo_quantize == "4"
    scene.paintover.smooth, scene.paintover.live_steps = 0.5, 3
    scene.paintover.tempo_quantize = "1"
    settle(session)
    assert link.of(LiveSet)[1:] == [LiveSet({"smooth": 0.5, "steps": 3, "tempo_quantize": 1})]


def test_every_live_parameter_is_a_property(session: Session) -> None:
    go(session)
    values = {}
    for row in LIVE:
        if row.choices:
            values[row.name] = row.choices[-1]
        elif row.type is bool:
            values[row.name] = not row.default
        elif row.type is str:
            values[row.name] = f"text of {row.name}"
        else:
            values[row.name] = row.type(row.maximum)
    arrive(session, LiveValues(values))
    shown = properties.live_values(bpy.context.scene)
    assert set(shown) == set(LIVE_BY_NAME)
    assert {name: shown[name] for name in values} == pytest.approx(values)
    for row in LIVE:
        row.check(shown[row.name])  # within its range, also as a float of 32 bits


def test_an_undo_does_not_turn_the_stage_back(session: Session) -> None:
    live = go(session)
    scene = bpy.context.scene
    arrive(session, LiveValues({"feedback_amount": 0.75}))
    scene.paintover.feedback_amount = 0.0  # what an undo of something else brings back
    live.undone()
    settle(session)
    assert scene.paintover.feedback_amount == 0.75
    assert not session.link.of(LiveSet)  # type: ignore[attr-defined]


def test_what_was_changed_without_a_connection_is_sent_after_it(session: Session) -> None:
    go(session)
    link: Any = session.link
    arrive(session, LiveValues({"feedback_amount": 0.5, "smooth": 0.25}))
    link.events.append(ConnectionLost())
    link.state = LinkState.OFFLINE
    session.tick()
    bpy.context.scene.paintover.prompt = "meanwhile"
    session._address, session._next_attempt = ("127.0.0.1", 1, None), 0.0
    session.tick()
    assert link.connects == 1
    assert session.live is not None
    link.state = LinkState.ONLINE
    session.live.take_up(link)
    arrive(session, LiveValues(DEFAULTS | {"prompt": "before", "smooth": 0.5}))
    assert link.of(LiveSet)[-1].values == {"prompt": "meanwhile", "feedback_amount": 0.5}
    assert bpy.context.scene.paintover.smooth == 0.5
    assert bpy.context.scene.paintover.feedback_amount == 0.5, "the stage had lost it"
    assert settle(session), "it is a new server's first frame"


# ------------------------------------------------------------ the size


def shape(session: Session) -> tuple[int, int]:
    """Width and height of the newest frame, which is then painted."""
    frame = settle(session)[-1]
    passes = frame.passes
    arrive(session, picture(frame.number))
    assert passes.depth.shape == (passes.camera.height, passes.camera.width)
    return passes.camera.width, passes.camera.height


WIDE = (1920, 1080)


def test_the_scenes_camera_is_painted_in_its_own_proportions(session: Session) -> None:
    scene = bpy.context.scene
    link: Any = session.link
    live = go(session, WIDE, output_width=256, output_height=256)
    assert shape(session) == (344, 192)
    assert link.of(LiveSet)[-1] == LiveSet({"output_width": 344, "output_height": 192})
    assert (scene.paintover.output_width, scene.paintover.output_height) == (344, 192)
    camera = scene.camera
    exact = camera.calc_matrix_camera(bpy.context.view_layer.depsgraph, x=1920, y=1080)
    np.testing.assert_allclose(live._camera.projection, np.array(exact), atol=1e-6)  # type: ignore[union-attr]
    scene.render.resolution_x, scene.render.resolution_y = 1080, 1920
    session.tick()
    arrive(session, LiveValues({"output_width": 344, "output_height": 192}))  # the stage's answer, a little late
    arrive(session, LiveValues({"output_width": 192, "output_height": 344}))
    assert shape(session) == (192, 344)
    assert scene.paintover.live_match
    scene.render.resolution_x, scene.render.resolution_y = 200, 100
    width, height = shape(session)
    assert (width, width % 8, height % 8) == (2 * height, 0, 0)
    assert width * height == pytest.approx(256 * 256, rel=0.1)
    arrive(session, LiveValues({"model": "other", "output_width": 512, "output_height": 512}))
    assert shape(session) == (720, 360)
    assert scene.paintover.live_match, "that size is the model's"


@pytest.mark.parametrize("who", ["over OSC", "in Blender"])
def test_a_size_that_somebody_has_set_is_kept(session: Session, who: str) -> None:
    scene = bpy.context.scene
    settings = scene.paintover
    go(session, WIDE, output_width=256, output_height=256)
    assert shape(session) == (344, 192)
    if who == "over OSC":
        arrive(session, LiveValues({"output_width": 512, "output_height": 256}))
    else:
        settings.output_width, settings.output_height = 512, 256
    assert shape(session) == (512, 256)
    assert not settings.live_match
    settings.live_match = True  # as an undo would
    session.live.undone()  # type: ignore[union-attr]
    scene.camera.location.x += 0.1
    assert shape(session) == (512, 256), "an undo does not reach the stage"
    settings.live_match = True
    assert shape(session) == (480, 272)
    arrive(session, LiveValues(DEFAULTS | {"output_width": 256, "output_height": 256}))
    assert not settings.live_match


def test_a_size_that_was_set_before_is_kept(session: Session) -> None:
    bpy.context.scene.paintover.output_width = 128
    go(session, WIDE, output_width=256, output_height=256)
    assert shape(session) == (128, 256)


def test_a_viewports_proportions_are_not_for_the_camera(session: Session) -> None:
    scene = bpy.context.scene
    area = next(a for a in bpy.context.window_manager.windows[0].screen.areas if a.type == "VIEW_3D")
    go(session, WIDE)
    session.start_live(LiveView(scene, area))
    scene.paintover.live_camera = "VIEWPORT"
    with bpy.context.temp_override(area=area):
        operators.PAINTOVER_OT_live_fit.execute(SimpleNamespace(), bpy.context)
    settle(session)
    assert session.live is not None
    region = view.canvas(area)
    assert view.of_proportions(*session.live.size, region.width, region.height)
    scene.paintover.live_camera = "SCENE"
    settle(session)
    assert session.live.size == view.sized(*session.live.size, *WIDE)
