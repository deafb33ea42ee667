"""The seam between jobs and pictures. Jobs see only this; what stands behind it imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from paintover.bridge.messages import Generate
from paintover.bridge.scene import Passes


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

    def paint(self, request: Generate, monitor: Monitor, coherence: Coherence | None = None) -> Painting:
        """The picture for `request`. The same request with the same seed (never −1 here) gives the same picture; with
        `coherence`, that of a shot."""

    def hold(self, model: str, controls: Sequence[str]) -> None:
        """Have this model loaded with these ControlNets; without a name: none, but all that loading one needs."""

    def held(self) -> Held:
        """What is loaded now. Answers at once, from any thread."""
