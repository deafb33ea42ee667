"""The seam between jobs and pictures. Jobs see only this; what stands behind it imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from paintover.bridge.messages import Generate


class Monitor(Protocol):
    """How a running job speaks: what it does, what it looks like, and whether it should go on."""

    def progress(self, stage: str, fraction: float) -> None:
        """Report plain words for what is happening, and the share of this request that is done (0…1)."""

    def preview(self, image: np.ndarray) -> None:
        """Show what the picture looks like so far: uint8 (h, w, 3)."""

    def check(self) -> None:
        """Raise Cancelled if the user stopped the job. Engines call it at least once a step."""


@dataclass(frozen=True, eq=False)
class Painting:
    """A finished picture."""

    image: np.ndarray
    """uint8 (H, W, 3), sRGB."""
    seconds: dict[str, float]
    """Time by stage (load, encode, denoise, decode)."""


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


class Engine(Protocol):
    """Paints pictures from requests. Every method may take long; errors are PaintoverErrors."""

    device: str

    def paint(self, request: Generate, monitor: Monitor) -> Painting:
        """The picture for `request`. The same request with the same seed (never −1 here) gives the same picture."""

    def paint_together(
        self, requests: Sequence[Generate], agree: Agree, monitor: Monitor, begin: Unfinished | None = None
    ) -> Iterator[Unfinished | Painting]:
        """The pictures for `requests`, which differ in nothing but passes, images and seed, one after the other.

        Before them come states every few steps. With any of these as `begin`, the same pictures come out.
        """

    def hold(self, model: str, controls: Sequence[str]) -> None:
        """Have this model loaded with these ControlNets; without a name: none, but all that loading one needs."""

    def held(self) -> Held:
        """What is loaded now. Answers at once, from any thread."""
