"""LoRAs with weights in one text."""

from __future__ import annotations

import pytest

from paintover.bridge.loras import MOST, join, parse
from paintover.bridge.parameters import Settings


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("  \n", {}),
        ("film", {"film": 1.0}),
        ("film:0.8 sketch:0.5", {"film": 0.8, "sketch": 0.5}),
        ("film:.8, sketch", {"film": 0.8, "sketch": 1.0}),
        ("film:-1 film:0.25", {"film": -0.75}),
        ("film:0", {"film": 0.0}),
        ("ratio:2:1", {"ratio:2": 1.0}),
        ("film:1e3 a:nan :0.5 b:", {"film:1e3": 1.0, "a:nan": 1.0, ":0.5": 1.0, "b:": 1.0}),
        ("film:" + "9" * 400, {"film": MOST}),
        ("film:-99", {"film": -MOST}),
    ],
)
def test_names_and_weights(text: str, found: dict[str, float]) -> None:
    assert {one.name: one.weight for one in parse(text)} == pytest.approx(found)
    Settings(lora=text)


def test_what_is_joined_is_parsed_as_it_was() -> None:
    pairs = [("film", 0.8), ("add_detail-v2", -0.5), ("x.y+z", 0.0)]
    assert [(one.name, one.weight) for one in parse(join(pairs))] == pairs
