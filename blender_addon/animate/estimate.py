"""What a shot will take, told from a few of its frames that were painted with fewer steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..bridge.shot import Place


@dataclass(frozen=True)
class Sample:
    """A frame that was painted at the shot's own size."""

    place: Place
    seconds: Mapping[str, float]
    """By stage, as the server says (FramePainted.seconds)."""

    def cost(self, ratio: float) -> float:
        """Seconds with `ratio` times the steps, once the model is loaded: only denoising takes longer with them."""
        stages = dict(self.seconds)
        total = stages.pop("total", sum(stages.values()))
        denoise = stages.get("denoise", 0.0)
        return total - stages.get("load", 0.0) + denoise * (ratio - 1)


def estimate(samples: Sequence[Sample], ratio: float, places: Iterable[Place], pace: float = 0.0) -> float:
    """Seconds for the frames at `places`, with `ratio` times the steps of the samples.

    `pace`: seconds from one sample to the next on the clock. Blender may take longer for a frame than the server, and
    more steps do not change that.
    """
    costs: dict[str, list[float]] = {}
    for sample in samples:
        costs.setdefault(_kind(sample.place), []).append(sample.cost(ratio))
    mean = {kind: sum(found) / len(found) for kind, found in costs.items()}
    mean.setdefault("key", mean.get("first", 0.0))
    mean.setdefault("first", mean["key"])
    mean.setdefault("between", mean["key"])
    wanted = [_kind(place) for place in places]
    return max(sum(mean[kind] for kind in wanted), pace * len(wanted))


def _kind(place: Place) -> str:
    """Frames of one kind take about as long: a first one is painted whole, a keyframe where it is new, and between two
    of them hardly anything is."""
    if not place.key:
        return "between"
    return "first" if place.before is None else "key"
