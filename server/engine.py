"""The seam between jobs and pictures. Jobs see only this; what stands behind it imports torch."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from paintover.bridge.errors import OutOfMemory, PaintoverError, ServerFailure
from paintover.bridge.messages import Failure, Generate
from paintover.bridge.scene import Passes

from .worker_messages import StreamControl, StreamSettings

log = logging.getLogger("paintover.worker")

NO_MEMORY = ("out of memory", "can't allocate memory", "Invalid buffer size")
"""How torch says it, on its various devices."""


class Monitor(Protocol):
    """How a running job speaks: what it does, what it looks like, and whether it should go on."""

    def progress(self, stage: str, fraction: float) -> None:
        """Report plain words for what is happening, and the share of this request that is done (0…1)."""

    def preview(self, image: np.ndarray) -> None:
        """Show what the picture looks like so far: uint8 (h, w, 3)."""

    def check(self) -> None:
        """Raise Cancelled if the user stopped the job. Engines call it at least once a step."""


class Part:
    """A stretch of a job's progress: passes an engine's reports on, scaled and with the job's own words."""

    def __init__(self, monitor: Monitor, words: str, start: float, span: float) -> None:
        self._monitor, self._words, self._start, self._span = monitor, words, start, span

    def progress(self, stage: str, fraction: float) -> None:
        words = ": ".join(part for part in (self._words, stage) if part)
        self._monitor.progress(words, self._start + self._span * fraction)

    def preview(self, image: np.ndarray) -> None:
        self._monitor.preview(image)

    def check(self) -> None:
        self._monitor.check()


@dataclass(frozen=True, eq=False)
class Painting:
    """A finished picture."""

    image: np.ndarray
    """uint8 (H, W, 3), sRGB."""
    seconds: dict[str, float]
    """Time by stage (load, encode, denoise, decode)."""


@dataclass(frozen=True, eq=False)
class Frame:
    """A streamed picture."""

    image: np.ndarray
    """uint8 (H, W, 3), sRGB. It stays as it is until the frame after the next is asked for."""
    seed: int
    seconds: dict[str, float]
    """Time by stage."""
    rough: bool = False
    """A finer one of the same follows if nothing changes."""
    control: int | None = None
    """Number of the control frame that it was painted from, where that is not the newest."""
    settings: int | None = None
    """Number of the settings that it was painted with, where those are newer than the ones it was asked with."""


class Stream(Protocol):
    """Paints one frame after the other, each from the last one and from what has changed since."""

    @property
    def patience(self) -> float | None:
        """Seconds for which another frame would look like the last one; None: until something changes."""

    def frame(
        self, control: StreamControl | None, settings: StreamSettings, newest: Callable[[], StreamSettings]
    ) -> Frame | None:
        """The next picture; None while there is none yet. Errors are PaintoverErrors, and the stream goes on.

        `newest` gives the settings of the moment: an engine that has something to prepare asks for them after that, so
        that what changes meanwhile does not wait for the next picture.
        """


@dataclass(frozen=True)
class Held:
    """What an engine keeps loaded."""

    model: str = ""
    controls: tuple[str, ...] = ()
    model_bytes: int = 0
    """Size of the loaded weights."""
    device_memory: tuple[int, int] | None = None
    """Bytes of the GPU's own memory that this process takes, and that are free; None where it shares the RAM."""


Agree = Callable[[float, Sequence[Any]], Sequence[Any]]
"""Lets pictures that are painted together agree. It gets the share of the steps that is done, and for every picture the
finished latents that are foreseen now, float32 tensors (h, w, channels), and returns what shall be foreseen instead."""


@dataclass(frozen=True, eq=False)
class Unfinished:
    """Pictures that are painted together, between two steps."""

    step: int
    """The next one."""
    latents: tuple[np.ndarray, ...]
    """float32 (1, channels, h, w) of every picture."""


@dataclass(frozen=True, eq=False)
class Border:
    """Between two windows of a clip: all that the next one goes on from."""

    place: int
    """In the clip, of the next frame to come."""
    latents: tuple[np.ndarray, ...]
    """float32 (1, channels, h, w) of that frame and some after it, as the window before has painted them."""


@dataclass(frozen=True, eq=False)
class Reference:
    """A finished picture that another one should look like."""

    passes: Passes
    image: np.ndarray
    """uint8 (H, W, 3)."""


@dataclass(frozen=True, eq=False)
class Coherence:
    """What a picture shares with others of its shot. An engine may leave any of it out."""

    noise: np.ndarray | None = None
    """float32 (channels, h, w) to start from, for a model whose latents are of that shape."""
    image: np.ndarray | None = None
    """uint8 (H, W, 3): the paint of other frames, moved to where its surfaces are now."""
    known: np.ndarray | None = None
    """uint8 (H, W): where it counts, 255 or 0."""
    held: float = 0.0
    """Share of the steps, from the first, in which the foreseen picture is held to it."""
    references: tuple[Reference, ...] = ()
    """Pictures whose features the self-attention looks at, too; of the same size."""


class Engine(Protocol):
    """Paints pictures from requests. Every method may take long; errors are PaintoverErrors."""

    device: str
    threads: int
    """How many cores it keeps busy while it paints."""

    def paint(self, request: Generate, monitor: Monitor, coherence: Coherence | None = None) -> Painting:
        """The picture for `request`. The same request with the same seed (never −1 here) gives the same picture; with
        `coherence`, that of a shot."""

    def paint_together(
        self, requests: Sequence[Generate], agree: Agree, monitor: Monitor, begin: Unfinished | None = None
    ) -> Iterator[Unfinished | Painting]:
        """The pictures for `requests`, which differ in nothing but passes, images and seed, one after the other.

        Before them come states every few steps. With any of these as `begin`, the same pictures come out.
        """

    def paint_clip(
        self, requests: Iterable[Generate], monitor: Monitor, begin: Border | None = None
    ) -> Iterator[Painting | Border]:
        """The pictures for `requests`, frames of a clip, painted together by the motion adapter that the first names
        (animate_motion), one after the other.

        So many requests are taken as one window holds before its first picture comes. Between windows comes a Border.
        With that as `begin`, and the requests from its place on, the same pictures come out as without a break.
        """

    def hold(self, model: str, controls: Sequence[str]) -> None:
        """Have this model loaded with these ControlNets; without a name: none, but all that loading one needs."""

    def held(self) -> Held:
        """What is loaded now. Answers at once, from any thread."""

    def stream(self, say: Callable[[Any], None]) -> Stream:
        """A stream of frames; `say` gets a StreamState for what it does between them, from any thread."""


def failure_of(error: Exception) -> Failure:
    """What to tell the client. An error that nobody foresaw is logged whole and told in one line."""
    if isinstance(error, PaintoverError):
        return Failure.of(error)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(s in str(error) for s in NO_MEMORY)):
        return Failure.of(OutOfMemory(reason=str(error).split("\n")[0].rstrip(".") or "no memory left"))
    log.error("%s", "".join(traceback.format_exception(error)))
    return Failure.of(ServerFailure(reason=f"{type(error).__name__}: {error}"))
