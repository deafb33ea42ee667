"""A shot as a job of the worker: frames in, as the client sends them, and what has come of each out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from paintover.bridge.messages import FramePainted, Shot
from paintover.bridge.shot import Place, ShotFrame

from ..engine import Engine, Monitor, Part
from ..worker_messages import KeyDone, Run
from .clip import animate_clip
from .job import animate


class _Monitor:
    """The job's monitor, as each frame in turn sees it."""

    def __init__(self, monitor: Monitor, places: tuple[Place, ...]) -> None:
        self._monitor, self._places = monitor, places
        self._part = Part(monitor, "", 0.0, 0.0)

    def window(self, first: int, end: int) -> None:
        """The frames from place `first` to before `end` are painted together."""
        self._part = Part(self._monitor, "", first / len(self._places), (end - first) / len(self._places))

    def begin(self, place: int) -> None:
        number, count = self._places[place].number, len(self._places)
        self._part = Part(self._monitor, f"Painting frame {number}, {place + 1} of {count}", place / count, 1 / count)
        self._part.progress("", 0.0)

    def progress(self, stage: str, fraction: float) -> None:
        self._part.progress(stage, fraction)

    def preview(self, image: np.ndarray) -> None:
        self._part.preview(image)

    def check(self) -> None:
        self._part.check()


def paint_shot(
    engine: Engine, run: Run, shot: Shot, given: Iterable[ShotFrame], monitor: Monitor
) -> Iterator[FramePainted | KeyDone]:
    """Paint the frames that are given: from run.place on, behind the keyframe run.state. Yields each as it is finished,
    and behind a keyframe what the shot can go on from.

    Raises BadMessage for a frame whose links lead elsewhere, BadPasses for damaged ones, and whatever the engine
    raises.
    """
    places = shot.plan()
    place_of = {place.number: index for index, place in enumerate(places)}
    words, together, done = _Monitor(monitor, places), bool(shot.settings.animate_motion), run.place

    def frames() -> Iterator[ShotFrame]:
        for place, frame in enumerate(given, run.place):
            if together:
                words.window(done, place + 1)
            else:
                words.begin(place)
            seed = shot.settings.seed if frame.settings.seed < 0 else frame.settings.seed
            settings = dataclasses.replace(frame.settings, seed=seed, animate_motion=shot.settings.animate_motion)
            yield dataclasses.replace(frame, settings=settings)

    paint = animate_clip if together else animate
    for place, painted in enumerate(paint(engine, frames(), words, run.state), run.place):
        done = place + 1
        yield FramePainted(
            run.job, place, painted.number, painted.image, painted.settings, painted.fresh, painted.seconds
        )
        if painted.state and painted.state.anchor and painted.state.after:
            yield KeyDone(run.job, place, place_of[painted.state.anchor.number], painted.state.after)
