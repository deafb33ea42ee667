"""Switches of ControlNets on the stage show what is: they follow what the model has."""

from __future__ import annotations

import pytest

from paintover.bridge.errors import UnsupportedControl
from paintover.bridge.parameters import CONTROLS

from .test_live_state import state

BARE = {"mini-turbo": CONTROLS, "deep": ("depth",), "bare": ()}


def test_a_switch_of_a_controlnet_that_the_model_has_not_goes_off_and_comes_back() -> None:
    live, heard, _ = state(BARE)
    live.set("control_edge", True, origin=None, now=0)
    live.set("model", "deep", origin="fader", now=0)
    assert heard[-2:] == [("control_normal", False, None), ("control_edge", False, None)], "everybody is told"
    with pytest.raises(UnsupportedControl):
        live.set("control_normal", True, origin=None, now=0)
    assert not live.values["control_normal"]
    live.set("control_depth", True, origin=None, now=0)
    live.set("control_edge", False, origin=None, now=0)  # so it stays
    live.set("model", "bare", origin=None, now=0)
    assert not any(live.values[f"control_{control}"] for control in CONTROLS)
    live.set("model", "mini-turbo", origin=None, now=0)
    assert [control for control in CONTROLS if live.values[f"control_{control}"]] == ["depth", "normal"]


def test_what_suits_a_model_counts_before_what_another_one_has_switched_off() -> None:
    live, _, _ = state(BARE)
    suits = {"control_normal": False}
    live.listeners.append(lambda name, value, origin: live.apply(suits, 0) if name == "model" else None)
    live.set("model", "bare", origin=None, now=0)
    live.set("model", "mini-turbo", origin=None, now=0)
    assert not live.values["control_normal"]


@pytest.mark.parametrize("quantize", [0, 1])
def test_a_preset_of_a_model_that_is_gone_switches_on_only_what_there_is(quantize: int) -> None:
    there = dict(BARE)
    live, _, _ = state(there)
    live.set("control_depth", True, origin=None, now=0)
    live.trigger("preset/store", (1,), origin=None, now=0)
    live.set("model", "deep", origin=None, now=0)
    live.set("control_depth", False, origin=None, now=0)
    del there["mini-turbo"]
    live.set("tempo_quantize", quantize, origin=None, now=0)
    live.trigger("preset/recall", (1,), origin=None, now=0)
    live.advance(60)
    assert (live.values["model"], live.values["control_depth"], live.values["control_normal"]) == ("deep", True, False)


def test_switches_are_those_of_the_coming_model() -> None:
    """Where changes wait for the beat, it waits, too."""
    live, _, _ = state(BARE)
    live.set("model", "bare", origin=None, now=0)
    live.set("tempo_quantize", 1, origin=None, now=0)
    live.set("model", "deep", origin=None, now=0)
    live.set("control_depth", True, origin=None, now=0)
    with pytest.raises(UnsupportedControl):
        live.set("control_normal", True, origin=None, now=0)
    live.advance(60)
    assert (live.values["model"], live.values["control_depth"], live.values["control_normal"]) == ("deep", True, False)


def test_kept_switches_of_a_model_that_has_lost_its_controlnets_are_off() -> None:
    live, _, _ = state(BARE)
    live.set("model", "deep", origin=None, now=0)
    live.set("control_depth", True, origin=None, now=0)
    again, _, _ = state({**BARE, "deep": ()})
    assert again.from_json(live.to_json(), 0) == []
    assert again.values["model"] == "deep"
    assert (again.values["control_depth"], again.values["control_normal"]) == (False, False)
    again.set("model", "mini-turbo", origin=None, now=0)
    assert (again.values["control_depth"], again.values["control_normal"]) == (True, False)
