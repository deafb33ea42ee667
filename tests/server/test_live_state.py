"""The stage's state: values, presets, morphs, transitions and the beat. Time is a number here."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from paintover.bridge.errors import (
    BadParameter,
    Clamped,
    MissingModel,
    NoPreset,
    PaintoverError,
    WrongType,
)
from paintover.bridge.live import LIVE
from paintover.bridge.parameters import CONTROLS
from paintover.server.live.presets import LOOK
from paintover.server.live.state import LiveState, in_order
from paintover.server.live.tempo import Tempo


def state(
    controls: dict[str, tuple[str, ...]] | None = None,
) -> tuple[LiveState, list[tuple[str, Any, object]], list[tuple[PaintoverError, str, object]]]:
    """`controls`: of each model that is there."""

    def controls_of(model: str) -> tuple[str, ...]:
        if controls is not None and model not in controls:
            raise MissingModel(name=model)
        return CONTROLS if controls is None else controls[model]

    made = LiveState(controls_of)
    heard: list[tuple[str, Any, object]] = []
    reports: list[tuple[PaintoverError, str, object]] = []
    made.listeners.append(lambda *change: heard.append(change))
    made.reports.append(lambda *report: reports.append(report))
    return made, heard, reports


def shares(live: LiveState, now: float) -> dict[str, float]:
    return {blend.text: pytest.approx(blend.weight, abs=1e-6) for blend in live.prompts(now)}


def test_every_live_parameter_has_a_value_and_settings_are_valid() -> None:
    live, _, _ = state()
    assert live.values.keys() == {row.name for row in LIVE}
    assert live.settings().seed == live.values["seed"] >= 0
    assert live.settings() is live.settings()


@pytest.mark.parametrize(
    ("name", "given", "used"),
    [
        ("steps", 3.4, 3),
        ("steps", 3.6, 4),
        ("steps", True, 1),
        ("play", 1.0, True),
        ("play", 0.0, False),
        ("freeze", 1, True),
        ("strength", 1, 1.0),
        ("guidance", False, 0.0),
        ("output_width", 512.0, 512),
        ("tempo_quantize", 4.0, 4),
        ("feedback_x", 0.15000000596046448, 0.15),
        ("seed", 2147483648.0, 2147483647),
        ("prompt", "moß", "moß"),
    ],
)
def test_numbers_are_taken_for_each_other(name: str, given: Any, used: Any) -> None:
    live, _, reports = state()
    assert live.set(name, given, origin="fader", now=0) == used
    assert live.values[name] == used
    assert type(live.values[name]) is type(used)
    assert not reports


@pytest.mark.parametrize(
    ("name", "given", "used"),
    [
        ("steps", 1e9, 50),
        ("steps", -(2**63), 1),
        ("strength", 1.5, 1.0),
        ("feedback_rotate", -11, -10.0),
        ("output_width", 501, 504),
        ("output_height", 1e30, 2048),
        ("tempo_quantize", 3, 4),
    ],
)
def test_out_of_range_is_clamped_and_reported(name: str, given: Any, used: Any) -> None:
    live, _, reports = state()
    assert live.set(name, given, origin="fader", now=0) == live.values[name] == used
    ((error, about, origin),) = reports
    assert (type(error), about, origin) == (Clamped, name, "fader")
    live.settings()


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("strength", math.nan),
        ("strength", math.inf),
        ("steps", -math.inf),
        ("steps", "4"),
        ("play", math.nan),
        ("prompt", 4),
        ("prompt", b"moss"),
        ("prompt", "\ud800"),
        ("strength", None),
        ("strength", [1.0]),
    ],
)
def test_what_is_no_value_is_refused(name: str, given: Any) -> None:
    live, heard, _ = state()
    before = dict(live.values)
    with pytest.raises(WrongType):
        live.set(name, given, origin=None, now=0)
    assert live.values == before
    assert not heard


def test_unknown_names_long_texts_and_models_that_are_not_there() -> None:
    def controls_of(name: str) -> tuple[str, ...]:
        if name != "mini-turbo":
            raise MissingModel(name=name)
        return CONTROLS

    live = LiveState(controls_of)
    with pytest.raises(BadParameter):
        live.set("views", 3, origin=None, now=0)  # a parameter, but no live one
    live.set("prompt", "x" * 60_000, origin=None, now=0)
    with pytest.raises(BadParameter):
        live.set("prompt", "é" * 30_001, origin=None, now=0)
    live.set("model", "mini-turbo", origin=None, now=0)
    with pytest.raises(MissingModel):
        live.set("model", "sd99", origin=None, now=0)
    assert live.values["model"] == "mini-turbo"


def test_listeners_hear_changes_with_their_origin_and_a_chosen_seed_without() -> None:
    live, heard, _ = state()
    live.set("strength", 0.5, origin="fader", now=0)
    live.set("strength", 0.5, origin="other", now=0)  # no change
    live.set("seed", -1, origin="fader", now=0)
    assert heard == [("strength", 0.5, "fader"), ("seed", live.values["seed"], None)]
    assert int(live.values["seed"]) >= 0


def test_prompts_blend_by_their_weights() -> None:
    live, _, _ = state()
    live.set("prompt", "brick", origin=None, now=0)
    live.set("prompt_1", "moss", origin=None, now=0)
    assert shares(live, 0) == {"brick": 1.0}
    live.set("prompt_1_weight", 0.5, origin=None, now=0)
    assert shares(live, 0) == {"brick": 2 / 3, "moss": 1 / 3}
    live.set("prompt_2", "brick", origin=None, now=0)
    live.set("prompt_2_weight", 1.0, origin=None, now=0)
    assert shares(live, 0) == {"brick": 0.8, "moss": 0.2}
    live.set("prompt", "", origin=None, now=0)
    assert shares(live, 0) == {"brick": 2 / 3, "moss": 1 / 3}
    assert not live.busy


def test_a_transition_goes_from_what_is_shown_to_what_is_set() -> None:
    live, _, _ = state()
    live.set("prompt", "brick", origin=None, now=0)
    live.set("prompt_transition", 4.0, origin=None, now=0)
    live.set("prompt", "moss", origin=None, now=10)
    assert live.busy
    assert shares(live, 10) == {"brick": 1.0}
    assert live.advance(11)
    assert shares(live, 11) == {"brick": 0.75, "moss": 0.25}
    live.set("prompt", "ice", origin=None, now=12)  # on the way
    assert shares(live, 12) == {"brick": 0.5, "moss": 0.5}
    assert shares(live, 14) == {"brick": 0.25, "moss": 0.25, "ice": 0.5}
    assert live.advance(16)
    assert shares(live, 16) == {"ice": 1.0}
    assert not live.busy
    assert not live.advance(17)


def test_a_flood_of_transitions_stays_small() -> None:
    live, _, _ = state()
    live.set("prompt_transition", 60.0, origin=None, now=0)
    for number in range(500):
        live.set("prompt", f"prompt {number}", origin=None, now=number * 0.05)
    blends = live.prompts(25.0)
    assert len(blends) <= 12
    assert sum(blend.weight for blend in blends) == pytest.approx(1.0)


def test_a_preset_is_recalled_at_once_or_on_a_way() -> None:
    live, heard, reports = state()
    for name, value in {"prompt": "brick", "strength": 0.2, "steps": 2, "seed": 7, "control_edge": True}.items():
        live.set(name, value, origin=None, now=0)
    live.trigger("preset/store", (3.0,), origin=None, now=0)
    for name, value in {"prompt": "ice", "strength": 0.6, "steps": 6, "seed": 9, "control_edge": False}.items():
        live.set(name, value, origin=None, now=0)
    live.set("blackout", 0.5, origin=None, now=0)
    heard.clear()
    live.trigger("preset/recall", (3, 2.0), origin="pad", now=100)
    assert live.values["control_edge"] is True
    assert live.values["seed"] == 7
    assert live.advance(101)
    assert live.values["strength"] == pytest.approx(0.4)
    assert live.values["steps"] == 4
    assert type(live.values["steps"]) is int
    assert shares(live, 101) == {"ice": 0.5, "brick": 0.5}
    live.set("steps", 9, origin="fader", now=101)  # the hand wins
    live.advance(102)
    assert (live.values["strength"], live.values["steps"], live.values["prompt"]) == (0.2, 9, "brick")
    assert shares(live, 102) == {"brick": 1.0}
    assert not live.busy
    assert live.values["blackout"] == 0.5, "no part of a look"
    assert {origin for name, _, origin in heard if name != "steps"} == {None}, "whoever recalled it hears it, too"
    live.trigger("preset/recall", (3,), origin="pad", now=103)
    assert live.values["steps"] == 2
    with pytest.raises(NoPreset):
        live.trigger("preset/recall", (4,), origin="pad", now=103)
    live.trigger("preset/store", (500,), origin="pad", now=103)
    assert 128 in live.presets
    assert isinstance(reports[-1][0], Clamped)
    for wrong in ((), ("a",), (math.nan,), (3, "b")):
        with pytest.raises(WrongType):
            live.trigger("preset/recall", wrong, origin="pad", now=104)


def test_changes_wait_for_the_beat() -> None:
    live, heard, _ = state()
    live.set("tempo_bpm", 120, origin=None, now=0)  # a beat each 0.5 s
    live.set("tempo_quantize", 1, origin=None, now=0)
    heard.clear()
    assert live.set("strength", 0.5, origin="fader", now=10.1) == 0.5
    live.set("strength", 0.4, origin="fader", now=10.2)
    live.set("blackout", 1.0, origin="fader", now=10.2)
    assert heard == [("blackout", 1.0, "fader")], "never waits"
    assert not live.advance(10.49)
    assert live.busy
    assert live.advance(10.5)
    assert heard[1:] == [("strength", 0.4, "fader")]
    live.set("tempo_quantize", 4, origin=None, now=10.6)
    live.set("strength", 0.3, origin="fader", now=10.6)
    assert not live.advance(11.9)
    assert live.advance(12.0)
    live.set("strength", 0.2, origin="fader", now=12.1)
    live.set("tempo_quantize", 0, origin=None, now=12.2)
    assert live.values["strength"] == 0.2, "nothing to wait for any more"
    assert not live.busy


def test_compensated_changes_are_early_by_the_latency() -> None:
    live, _, _ = state()
    live.latency = 0.1
    live.set("tempo_quantize", 1, origin=None, now=0)
    live.set("tempo_compensate", True, origin=None, now=0)
    live.set("strength", 0.5, origin=None, now=10.1)
    assert not live.advance(10.39)
    assert live.advance(10.4)
    live.set("strength", 0.6, origin=None, now=10.45)  # too late for the beat at 10.5
    assert not live.advance(10.6)
    assert live.advance(10.9)


def test_a_recall_waits_too_and_later_sets_win() -> None:
    live, _, _ = state()
    live.set("strength", 0.2, origin=None, now=0)
    live.store(1)
    live.set("strength", 0.9, origin=None, now=0)
    live.set("tempo_quantize", 1, origin=None, now=0)
    live.recall(1, 0.0, 10.1)
    live.set("steps", 7, origin=None, now=10.2)
    assert live.coming()["strength"] == 0.2
    live.advance(10.5)
    assert (live.values["strength"], live.values["steps"]) == (0.2, 7)


def test_taps_make_a_tempo() -> None:
    live, heard, _ = state()
    for beat in range(12):
        live.trigger("tempo/tap", (), origin="pad", now=50 + beat * 0.6)
    assert live.values["tempo_bpm"] == pytest.approx(100)
    assert {origin for _, _, origin in heard} == {None}, "whoever taps wants to see the tempo, too"
    tempo = live.tempo
    assert tempo.beat(50 + 0.6 * 12) == pytest.approx(12)
    assert tempo.next(4, 50 + 0.6 * 12.1) == pytest.approx(50 + 0.6 * 16)
    live.trigger("tempo/tap", (), origin="pad", now=100)  # a new series: no tempo from the pause, but a new bar
    assert live.values["tempo_bpm"] == pytest.approx(100)
    assert tempo.beat(100) == pytest.approx(0)
    live.trigger("tempo/tap", (), origin="pad", now=100.001)
    assert live.values["tempo_bpm"] == 999.0
    assert tempo.bpm == 999.0, "the beat goes as it is shown, also where a pad bounces"
    assert tempo.next(1, 100.001) == pytest.approx(100.001 + 60 / 999)


def test_a_new_tempo_keeps_the_phase() -> None:
    tempo = Tempo(120, 999)
    beat = tempo.beat(7.3)
    tempo.set(90, 7.3)
    assert tempo.beat(7.3) == pytest.approx(beat)
    assert tempo.next(1, 7.3) > 7.3


def test_reset_and_a_clients_triggers_are_passed_on() -> None:
    live, _, _ = state()
    fired: list[Any] = []
    live.triggered.append(lambda *event: fired.append(event))
    live.trigger("reset", origin="pad", now=0)
    live.trigger("texture/run", (1.0,), origin="pad", now=0)
    assert live.resets == 1
    assert fired == [("reset", (), "pad"), ("texture/run", (1.0,), "pad")]
    with pytest.raises(BadParameter):
        live.trigger("format/disk", origin="pad", now=0)
    for argument in ("x", [], None, {}, float("nan"), 10**400):
        with pytest.raises(WrongType):
            live.trigger("reset", (argument,), origin="pad", now=0)
    assert live.resets == 1
    live.trigger("texture/run", tuple(range(100_000)), origin="pad", now=0)
    assert len(fired[-1][1]) == 16


def test_what_is_set_at_once_begins_with_the_model_and_is_no_more_than_there_is() -> None:
    assert list(dict(in_order({"steps": 3, "model": "mini", "seed": 1}))) == ["model", "steps", "seed"]
    assert len(in_order({row.name: row.default for row in LIVE})) == len(LIVE)
    with pytest.raises(BadParameter, match="50,000"):
        in_order(dict.fromkeys(map(str, range(50_000)), 1))


def test_a_restart_finds_everything_and_what_was_on_its_way_has_arrived() -> None:
    live, _, _ = state()
    live.set("prompt", "brick", origin=None, now=0)
    live.store(5)
    live.set("prompt", "ice", origin=None, now=0)
    live.set("strength", 0.3, origin=None, now=0)
    live.set("play", False, origin=None, now=0)
    live.recall(5, 10.0, 0)
    again = LiveState()
    assert again.from_json(json.loads(json.dumps(live.to_json())), 0) == []
    assert again.values == live.coming()
    assert again.values["strength"] == 1.0
    assert again.values["prompt"] == "brick"
    assert again.values["play"] is False
    assert again.presets == live.presets
    assert set(again.presets[5]) == set(LOOK)


@pytest.mark.parametrize(
    "kept",
    [
        {},
        {"values": None, "presets": 3},
        {"values": {"strength": "much", "steps": None, "nobody": 1, "seed": -1}, "presets": {"x": {}, "0": {}, "9": 4}},
        {"values": {"strength": math.nan}, "presets": {"1": {"strength": [], "prompt": "moss"}}},
    ],
)
def test_damaged_values_stay_as_they_were(kept: dict[str, Any]) -> None:
    live, _, _ = state()
    before = {name: value for name, value in live.values.items() if name != "seed"}
    live.from_json(kept, 0)
    assert {name: live.values[name] for name in before} == before
    assert live.values["seed"] >= 0
    live.settings()
    for number in live.presets:
        live.recall(number, 0.0, 1)
        live.settings()
