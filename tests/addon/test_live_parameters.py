"""The live view's parameters: both sides' values without an echo, what undo and a lost connection leave."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import bpy
import pytest

from paintover import properties
from paintover.bridge.errors import ConnectionLost
from paintover.bridge.live import LIVE, LIVE_BY_NAME
from paintover.bridge.live_messages import LiveSet, LiveValues
from paintover.link import LinkState
from paintover.session import Session

from .live_session import DEFAULTS, arrive, go, scripted, settle

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
