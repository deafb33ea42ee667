"""Jobs, the table of their states, and their queue. It remembers and tells; the runner has jobs stored and done."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from paintover.bridge.errors import BadMessage, PaintoverError, QueueFull, UnknownJob
from paintover.bridge.messages import (
    CANCELLED,
    DONE,
    ENDED,
    FAILED,
    QUEUED,
    RUNNING,
    Failure,
    Generate,
    JobState,
    JobSummary,
    Preview,
    Progress,
    Shot,
    Texture,
    TextureResult,
)
from paintover.bridge.origin import Origin
from paintover.bridge.parameters import Settings
from paintover.bridge.scene import MeshData
from paintover.bridge.schema import array_bytes

from .journal import Record
from .parts import FRAME, KEY, Part, part_name, places_of
from .worker_messages import Halfway, Run, State, ViewDone

NEXT: dict[str, set[str]] = {
    QUEUED: {RUNNING, CANCELLED, FAILED},
    RUNNING: {DONE, CANCELLED, FAILED, QUEUED},
    DONE: set(),
    CANCELLED: {QUEUED},
    FAILED: {QUEUED},
}
"""State -> states that may follow. RUNNING goes back to QUEUED when the worker died under the job; what was cancelled
or failed may be resumed."""

MAX_WAITING = 256
MAX_HELD = 2 << 30
"""Bytes of requests that may wait or run; beyond them only the first is taken."""
MAX_REMEMBERED = 64
"""Ended jobs in the table; older ones are known to the journal alone."""
MAX_UNSTORED = 8
"""Ended jobs that are kept in memory because the disk did not take them."""
LISTED = 100
CUT = {"prompt": 120, "objects": 8}
"""What a list says of a job at most, so that it fits a message header."""


@dataclass(eq=False)
class Job:
    """A request and all that became of it."""

    name: str
    kind: str
    settings: Settings
    origin: Origin = field(default_factory=Origin)
    views: int = 0
    """Of a texture job; of a shot, its frames."""
    submitted: float = field(default_factory=time.time)
    """When it came, or was resumed: its place in the queue, also after a restart."""
    ended: float = 0.0
    request: Generate | Texture | Shot | None = None
    """None while the journal has it: passes are large. Read back for a run."""
    meshes: tuple[MeshData, ...] = ()
    size: int = 0
    """Bytes of request and meshes, about."""
    parts: dict[str, Part] = field(default_factory=dict)
    """What is finished, by name; empty once the job is over and the journal has it."""
    finished: set[str] = field(default_factory=set)
    """Names of all finished parts, wherever they are."""
    reached: int = 0
    """Of a shot: the place behind all that was painted."""
    lost: set[str] = field(default_factory=set)
    """Names of parts that the disk did not take. The journal's thread alone touches it."""
    cancelled: bool = False
    """The user asked to stop it."""
    given_up: PaintoverError | None = None
    """Why it was stopped, if not by the user."""
    steps_back: bool = False
    """It was stopped to let others go first."""
    state: str = QUEUED
    failure: Failure | None = None
    attempts: int = 0
    """Runs since a part was last finished."""
    parts_before: int = 0
    """What was finished (`done`) when the last run began."""
    stored: bool = True
    """All of it is in the journal."""
    resumable: bool = True
    """Its request is still there."""
    loading: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while it is read back from the journal."""
    writes: set[asyncio.Future[None]] = field(default_factory=set)
    """Journal entries that are under way."""
    latest: dict[type, Any] = field(default_factory=dict)
    """The newest Progress and Preview."""
    followers: list[Callable[[Any], None]] = field(default_factory=list)
    """Where to send what it reports."""

    @classmethod
    def of(
        cls,
        name: str,
        request: Generate | Texture | Shot,
        meshes: tuple[MeshData, ...] = (),
        origin: Origin | None = None,
    ) -> Job:
        """A new job."""
        kind, views = "image", 0
        if isinstance(request, Texture):
            kind, views = "texture", len(request.views)
        elif isinstance(request, Shot):
            kind, views = "shot", len(request.numbers)
        return cls(
            name,
            kind,
            request.settings,
            origin or Origin(),
            views=views,
            request=request,
            meshes=meshes,
            size=array_bytes((request, meshes)),
        )

    @classmethod
    def from_record(cls, record: Record, finished: Iterable[str], resumable: bool, size: int) -> Job:
        """A job that the journal knows; its pictures stay there."""
        finished = set(finished)
        reached = max(places_of(finished, FRAME) + places_of(finished, KEY), default=-1) + 1
        return cls(
            record.job, record.kind, record.settings, record.origin, record.views, record.submitted, record.ended,
            finished=finished, reached=record.views if record.state == DONE else reached,
            state=record.state, failure=record.failure, attempts=record.attempts,
            parts_before=record.parts, resumable=resumable, size=size,
        )  # fmt: skip

    def record(self, owner: str, state: str | None = None, failure: Failure | None = None) -> Record:
        """What the journal should say of it (with another state than the present one, if given)."""
        return Record(
            self.name, self.kind, self.settings, self.origin, self.views, self.submitted, state or self.state, owner,
            self.ended, failure if state else self.failure, self.attempts, self.parts_before,
        )  # fmt: skip

    @property
    def done(self) -> int:
        """How much of it is finished: it only grows."""
        return self.reached if self.kind == "shot" else len(self.finished)

    def to_run(self, place: int = 0, state: State | None = None) -> Run:
        """What a worker is told to do. Its request must be in memory. A shot goes on at a place, behind a keyframe."""
        assert self.request is not None
        parts = self.parts.values()
        views = tuple(part for part in parts if isinstance(part, ViewDone))
        baked = tuple(part.object_id for part in parts if isinstance(part, TextureResult))
        halfway = max((part for part in parts if isinstance(part, Halfway)), key=lambda part: part.step, default=None)
        return Run(self.name, self.request, self.meshes, views, baked, halfway, state, place)

    def keep(self, part: Part) -> None:
        """Take a finished part."""
        name = part_name(part)
        self.parts[name] = part
        self.finished.add(name)

    def report(self, message: Any) -> None:
        """Tell the followers."""
        if isinstance(message, (Progress, Preview)):
            self.latest[type(message)] = message
        for follower in list(self.followers):
            follower(message)

    def summary(self) -> JobSummary:
        return JobSummary(
            self.name,
            self.kind,
            self.state,
            self.settings.prompt[: CUT["prompt"]],
            self.ended,
            self.origin.client,
            self.origin.file,
            self.origin.scene,
            tuple(target.name for target in self.origin.targets[: CUT["objects"]]),
            self.views,
            self.reached if self.kind == "shot" else sum(name.startswith("view-") for name in self.finished),
            self.state in (CANCELLED, FAILED) and self.resumable,
            bool(self.followers) and self.state not in ENDED,
            self.origin.place,
            self.origin.identity,
        )


class Jobs:
    """All jobs that the server remembers, in the order in which they came."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._changed = asyncio.Event()

    def get(self, name: str) -> Job:
        """The job, or UnknownJob."""
        if name not in self._jobs:
            raise UnknownJob(job=name)
        return self._jobs[name]

    def find(self, name: str) -> Job | None:
        """The job, or None."""
        return self._jobs.get(name)

    def __contains__(self, name: str) -> bool:
        return name in self._jobs

    def __iter__(self) -> Iterator[Job]:
        return iter(list(self._jobs.values()))

    def summaries(self) -> tuple[JobSummary, ...]:
        """The newest jobs, in the order in which they came."""
        return tuple(job.summary() for job in list(self._jobs.values())[-LISTED:])

    @property
    def waiting(self) -> list[Job]:
        return [job for job in self._jobs.values() if job.state == QUEUED and not job.cancelled]

    def check_room(self, size: int, arriving: Collection[int] = ()) -> None:
        """Raise QueueFull if there is no room for another job of that size beside `arriving` ones (their sizes)."""
        if len(self.waiting) + len(arriving) >= MAX_WAITING:
            raise QueueFull(limit=MAX_WAITING)
        held = sum(arriving) + sum(job.size for job in self._jobs.values() if job.state not in ENDED)
        if held and held + size > MAX_HELD:
            raise QueueFull(f"The server already holds {held / 1e6:,.0f} MB of jobs that wait or run.")

    def add(self, job: Job) -> None:
        """Take on a job: one that waits goes to the end of the queue, one that is over (after a restart) is listed.

        Raises BadMessage for a name that is taken.
        """
        if job.name in self._jobs:
            raise BadMessage(name="Submit", reason="there is a job of this name already")
        self._jobs[job.name] = job
        self._forget_old()
        if job.state == QUEUED:
            job.report(self.state_of(job))
            self._changed.set()

    def remove(self, name: str) -> None:
        self._jobs.pop(name, None)

    def state_of(self, job: Job) -> JobState:
        waiting = self.waiting
        position = waiting.index(job) if job in waiting else 0
        return JobState(job.name, job.state, position, job.failure)

    def change(self, job: Job, state: str, error: PaintoverError | None = None, *, behind: bool = False) -> None:
        """Move a job to `state` and tell its followers. A change that the table lacks is a bug: ValueError.

        `behind`: one that waits again goes to the end of the queue.
        """
        if state not in NEXT[job.state]:
            raise ValueError(f"a job cannot go from {job.state} to {state}")
        if behind or (job.state in ENDED and state == QUEUED):  # resumed: behind those that have waited meanwhile
            self._jobs.move_to_end(job.name)
            job.submitted = time.time()
        job.state, job.failure = state, Failure.of(error) if error else None
        if state in ENDED:
            job.latest.clear()
            if job.stored:  # the journal has it all
                job.parts.clear()
            if job.stored or state == DONE:
                job.request, job.meshes = None, ()
        job.report(self.state_of(job))
        for other in self.waiting:
            if other is not job:
                other.report(self.state_of(other))
        self._changed.set()

    async def next(self) -> Job:
        """The first job in the queue, waiting for one."""
        while not (waiting := self.waiting):
            self._changed.clear()
            await self._changed.wait()
        return waiting[0]

    def _forget_old(self) -> None:
        ended = [job for job in self._jobs.values() if job.state in ENDED]
        unstored = [job for job in ended if not job.stored]
        for job in {*ended[:-MAX_REMEMBERED], *unstored[:-MAX_UNSTORED]}:
            del self._jobs[job.name]
