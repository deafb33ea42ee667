"""DiffusersEngine: paints pictures with Stable Diffusion 1.5, SDXL, and mini, which is built like the first."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from paintover.bridge.messages import Generate

from ..engine import Agree, Border, Coherence, Held, Monitor, Painting, Unfinished
from .trouble import memory_watched

if TYPE_CHECKING:
    from .painter import Painter
    from .stream import DiffusersStream


def best_device() -> torch.device:
    """The GPU (CUDA or ROCm, then Apple's), else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


class DiffusersEngine:
    """See engine.Engine. The model that was used last stays loaded."""

    def __init__(self, device: str | None = None, dtype: torch.dtype | None = None) -> None:
        self._device = best_device() if device is None else torch.device(device)
        self._dtype = dtype or (torch.float32 if self._device.type == "cpu" else torch.float16)
        self._painter: Painter | None = None
        self._stream: DiffusersStream | None = None
        name = f" ({torch.cuda.get_device_name(self._device)})" if self._device.type == "cuda" else ""
        self.device = f"{self._device.type}{name}"
        self.threads = torch.get_num_threads() if self._device.type == "cpu" else 1
        # diffusers takes seconds to import: begin now, while the worker reports for duty and waits for its first job.
        self._importing = threading.Thread(target=_import_painter, name="paintover-import", daemon=True)
        self._importing.start()

    def hold(self, model: str, controls: Sequence[str]) -> None:
        """See engine.Engine."""
        self._ready().hold(model, controls)

    def held(self) -> Held:
        """See engine.Engine."""
        memory = None
        if self._device.type == "cuda" and torch.cuda.is_initialized():
            free, _ = torch.cuda.mem_get_info(self._device)
            memory = torch.cuda.memory_reserved(self._device), free
        held = self._painter.held if self._painter else Held()
        if self._stream and (model := self._stream.model):  # what a standby needs first
            held = Held(model.entry.name, tuple(model.controlnets), model.size)
        return replace(held, device_memory=memory)

    def stream(self, say: Callable[[Any], None]) -> DiffusersStream:
        """See engine.Engine."""
        self._importing.join()  # two threads that import diffusers' parts at once can end up with half of it
        from .stream import DiffusersStream

        self._stream = DiffusersStream(self._device, self._dtype, say)
        return self._stream

    def paint(self, request: Generate, monitor: Monitor, coherence: Coherence | None = None) -> Painting:
        """The picture for `request`: see engine.Engine. Where a mask is 0, the pixels are the given image's own."""
        picture, seconds = self.paint_float(request, monitor, coherence)
        image = (picture * 255).round().astype(np.uint8)
        if request.mask is not None and request.image is not None:
            share = request.mask[..., None].astype(np.float32) / 255
            image = np.round(request.image + (image.astype(np.float32) - request.image) * share).astype(np.uint8)
        return Painting(image, seconds)

    def paint_together(
        self, requests: Sequence[Generate], agree: Agree, monitor: Monitor, begin: Unfinished | None = None
    ) -> Iterator[Unfinished | Painting]:
        """See engine.Engine."""
        painter = self._ready(monitor)
        with memory_watched(_what(requests[0])):
            yield from painter.paint_together(requests, agree, monitor, begin)

    def paint_clip(
        self, requests: Iterable[Generate], monitor: Monitor, begin: Border | None = None
    ) -> Iterator[Painting | Border]:
        """See engine.Engine."""
        painter = self._ready(monitor)
        with memory_watched("a clip"):
            from .clip import paint_clip

            yield from paint_clip(painter, requests, monitor, begin)

    def paint_float(
        self, request: Generate, monitor: Monitor, coherence: Coherence | None = None
    ) -> tuple[np.ndarray, dict[str, float]]:
        """float32 (H, W, 3) in 0…1 as the VAE decodes it, and the seconds of each stage."""
        painter = self._ready(monitor)
        with memory_watched(_what(request)):
            return painter.paint(request, monitor, coherence)

    def _ready(self, monitor: Monitor | None = None) -> Painter:
        """The painter: made when it is needed first, which takes seconds."""
        if self._painter is None:
            if monitor:
                monitor.progress("Starting", 0.0)
            self._painter = _import_painter()(self._device, self._dtype)
        return self._painter


def _import_painter() -> type[Painter]:
    from .painter import Painter

    return Painter


def _what(request: Generate) -> str:
    return f"{request.width} × {request.height} with {request.settings.model}"
