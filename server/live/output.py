"""Frames out at a fixed rate: the newest painted picture at each tick, whatever the painting does meanwhile.

Nothing is queued. A tick takes the newest picture, or the one before it once more, and hands it to every sink. A thread
does it, not the event loop: it wakes within a fraction of a millisecond while the loop is at something else. Ticks lie
on a grid, so that lateness does not add up; those that were missed are left out, never made up for in a burst.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from paintover.bridge.cores import be_prompt
from paintover.bridge.errors import PaintoverError

from .sinks import FrameSink, OutputFrame

log = logging.getLogger("paintover.live")

NAP = 0.05
"""Seconds that a tick waits at most in one go: a new rate, or the end, is noticed after that."""
MEASURED = 10.0
"""Seconds over which the pace is measured."""
PRIORITY = -10
"""Niceness of the output's thread, if it may have it."""
SWITCH = 0.001
"""Seconds after which a thread gives way to one that waits (Python's own 5 ms would be seen in the pace)."""


class Picture(Protocol):
    """What the stage has painted last."""

    image: np.ndarray
    """uint8 (H, W, 3), sRGB, never changed afterwards."""
    arrived: float
    """time.monotonic() when it came."""
    depth: np.ndarray | None
    """float32 (h, w), of the scene that it was painted from, where somebody wants it."""


class Stage(Protocol):
    """Whoever has the pictures."""

    @property
    def picture(self) -> Any | None:
        """The newest Picture."""

    @property
    def down(self) -> bool:
        """Nothing can be painted now: a chosen fallback may take the picture's place."""


@dataclass(frozen=True)
class Pace:
    """How evenly frames went out lately."""

    fps: float = 0.0
    jitter_ms: float = 0.0
    """99th percentile of how far the time between two frames was off its interval."""
    largest_gap: float = 0.0
    """Longest time between two frames, in intervals."""
    frame_age_ms: float = 0.0
    """Of the picture that was sent last, since it was painted."""


