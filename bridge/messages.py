"""Everything the two sides say to each other: frozen dataclasses; the wire tag is the class name.

A conversation: client Hello -> server Welcome (or Refused, then the connection closes). A texture job: MeshQuery ->
MeshesMissing, MeshUpload for each, Submit; a shot: shot_messages.py. A job then reports JobState, Progress, Preview and
ViewPainted, and ends with its results (ImageResult or TextureResult) followed by a final JobState. Who comes later asks
ListJobs -> Jobs, then Follow, TakeOver, Resume or Forget.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from .errors import BadMessage
from .greeting import MESSAGES as MESSAGES
from .greeting import BoardOffer as BoardOffer
from .greeting import BoardProof as BoardProof
from .greeting import Capabilities as Capabilities
from .greeting import Failure as Failure
from .greeting import Hello as Hello
from .greeting import LaneOffer as LaneOffer
from .greeting import LaneProof as LaneProof
from .greeting import ModelInfo as ModelInfo
from .greeting import Ping as Ping
from .greeting import Pong as Pong
from .greeting import Probe as Probe
from .greeting import ProbeAnswer as ProbeAnswer
from .greeting import Refused as Refused
from .greeting import Welcome as Welcome
from .greeting import message as message
from .live_messages import LiveEvent as LiveEvent
from .live_messages import LiveFrame as LiveFrame
from .live_messages import LiveJoin as LiveJoin
from .live_messages import LiveLeave as LiveLeave
from .live_messages import LivePicture as LivePicture
from .live_messages import LiveSet as LiveSet
from .live_messages import LiveStatus as LiveStatus
from .live_messages import LiveTrigger as LiveTrigger
from .live_messages import LiveTrouble as LiveTrouble
from .live_messages import LiveValues as LiveValues
from .origin import Origin
from .parameters import Settings
from .scene import MeshData, Passes
from .shot_messages import FrameGiven as FrameGiven
from .shot_messages import FrameKept as FrameKept
from .shot_messages import FrameMissing as FrameMissing
from .shot_messages import FramePainted as FramePainted
from .shot_messages import FrameWanted as FrameWanted
from .shot_messages import Shot as Shot

# Job states, as they travel in JobState.state. server/jobs.py holds the table of allowed changes.
QUEUED, RUNNING, DONE, CANCELLED, FAILED = "queued", "running", "done", "cancelled", "failed"
STATES = (QUEUED, RUNNING, DONE, CANCELLED, FAILED)
ENDED = (DONE, CANCELLED, FAILED)

JOB_NAME = re.compile("[0-9a-f]{32}")


# ---------------------------------------------------------------- requests


@dataclass(frozen=True, eq=False)
class Generate:
    """Paint one image.

    With `image` and settings.strength < 1: image-to-image. With `mask` as well: inpainting, where 255 is painted.
    """

    settings: Settings
    width: int
    height: int
    passes: Passes | None = None
    image: np.ndarray | None = None
    """uint8 (H, W, 3)."""
    mask: np.ndarray | None = None
    """uint8 (H, W): 255 is painted, 0 is kept."""

    def __post_init__(self) -> None:
        shape = (self.height, self.width)
        if self.image is not None and (self.image.shape != (*shape, 3) or self.image.dtype != np.uint8):
            raise BadMessage(name="Generate", reason=f"image is not uint8 {(*shape, 3)}")
        if self.mask is not None and (self.mask.shape != shape or self.mask.dtype != np.uint8):
            raise BadMessage(name="Generate", reason=f"mask is not uint8 {shape}")
        if self.mask is not None and self.image is None:
            raise BadMessage(name="Generate", reason="a mask needs an image")
        if self.passes is not None and self.passes.depth.shape != shape:
            raise BadMessage(name="Generate", reason="the passes have another size than the image")


@dataclass(frozen=True, eq=False)
class Texture:
    """Paint the textures of objects, seen from several views."""

    settings: Settings
    views: tuple[Passes, ...]
    meshes: tuple[str, ...]
    """Content hashes of the meshes (MeshData.content_hash), one for every object."""


@message
@dataclass(frozen=True)
class MeshQuery:
    """Which of these meshes does the server not have?"""

    hashes: tuple[str, ...]


@message
@dataclass(frozen=True)
class MeshesMissing:
    hashes: tuple[str, ...]


@message
@dataclass(frozen=True, eq=False)
class MeshUpload:
    mesh: MeshData


@message
@dataclass(frozen=True, eq=False)
class Submit:
    """Run a job. The client names it (a fresh UUID in hex), so that it can follow it from anywhere."""

    job: str
    request: Generate | Texture | Shot
    origin: Origin = field(default_factory=Origin)

    def __post_init__(self) -> None:
        if not JOB_NAME.fullmatch(self.job):
            raise BadMessage(name="Submit", reason="a job's name is 32 hexadecimal digits")


@message
@dataclass(frozen=True)
class Cancel:
    job: str


@message
@dataclass(frozen=True)
class Follow:
    """Send me what this job reports, and what it has reported so far."""

    job: str


@message
@dataclass(frozen=True)
class ListJobs:
    pass


@message
@dataclass(frozen=True)
class TakeOver:
    """Follow a job that another session started: before all that Follow sends come Handover and PaintedUVs."""

    job: str


@message
@dataclass(frozen=True)
class Resume:
    """Run a cancelled or failed job again from its finished views, and follow it. Any other job is just followed."""

    job: str


@message
@dataclass(frozen=True)
class Forget:
    """Remove all that the server keeps of a job that is over."""

    job: str


@message
@dataclass(frozen=True)
class Forgotten:
    """The job is no longer on the server."""

    job: str


# ---------------------------------------------------------------- reports


@dataclass(frozen=True)
class JobSummary:
    """A job in one line. Long texts and lists are cut: all of it comes with Handover."""

    job: str
    kind: str
    """“texture”, “image” or “shot”."""
    state: str
    prompt: str
    ended: float = 0.0
    """Seconds since 1970; 0 while it is not over."""
    client: str = ""
    file: str = ""
    scene: str = ""
    objects: tuple[str, ...] = ()
    views: int = 0
    """Views of a texture job, frames of a shot."""
    painted: int = 0
    """How many of them are finished (a view that adds nothing is never painted)."""
    resumable: bool = False
    followed: bool = False
    """A client listens to it now."""
    place: str = ""
    """Of the file that it comes from: Origin.place."""
    identity: str = ""
    """Of the scene that it comes from: Origin.identity."""


@message
@dataclass(frozen=True)
class Jobs:
    jobs: tuple[JobSummary, ...]


@message
@dataclass(frozen=True)
class JobState:
    job: str
    state: str
    position: int = 0
    """Jobs before it in the queue."""
    failure: Failure | None = None

    def __post_init__(self) -> None:
        if self.state not in STATES:
            raise BadMessage(name="JobState", reason=f"unknown state {self.state!r}")


@message
@dataclass(frozen=True)
class Progress:
    """How far a job is. A newer one supersedes it."""

    job: str
    stage: str
    """Plain words: “Loading mini”, “Painting view 2 of 8”, “Baking Table”."""
    fraction: float
    """0…1 of the whole job."""

    def supersedes(self) -> str:
        return f"Progress {self.job}"


@message
@dataclass(frozen=True, eq=False)
class Preview:
    """What the image looks like so far. A newer one supersedes it."""

    job: str
    image: np.ndarray
    """uint8 (h, w, 3), smaller than the result."""

    def supersedes(self) -> str:
        return f"Preview {self.job}"


@message
@dataclass(frozen=True, eq=False)
class ViewPainted:
    """A view of a texture job is finished."""

    job: str
    view: str
    image: np.ndarray
    """uint8 (H, W, 3)."""


@message
@dataclass(frozen=True, eq=False)
class ImageResult:
    job: str
    image: np.ndarray
    """uint8 (H, W, 3), sRGB."""
    settings: Settings
    """As used: a seed of −1 is replaced by the one that was chosen."""
    seconds: dict[str, float] = field(default_factory=dict)


@message
@dataclass(frozen=True, eq=False)
class TextureResult:
    """The finished texture of one object."""

    job: str
    object_id: int
    name: str
    image: np.ndarray
    """uint8 (S, S, 3), sRGB; row 0 is v = 1."""
    coverage: float
    """Painted share of the texels that any view sees at 75° or less."""
    seen: float
    """Share of the object's texels that any view sees at 75° or less."""
    shared: float
    """Share of the texels that stand for several places of the surface."""
    settings: Settings
    seconds: dict[str, float] = field(default_factory=dict)


@message
@dataclass(frozen=True)
class Handover:
    """What a job was asked for: sent to who takes it over."""

    job: str
    settings: Settings
    origin: Origin
    shot: Shot | None = None
    """Of a shot: its frames, so that whoever takes it over can send them."""


@message
@dataclass(frozen=True, eq=False)
class PaintedUVs:
    """The UVs that an object of a job was painted with: MeshData's, for every corner of its evaluated mesh."""

    job: str
    object_id: int
    name: str
    uvs: np.ndarray
    """float32 (T, 3, 2)."""


@message
@dataclass(frozen=True)
class Trouble:
    """A message could not be answered. A job that it named goes on as it was."""

    failure: Failure
    job: str = ""


@message
@dataclass(frozen=True)
class Notice:
    """What everybody who is connected should know of the server: its disk is full, its painting process has died and
    another one taken its place. Jobs go on."""

    failure: Failure
