"""A shot whose frames a motion module paints together, window by window (pipelines/motion.py): the other way to paint
one, beside job.py's. Frames come in the order of showing; a cut begins a clip of its own."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np

from paintover.bridge.messages import Generate
from paintover.bridge.shot import ShotFrame

from ..engine import Border, Engine, Monitor
from ..worker_messages import Kept, State
from .job import Painted


def animate_clip(
    engine: Engine, frames: Iterable[ShotFrame], monitor: Monitor, state: State | None = None
) -> Iterator[Painted]:
    """Paint a shot's frames, all of them keyframes; yields each as it is finished, the last one before a window's
    border with what the shot goes on from behind it.

    `state`: to go on there. So many frames as a window has are held at most. Raises BadPasses, and whatever the engine
    raises.
    """
    clips = _Clips(frames)
    begin = Border(state.after.border, state.after.latents) if state and state.after and state.after.border else None
    while not clips.over:
        last: tuple[Painted, ShotFrame] | None = None
        for part in engine.paint_clip(clips.requests(), monitor, begin):
            if isinstance(part, Border):
                assert last is not None
                yield dataclasses.replace(last[0], state=_state(*last, part))
                last = None
                continue
            if last:
                yield last[0]
            frame = clips.taken.popleft()
            last = Painted(frame.number, part.image, frame.settings, 1.0, None, part.seconds), frame
        if last:
            yield last[0]
        begin = None


def _state(painted: Painted, frame: ShotFrame, border: Border) -> State:
    detail = np.ones(painted.image.shape[:2], np.float16)
    kept = Kept(frame.number, frame.settings, frame.passes, painted.image, detail, None, border.place, border.latents)
    return State(kept, None, kept)


class _Clips:
    """A shot's frames, clip by clip."""

    def __init__(self, frames: Iterable[ShotFrame]) -> None:
        self._frames = iter(frames)
        self._next: ShotFrame | None = None
        self.taken: deque[ShotFrame] = deque()
        """Frames that were given to the engine and are not painted yet."""
        self.over = False

    def requests(self) -> Iterator[Generate]:
        """The frames up to the next cut."""
        first = True
        while True:
            frame, self._next = self._next or next(self._frames, None), None
            if frame is None:
                self.over = True
                return
            if frame.before is None and not first:
                self._next = frame
                return
            first = False
            frame.passes.check_values()
            self.taken.append(frame)
            camera = frame.passes.camera
            yield Generate(frame.settings, camera.width, camera.height, frame.passes)
