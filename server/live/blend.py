"""Which prompts a frame is painted from, and how much of each: the main one, the slots, and the way to a new one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from paintover.bridge.live import SLOTS
from paintover.bridge.live_messages import Value

from ..worker_messages import Blend

MOST = 12
"""Prompts in one blend: each costs the worker a text embedding. Of more, the weakest are left out."""
TEXTS = ("prompt", *(f"prompt_{slot}" for slot in range(1, SLOTS + 1)))
"""The parameters whose change is a transition."""


@dataclass(frozen=True)
class Fade:
    """On the way from the prompts that were to those that are set now."""

    source: tuple[Blend, ...]
    start: float
    seconds: float

    def share(self, now: float) -> float:
        """Of the new prompts, 0…1."""
        return min(1.0, max(0.0, (now - self.start) / self.seconds)) if self.seconds > 0 else 1.0


def asked(values: Mapping[str, Value]) -> tuple[Blend, ...]:
    """The prompts as set. An empty main prompt leaves the painting to the slots."""
    found = [(str(values["prompt"]), 1.0 if values["prompt"] else 0.0)]
    found += [(str(values[name]), float(values[f"{name}_weight"])) for name in TEXTS[1:] if values[name]]
    return _normal(found) or (Blend(str(values["prompt"]), 1.0),)


def mixed(source: Iterable[Blend], target: Iterable[Blend], share: float) -> tuple[Blend, ...]:
    """Between two blends: the first at share 0, the second at 1."""
    return _normal(
        [(one.text, one.weight * share) for one in target] + [(one.text, one.weight * (1 - share)) for one in source]
    )


def _normal(weighted: Iterable[tuple[str, float]]) -> tuple[Blend, ...]:
    """Each text once, without those of no weight, weights summing to 1."""
    total: dict[str, float] = {}
    for text, weight in weighted:
        total[text] = total.get(text, 0.0) + weight
    kept = sorted(((weight, text) for text, weight in total.items() if weight > 1e-4), reverse=True)[:MOST]
    strong = {text for _, text in kept}
    whole = sum(weight for weight, _ in kept)
    return tuple(Blend(text, weight / whole) for text, weight in total.items() if text in strong)
