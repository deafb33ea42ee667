"""LoRAs with weights, in one text: “film:0.8 sketch:0.4”. Without a weight of its own, one counts 1.

A name has no spaces. A weight below 0 turns a LoRA's look into its opposite.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

MOST = 10.0
"""Greatest weight, in either direction: beyond it nothing can be seen but noise."""
WEIGHTED = re.compile(r"(.+):([+-]?(?:\d+\.?\d*|\.\d+))")


@dataclass(frozen=True)
class Lora:
    """A small set of weights (Hu et al. 2021) that is added to a model's own, times `weight`."""

    name: str
    weight: float = 1.0


def parse(text: str) -> tuple[Lora, ...]:
    """The LoRAs in a text, each once: of one that is named twice the weights are summed. Never fails: what ends in no
    weight is a name."""
    weights: dict[str, float] = {}
    for piece in text.replace(",", " ").split():
        found = WEIGHTED.fullmatch(piece)
        name, weight = (found[1], float(found[2])) if found else (piece, 1.0)
        weights[name] = weights.get(name, 0.0) + weight
    return tuple(Lora(name, max(-MOST, min(weight, MOST))) for name, weight in weights.items())


def join(loras: Iterable[tuple[str, float]]) -> str:
    """The text that `parse` reads as these LoRAs with these weights."""
    return " ".join(f"{name}:{weight:.4f}" for name, weight in loras)
