"""What the front and its worker say to each other, beside the reports that travel on to clients unchanged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paintover.bridge.messages import (
    Failure,
    Generate,
    ImageResult,
    LaneOffer,
    LaneProof,
    MeshData,
    Preview,
    Progress,
    Texture,
    TextureResult,
    ViewPainted,
)


@dataclass(frozen=True)
class WorkerHello:
    """The worker is up. The nonce proves that it is the process that the front started."""

    nonce: str
    device: str


@dataclass(frozen=True)
class Beat:
    """Sent every second by a thread of its own, whatever the job's thread does: a sign of life, and what is held."""

    model: str = ""
    controls: tuple[str, ...] = ()
    """ControlNets that are loaded with the model."""
    model_bytes: int = 0
    device_used: int = 0
    """Bytes of the device's memory (the GPU's, else RAM) that this worker takes."""
    device_free: int = 0
    ram_used: int = 0
    ram_free: int = 0
    cpu_seconds: float = 0.0
    """Processor time of the worker so far."""
    slowed: bool = False
    """Some of its threads are at low priority: it loads something while a job runs elsewhere, or did, and its system
    does not let them be raised again."""

    def supersedes(self) -> str:
        return "Beat"


@dataclass(frozen=True)
class Warm:
    """Have this model loaded (none: let go of it), for a job that may come."""

    model: str
    controls: tuple[str, ...] = ()


@dataclass(frozen=True)
class Yield:
    """A job begins: whatever is still prepared for later ones is not to take time from it."""


@dataclass(frozen=True, eq=False)
class ViewDone:
    """A finished view, with what a resumed job needs to go on from it."""

    job: str
    index: int
    """Which of the request's views."""
    painted: ViewPainted
    fresh: np.ndarray
    """uint8 (H, W): 1 where the pixel was painted in this view, 0 where it was taken over from others."""


@dataclass(frozen=True, eq=False)
class Run:
    job: str
    request: Generate | Texture
    meshes: tuple[MeshData, ...] = ()
    views: tuple[ViewDone, ...] = ()
    """Views that an earlier run has finished."""
    baked: tuple[int, ...] = ()
    """Object ids whose textures an earlier run has finished."""


@dataclass(frozen=True)
class Stop:
    """Stop the job at its next step. A job that is not running is ignored: it has just ended."""

    job: str


@dataclass(frozen=True)
class Ended:
    """The job is over: done, or failed with this error (cancelled is an error, too)."""

    job: str
    failure: Failure | None = None


TO_WORKER: dict[str, type] = {cls.__name__: cls for cls in (Run, Stop, Warm, Yield, LaneOffer)}
TO_FRONT: dict[str, type] = {
    cls.__name__: cls
    for cls in (WorkerHello, LaneProof, Beat, Ended, Progress, Preview, ViewDone, ImageResult, TextureResult)
}
