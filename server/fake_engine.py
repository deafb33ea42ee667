"""An engine without a network: flat colour from the prompt, shaded by the normals. For tests of everything else."""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from paintover.bridge.errors import MissingModel
from paintover.bridge.live_messages import RUNNING
from paintover.bridge.messages import Failure, Generate
from paintover.bridge.parameters import Settings

from .engine import Agree, Border, Coherence, Frame, Held, Monitor, Painting, Unfinished
from .worker_messages import StreamControl, StreamSettings, StreamState

SECONDS_PER_STEP = 0.01
ENDLESS, ENDLESS_NEXT = "endless", "endless from the second on"
"""Prompts of pictures that take until they are cancelled, or the worker killed. “until PATH” takes until that file is
there."""


def _raise(error: Exception) -> None:
    raise error


def _spin() -> None:
    while True:
        pass


ACCIDENTS: dict[str, Callable[[], object]] = {
    "no memory": lambda: _raise(MemoryError()),
    "no GPU memory": lambda: _raise(RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB.\nMore.")),
    "deadlock": lambda: threading.Event().wait(),
    "spin": _spin,
    "end": lambda: os._exit(3),
}
"""Prompts that make something go wrong."""


def color_of(settings: Settings) -> np.ndarray:
    """float32 (3,), never dark."""
    digest = hashlib.sha256(f"{settings.prompt} {settings.seed}".encode()).digest()
    return np.frombuffer(digest[:3], np.uint8).astype(np.float32) / 255 * 0.6 + 0.4


class FakeEngine:
    """Paints at once, but takes its time step by step, so that jobs can be watched and stopped."""

    device = "fake"
    threads = 1

    def __init__(self) -> None:
        self._held = Held()
        self._painted: set[str] = set()

    def hold(self, model: str, controls: Sequence[str]) -> None:
        if model == "deadly":
            os._exit(3)
        # A model that is called “when PATH” takes until that file exists to load.
        while model.startswith("when ") and model != self._held.model and not os.path.exists(model[5:]):
            time.sleep(SECONDS_PER_STEP)
        self._held = Held(model, tuple(controls))

    def held(self) -> Held:
        return self._held

    def paint(self, request: Generate, monitor: Monitor, coherence: Coherence | None = None) -> Painting:
        started = time.perf_counter()
        self.hold(request.settings.model, ())
        if request.settings.prompt in ACCIDENTS:
            ACCIDENTS[request.settings.prompt]()
        image = self._picture(request)
        steps, prompt = request.settings.steps, request.settings.prompt
        for step in itertools.count():
            if step >= steps and not self._goes_on(prompt):
                break
            monitor.check()
            monitor.progress(f"Step {step + 1} of {steps}", min(step / steps, 1.0))
            monitor.preview(image)
            time.sleep(SECONDS_PER_STEP)
        self._painted.add(prompt)
        return Painting(image, {"denoise": time.perf_counter() - started})

    def _goes_on(self, prompt: str) -> bool:
        endless = prompt == ENDLESS or (prompt == ENDLESS_NEXT and prompt in self._painted)
        return endless or (prompt.startswith("until ") and not os.path.exists(prompt[6:]))

    def paint_together(
        self, requests: Sequence[Generate], agree: Agree, monitor: Monitor, begin: Unfinished | None = None
    ) -> Iterator[Unfinished | Painting]:
        return (self.paint(request, monitor) for request in requests)

    def paint_clip(
        self, requests: Iterable[Generate], monitor: Monitor, begin: Border | None = None
    ) -> Iterator[Painting | Border]:
        for place, request in enumerate(requests, begin.place if begin else 0):
            yield self.paint(request, monitor)
            yield Border(place + 1, ())

    def stream(self, say: Callable[[Any], None]) -> NullStream:
        return NullStream(self, say)

    def _picture(self, request: Generate) -> np.ndarray:
        color = color_of(request.settings)
        light: np.ndarray = np.ones((request.height, request.width), np.float32)
        if request.passes is not None:
            light = 0.4 + 0.6 * request.passes.normal[..., 2].astype(np.float32).clip(0, 1)
        image = np.round(light[..., None] * color * 255).astype(np.uint8)
        if request.mask is not None and request.image is not None:
            image = np.where(request.mask[..., None] > 127, image, request.image)
        return image


class NullStream:
    """Sleeps for as long as a fast GPU paints, then shows the prompt's colour and, in its first pixels, the control's
    number: little-endian bytes, the first one red."""

    def __init__(self, engine: FakeEngine, say: Callable[[Any], None]) -> None:
        self._engine, self._say = engine, say
        self._model = ""
        self._shows: tuple[str, int, int, int] | None = None
        self._background: np.ndarray = np.zeros((1, 1, 3), np.uint8)
        self.patience: float | None = None

    def frame(
        self, control: StreamControl | None, settings: StreamSettings, newest: Callable[[], StreamSettings]
    ) -> Frame:
        wanted = settings.settings
        started = time.perf_counter()
        if wanted.model != self._model:
            if wanted.model == "broken":
                self._say(StreamState(RUNNING, failure=Failure.of(MissingModel(name="broken")), refused="broken"))
            else:
                self._engine.hold(wanted.model, ())
            self._model = wanted.model
        if wanted.prompt in ACCIDENTS:
            ACCIDENTS[wanted.prompt]()
        what = (wanted.prompt, wanted.seed, wanted.output_width, wanted.output_height)
        if what != self._shows:
            shape = (wanted.output_height, wanted.output_width, 3)
            color = (color_of(wanted) * 255).round().astype(np.uint8)
            self._shows, self._background = what, np.ascontiguousarray(np.broadcast_to(color, shape))
        image = self._background.copy()
        image.reshape(-1)[:4] = np.frombuffer((control.number if control else 0).to_bytes(4, "little"), np.uint8)
        time.sleep(max(0.0, started + SECONDS_PER_STEP - time.perf_counter()))
        self.patience = 0.0 if wanted.feedback_amount > 0 else None
        return Frame(image, wanted.seed, {"paint": time.perf_counter() - started})
