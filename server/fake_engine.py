"""An engine without a network: flat colour from the prompt, shaded by the normals. For tests of everything else."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from paintover.bridge.messages import Generate

from .engine import Coherence, Held, Monitor, Painting

SECONDS_PER_STEP = 0.01


def _raise(error: Exception) -> None:
    raise error


ACCIDENTS: dict[str, Callable[[], object]] = {
    "no memory": lambda: _raise(MemoryError()),
    "no GPU memory": lambda: _raise(RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB.\nMore.")),
    "deadlock": lambda: threading.Event().wait(),
    "end": lambda: os._exit(3),
}
"""Prompts that make something go wrong."""


class FakeEngine:
    """Paints at once, but takes its time step by step, so that jobs can be watched and stopped."""

    device = "fake"

    def __init__(self) -> None:
        self._held = Held()

    def hold(self, model: str, controls: Sequence[str]) -> None:
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
        for step in range(request.settings.steps):
            monitor.check()
            monitor.progress(f"Step {step + 1} of {request.settings.steps}", step / request.settings.steps)
            monitor.preview(image)
            time.sleep(SECONDS_PER_STEP)
        return Painting(image, {"denoise": time.perf_counter() - started})

    def _picture(self, request: Generate) -> np.ndarray:
        settings = request.settings
        digest = hashlib.sha256(f"{settings.prompt} {settings.seed}".encode()).digest()
        color = np.frombuffer(digest[:3], np.uint8).astype(np.float32) / 255 * 0.6 + 0.4
        light: np.ndarray = np.ones((request.height, request.width), np.float32)
        if request.passes is not None:
            light = 0.4 + 0.6 * request.passes.normal[..., 2].astype(np.float32).clip(0, 1)
        image = np.round(light[..., None] * color * 255).astype(np.uint8)
        if request.mask is not None and request.image is not None:
            image = np.where(request.mask[..., None] > 127, image, request.image)
        return image
