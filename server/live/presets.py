"""Presets: the look of the picture, stored under a number, and the way from one look to another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from paintover.bridge.live import LIVE
from paintover.bridge.live_messages import Value

COUNT = 128
LOOK = tuple(row.name for row in LIVE if row.group not in ("stage", "tempo", "blender"))
"""What a preset holds, and what waits for the beat: how the picture looks, but not what is done with it."""
_TRAVEL = frozenset(row.name for row in LIVE if row.type in (int, float) and not row.choices and row.name != "seed")


@dataclass
class Morph:
    """Numbers on their way to a preset's. Whatever cannot travel (seed, model, switches) changes at the start."""

    source: dict[str, Value]
    target: dict[str, Value]
    start: float
    seconds: float

    @classmethod
    def between(cls, now_set: Mapping[str, Value], preset: Mapping[str, Value], start: float, seconds: float) -> Morph:
        target = {n: v for n, v in preset.items() if n in _TRAVEL and v != now_set[n]} if seconds > 0 else {}
        return cls({name: now_set[name] for name in target}, target, start, seconds)

    def at(self, now: float) -> dict[str, Value]:
        """The values at that time; numbers of type int are rounded."""
        share = min(1.0, max(0.0, (now - self.start) / self.seconds)) if self.seconds > 0 else 1.0
        if share == 1.0:
            return dict(self.target)
        found: dict[str, Value] = {}
        for name, target in self.target.items():
            value = float(self.source[name]) + (float(target) - float(self.source[name])) * share
            found[name] = round(value) if isinstance(target, int) else value
        return found

    def over(self, now: float) -> bool:
        return not self.target or now >= self.start + self.seconds
