"""Which prompts a frame is painted from, and how much of each: the main one, the slots, and the way to a new one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from paintover.bridge.live import SLOTS
from paintover.bridge.live_messages import Value
from paintover.bridge.prompts import Blend, normalised, parse

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
    """The prompts as set, each of which may be several with weights. An empty main prompt leaves the painting to the
    slots."""
    found = [(str(values["prompt"]), 1.0 if values["prompt"] else 0.0)]
    found += [(str(values[name]), float(values[f"{name}_weight"])) for name in TEXTS[1:] if values[name]]
    parts = [(blend.text, blend.weight * weight) for text, weight in found for blend in parse(text)]
    return normalised(parts) or parse(str(values["prompt"]))


def mixed(source: Iterable[Blend], target: Iterable[Blend], share: float) -> tuple[Blend, ...]:
    """Between two blends: the first at share 0, the second at 1."""
    return normalised(
        [(one.text, one.weight * share) for one in target] + [(one.text, one.weight * (1 - share)) for one in source]
    )
