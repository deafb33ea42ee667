"""An engine without a network: flat colour from the prompt, shaded by the normals. For tests of everything else."""

from __future__ import annotations

import hashlib
import time

import numpy as np

from paintover.bridge.messages import Generate

from .engine import Monitor, Painting

SECONDS_PER_STEP = 0.01


class FakeEngine:
    """Paints at once, but takes its time step by step, so that jobs can be watched and stopped."""

    device = "fake"

    def paint(self, request: Generate, monitor: Monitor) -> Painting:
        started = time.perf_counter()
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
