"""Prompts with weights, in one text: “lava::0.7 blue ice::0.3” is painted between the two, nearer to the first.

A text without weights is one prompt, as it always was. A part without a weight of its own, at the end, counts 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

MOST = 12
"""Prompts in one blend: each costs a text embedding. Of more, the weakest are left out."""
WEIGHT = re.compile(r"::\s*(-?(?:\d+\.?\d*|\.\d+))")
SHARE = 1e-4
"""A prompt that counts less than this share is left out."""


@dataclass(frozen=True)
class Blend:
    """A prompt and its share in a blend."""

    text: str
    weight: float


def parse(prompt: str) -> tuple[Blend, ...]:
    """The prompts in a text, weights summing to 1. A weight below 0 counts as 0; if all are 0, all count the same."""
    pieces = WEIGHT.split(prompt)
    if len(pieces) == 1:
        return (Blend(prompt, 1.0),)
    pairs = zip(pieces[::2], pieces[1::2], strict=False)
    found = [(text.strip(" \t\n,"), max(0.0, float(weight))) for text, weight in pairs]
    if rest := pieces[-1].strip(" \t\n,"):
        found.append((rest, 1.0))
    found = [(text, min(weight, 1e6)) for text, weight in found]
    return normalised(found) or normalised((text, 1.0) for text, _ in found)


def join(prompts: Iterable[tuple[str, float]]) -> str:
    """The text that `parse` reads as these prompts with these weights."""
    return " ".join(f"{text}::{max(0.0, weight):.4f}" for text, weight in prompts)


def normalised(weighted: Iterable[tuple[str, float]]) -> tuple[Blend, ...]:
    """Each text once, without those of next to no weight, weights summing to 1; empty if nothing has any."""
    total: dict[str, float] = {}
    for text, weight in weighted:
        total[text] = total.get(text, 0.0) + weight
    whole = sum(total.values())
    kept = sorted(((weight, text) for text, weight in total.items() if weight > SHARE * whole), reverse=True)[:MOST]
    strong = {text for _, text in kept}
    whole = sum(weight for weight, _ in kept)
    return tuple(Blend(text, weight / whole) for text, weight in total.items() if text in strong)
