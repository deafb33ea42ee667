"""Loads what the stream wants next, beside what it paints."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch

from paintover.bridge.live_messages import LOADING, RUNNING

from ..models import ModelEntry
from ..worker_messages import StreamState
from . import loading
from .loading import Model
from .loras import Read, read

LORA = "lora "
"""Before its name: a LoRA among what could not be loaded."""


class Loader(threading.Thread):
    """Loads a model and some of its ControlNets; what is loaded already it takes from there. LoRAs are only
    read: the model may be painting meanwhile."""

    def __init__(
        self, entry: ModelEntry, controls: list[str], named: tuple[str, ...], device: torch.device, dtype: torch.dtype,
        say: Callable[[StreamState], None], first: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(name="paintover-load", daemon=True)
        self.entry, self._controls, self._named, self._first = entry, controls, named, first
        self._where, self._say = (device, dtype), say
        self.model: Model | None = None
        self.errors: dict[str, Exception] = {}
        """What could not be loaded: a control, a LoRA, or "" for the model."""
        self.loras: list[Read] = []
        self.done = False
        self._told = -1.0
        self.start()

    def run(self) -> None:
        try:
            self.model = loading.shared_model(self.entry, *self._where, self._report)
        except Exception as error:  # noqa: BLE001 - told by whoever asked for it
            self.errors[""] = error
        for control in self._controls:
            if self.model is None:
                break
            try:
                loading.load_control(self.model, control)
            except Exception as error:  # noqa: BLE001 - the picture goes on without it
                self.errors[control] = error
        for name in self._named:
            if self.model is None:
                break
            try:
                self.loras.append(read(self.model, name))
            except Exception as error:  # noqa: BLE001 - likewise
                self.errors[LORA + name] = error
        self.done = True

    def _report(self, share: float) -> None:
        if share - self._told >= 0.05:
            self._told = share
            self._say(StreamState(LOADING if self._first else RUNNING, f"Loading {self.entry.name}", share))