class Output:
    """Hands frames to its sinks at the rate of `values["output_fps"]`, from `start` to `close`."""

    def __init__(
        self,
        stage: Stage,
        values: Mapping[str, Any],
        sinks: Iterable[FrameSink] = (),
        *,
        fallback: np.ndarray | None = None,
    ) -> None:
        """`values`: output_fps, output_width, output_height, blackout and freeze, as they are at each moment.

        `fallback`, uint8 (H, W, 3), is shown before the first picture, and while the stage is down. Without it that
        is black, and the last picture.
        """
        self._stage = stage
        self._values = values
        self.sinks = list(sinks)
        self._fallback = fallback
        self._held: Picture | None = None
        """What is shown, also when the stage lets go of it."""
        self._shown: tuple[Any, float] | None = None
        """What the last frame was made of, and how dark."""
        self._image = np.zeros((64, 64, 3), np.uint8)
        self._number = 0
        self._times: deque[tuple[float, float]] = deque(maxlen=2048)
        """When frames went out, and the interval that was wanted before each."""
        self._failed: set[str] = set()
        self._fails = False
        """The image to send could not be made the last time."""
        self._closing = False
        self._thread: threading.Thread | None = None

    # ------------------------------------------------------------ for its owner

    def start(self) -> None:
        """Open the sinks and begin. Raises what one that cannot be opened says; the others are closed then."""
        opened: list[FrameSink] = []
        try:
            for sink in self.sinks:
                sink.start()
                opened.append(sink)
        except PaintoverError:
            for sink in opened:
                sink.close()
            raise
        sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH))
        self._thread = threading.Thread(target=self._run, name="paintover-output", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop after the frame that is being sent, and close the sinks."""
        self._closing = True
        if self._thread:
            self._thread.join(5.0)
        for sink in self.sinks:
            sink.close()

    @property
    def image(self) -> np.ndarray:
        """What was sent last."""
        return self._image

    @property
    def frozen(self) -> np.ndarray | None:
        """The picture that Freeze holds."""
        held = self._held
        return held.image if held and self._values["freeze"] else None

    def pace(self) -> Pace:
        """How it went over the last MEASURED seconds."""
        now = time.perf_counter()
        times = [entry for entry in self._times.copy() if entry[0] > now - MEASURED]
        held = self._held
        age = 1000 * max(0.0, time.monotonic() - held.arrived) if held else 0.0
        if len(times) < 2:
            return Pace(frame_age_ms=age)
        at, wanted = np.array(times).T
        between = np.diff(at)
        off = 1000 * np.abs(between - wanted[1:])
        return Pace(
            fps=float(len(between) / (at[-1] - at[0])),
            jitter_ms=float(np.percentile(off, 99)),
            largest_gap=float(np.max(between / wanted[1:])),
            frame_age_ms=age,
        )

    # ------------------------------------------------------------ its thread

    def _run(self) -> None:
        _hurry()
        due, interval = time.perf_counter(), self._interval()
        while not self._closing:
            if (left := due - time.perf_counter()) > 0:
                # Not an Event with a timeout: on Windows that wakes every 15 ms only.
                time.sleep(min(left, NAP))
                if (wanted := self._interval()) != interval:
                    due, interval = due - interval + wanted, wanted
                continue
            self._send(interval)
            interval = self._interval()
            behind = time.perf_counter() - due
            due += interval * max(1, math.ceil(behind / interval))

    def _interval(self) -> float:
        return 1.0 / float(self._values["output_fps"])

    def _send(self, interval: float) -> None:
        now = time.perf_counter()
        self._number += 1
        fresh = self._try_to_make()
        self._times.append((now, interval))
        depth = self._held.depth if self._held else None
        frame = OutputFrame(self._number, time.time(), self._image, fresh, depth)
        for sink in self.sinks:
            try:
                sink.send(frame)
            except Exception as error:
                # One output that fails must not take the others along.
                if sink.name not in self._failed:
                    self._failed.add(sink.name)
                    log.error("The output %s failed; it is tried again with every frame", sink.name, exc_info=error)
            else:
                self._failed.discard(sink.name)

    def _try_to_make(self) -> bool:
        """`_make`; where that fails, as without memory, the last image goes out once more, and it is tried again."""
        try:
            fresh = self._make()
        except Exception as error:
            if not self._fails:
                log.error("The frame that goes out could not be made; the last one is repeated", exc_info=error)
            self._fails = True
            return False
        self._fails = False
        return fresh

    def _make(self) -> bool:
        """The image to send now; whether it is another one than last time."""
        picture, frozen = self._stage.picture, self._values["freeze"] and self._held is not None
        if picture is not None and not frozen:
            self._held = picture
        source: Any = self._held
        if self._fallback is not None and (self._held is None or (self._stage.down and not frozen)):
            source = self._fallback
        dark = min(1.0, max(0.0, float(self._values["blackout"])))
        size = (int(self._values["output_height"]), int(self._values["output_width"]))
        of = (size if source is None else source, dark)
        if self._shown is not None and _same(of, self._shown):
            return False
        if source is None:
            image = np.zeros((*size, 3), np.uint8)
        else:
            image = darkened(source if isinstance(source, np.ndarray) else source.image, dark).view()
        image.flags.writeable = False
        self._image, self._shown = image, of
        return True


def _hurry() -> None:
    """Go before others when this thread wakes on a busy machine: by a short slice, which anybody may ask for, and by
    priority, where the system lets the user (Linux: nice).

    Real-time scheduling makes no difference to that (largest gaps of `benchmarks.show`: 1.13 intervals with it, 1.16
    without), but a sink that takes longer than a frame would then hold up the whole machine.
    """
    be_prompt()
    if sys.platform == "linux" and os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) > PRIORITY:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), PRIORITY)


def _same(a: tuple[Any, float], b: tuple[Any, float]) -> bool:
    source, dark = a
    return dark == b[1] and (source is b[0] or (isinstance(source, tuple) and source == b[0]))


def darkened(image: np.ndarray, dark: float) -> np.ndarray:
    """uint8 image, its values scaled by 1 − dark (a fade as a mixer does it, on the values as they are shown)."""
    if dark <= 0:
        return image
    if dark >= 1:
        return np.zeros_like(image)
    scaled = np.multiply(image, round(256 * (1 - dark)), dtype=np.uint16)
    np.right_shift(scaled, 8, out=scaled)
    return scaled.astype(np.uint8)
