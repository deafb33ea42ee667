"""What the front and its worker say to each other, beside the reports that travel on to clients unchanged."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True, eq=False)
class Run:
    job: str
    request: Generate | Texture
    meshes: tuple[MeshData, ...] = ()


@dataclass(frozen=True)
class Stop:
    """Stop the job at its next step. A job that is not running is ignored: it has just ended."""

    job: str


@dataclass(frozen=True)
class Ended:
    """The job is over: done, or failed with this error (cancelled is an error, too)."""

    job: str
    failure: Failure | None = None


TO_WORKER: dict[str, type] = {cls.__name__: cls for cls in (Run, Stop, LaneOffer)}
TO_FRONT: dict[str, type] = {
    cls.__name__: cls
    for cls in (WorkerHello, LaneProof, Ended, Progress, Preview, ViewPainted, ImageResult, TextureResult)
}
