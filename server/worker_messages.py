"""What the front and its worker say to each other, beside the reports that travel on to clients unchanged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from paintover.bridge.live import LiveSettings
from paintover.bridge.messages import (
    BoardOffer,
    BoardProof,
    Failure,
    FrameGiven,
    FramePainted,
    FrameWanted,
    Generate,
    ImageResult,
    LaneOffer,
    LaneProof,
    MeshData,
    Preview,
    Progress,
    Shot,
    Texture,
    TextureResult,
    ViewPainted,
)
from paintover.bridge.parameters import Settings
from paintover.bridge.prompts import Blend
from paintover.bridge.scene import Passes


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
    """Processor time of the worker so far, but for what receiving messages took."""
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
class Halfway:
    """Where the painting of all views at once stands: enough to go on from there."""

    job: str
    step: int
    """The next one."""
    latents: tuple[np.ndarray, ...]
    """float32 (1, channels, h, w) of every view."""


@dataclass(frozen=True, eq=False)
class Kept:
    """A painted frame of a shot that others take their paint from."""

    number: int
    settings: Settings
    passes: Passes
    image: np.ndarray
    """uint8 (H, W, 3)."""
    detail: np.ndarray
    """float16 (H, W) in 0…1: its detail against freshly painted."""
    origin: np.ndarray | None
    """Of its noise: float32 (H, W, 3), see animation.noise.Origin."""
    border: int = 0
    """Of a clip: how many of its frames come before the border (engine.Border.place) behind this one; else 0."""
    latents: tuple[np.ndarray, ...] = ()
    """Likewise."""


@dataclass(frozen=True, eq=False)
class State:
    """All that a shot goes on from at a keyframe: with it and the frames that follow, the same pictures come out, bit
    for bit. Its size does not depend on the shot's length."""

    anchor: Kept | None = None
    """The first picture since the look changed."""
    before: Kept | None = None
    after: Kept | None = None


@dataclass(frozen=True, eq=False)
class KeyDone:
    """A keyframe of a shot that has been reported (FramePainted): what the shot can go on from."""

    job: str
    place: int
    """In the order of sending, as is `anchor`."""
    anchor: int
    """The keyframe that is its State.anchor; State.before is the keyframe before."""
    kept: Kept


@dataclass(frozen=True, eq=False)
class Run:
    job: str
    request: Generate | Texture | Shot
    meshes: tuple[MeshData, ...] = ()
    views: tuple[ViewDone, ...] = ()
    """Views that an earlier run has finished."""
    baked: tuple[int, ...] = ()
    """Object ids whose textures an earlier run has finished."""
    halfway: Halfway | None = None
    """Where an earlier run that paints all views at once was last."""
    state: State | None = None
    """Of a shot: a keyframe that an earlier run has finished."""
    place: int = 0
    """Of a shot: the first frame to paint."""


@dataclass(frozen=True)
class Stop:
    """Stop the job at its next step. A job that is not running is ignored: it has just ended."""

    job: str


@dataclass(frozen=True)
class Ended:
    """The job is over: done, or failed with this error (cancelled is an error, too)."""

    job: str
    failure: Failure | None = None


@dataclass(frozen=True, eq=False)
class StreamControl:
    """The newest control frame, for all streamed frames from now on. A newer one supersedes it."""

    number: int
    passes: Passes | None
    """None: there is an image and no scene, and no ControlNet acts."""
    image: np.ndarray | None = None
    """uint8 (H, W, 3), of any size: where image-to-image starts from."""
    core: int = -1
    """Of the processor, where the front hands it on."""

    def supersedes(self) -> str:
        return "StreamControl"


@dataclass(frozen=True)
class StreamSettings:
    """How streamed frames are painted from the next one on. A newer one supersedes it.

    The worker paints by itself, one frame after the other, while `settings.play` is on and something changes.
    """

    number: int
    """Counts up; comes back in StreamPicture, so that latency can be measured."""
    settings: LiveSettings
    prompts: tuple[Blend, ...] = ()
    """What to paint: the main prompt, slots and transition resolved to weights that sum to 1."""
    resets: int = 0
    """Counts up each time that the temporal state is to be cleared."""

    def supersedes(self) -> str:
        return "StreamSettings"


@dataclass(frozen=True, eq=False)
class StreamPicture:
    """A streamed frame. A newer one supersedes it."""

    control: int
    """StreamControl.number that it was painted from; −1 for none."""
    settings: int
    """StreamSettings.number."""
    image: np.ndarray
    """uint8 (H, W, 3), sRGB."""
    seed: int
    seconds: dict[str, float] = field(default_factory=dict)
    core: int = -1
    """Of the processor, where the worker goes on."""
    on_board: ClassVar[bool] = True
    """Its image may be overtaken by a newer one's (bridge.board)."""

    def supersedes(self) -> str:
        return "StreamPicture"


@dataclass(frozen=True)
class StreamState:
    """What the stream does when it does not paint: bridge.live_messages.STATES."""

    state: str
    text: str = ""
    progress: float = 0.0
    failure: Failure | None = None
    """What went wrong. The stream goes on with what it had, and tries again when something changes."""
    refused: str = ""
    """The model that could not be loaded beside the running one, which goes on."""
    control: str = ""
    """If it is not the model itself that could not: which of its ControlNets."""


TO_WORKER: dict[str, type] = {
    cls.__name__: cls
    for cls in (Run, Stop, FrameGiven, Warm, Yield, LaneOffer, BoardOffer, StreamControl, StreamSettings)
}
TO_FRONT: dict[str, type] = {
    cls.__name__: cls
    for cls in (
        WorkerHello, LaneProof, BoardProof, Beat, Ended, Progress, Preview, ViewDone, Halfway, ImageResult,
        TextureResult, FrameWanted, FramePainted, KeyDone, StreamPicture, StreamState,
    )
}  # fmt: skip
