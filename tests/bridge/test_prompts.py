"""Prompts with weights in one text."""

from __future__ import annotations

import pytest

from paintover.bridge.prompts import MOST, Blend, join, parse


@pytest.mark.parametrize(
    "text", ["", "old brick", "std::vector", "a :: b", "ratio 2:1", "lava::hot", "C::\n", "  moss  ", "a::b", "ends::"]
)
def test_a_text_without_weights_is_one_prompt_as_it_is(text: str) -> None:
    assert parse(text) == (Blend(text, 1.0),)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("lava::0.7 blue ice::0.3", {"lava": 0.7, "blue ice": 0.3}),
        ("lava::7, blue ice::3", {"lava": 0.7, "blue ice": 0.3}),
        ("lava:: .5\nice::.5", {"lava": 0.5, "ice": 0.5}),
        ("lava::3 ice", {"lava": 0.75, "ice": 0.25}),
        ("lava::0.4", {"lava": 1.0}),
        ("lava::0 ice::1", {"ice": 1.0}),
        ("lava::-2 ice::1", {"ice": 1.0}),
        ("lava::0 ice::0", {"lava": 0.5, "ice": 0.5}),
        ("lava::1 ice::1 lava::2", {"lava": 0.75, "ice": 0.25}),
        ("::1 ice::1", {"": 0.5, "ice": 0.5}),
        ("lava::" + "9" * 400 + " ice::0", {"lava": 1.0}),
    ],
)
def test_weights_sum_to_one(text: str, found: dict[str, float]) -> None:
    assert {blend.text: blend.weight for blend in parse(text)} == pytest.approx(found)


def test_of_too_many_the_strongest_are_taken() -> None:
    blends = parse(" ".join(f"p{number}::{number}" for number in range(1, MOST + 5)))
    assert [blend.text for blend in blends] == [f"p{number}" for number in range(5, MOST + 5)]
    assert sum(blend.weight for blend in blends) == pytest.approx(1)


def test_what_is_joined_is_parsed() -> None:
    text = join([("lava", 0.25), ("blue ice", 0.75), ("gone", -1)])
    assert text == "lava::0.2500 blue ice::0.7500 gone::0.0000"
    assert [(blend.text, blend.weight) for blend in parse(text)] == [("lava", 0.25), ("blue ice", 0.75)]
