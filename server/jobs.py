"""The queue of jobs and the table of their states. No I/O: the front drives it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
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
    Texture,
)
from paintover.bridge.scene import MeshData

NEXT: dict[str, set[str]] = {
    QUEUED: {RUNNING, CANCELLED, FAILED},
    RUNNING: {DONE, CANCELLED, FAILED, QUEUED},
    DONE: set(),
    CANCELLED: set(),
    FAILED: set(),
}
"""State -> states that may follow. RUNNING goes back to QUEUED when the worker died under the job."""

MAX_WAITING = 256
MAX_REMEMBERED = 32
"""Ended jobs whose results stay in memory; older ones are read from disk."""


@dataclass(eq=False)
class Job:
    """A request and all that became of it."""

    name: str
    request: Generate | Texture | None
    """None once it is over: passes are large, and nobody asks for them again."""
    meshes: tuple[MeshData, ...] = ()
    size: int = 0
    """Bytes of request and meshes, about."""
    cancelled: bool = False
    """The user asked to stop it while it ran."""
    kind: str = field(init=False)
    prompt: str = field(init=False)
    state: str = QUEUED
    failure: Failure | None = None
    attempts: int = 0
    results: list[Any] = field(default_factory=list)
    latest: dict[type, Any] = field(default_factory=dict)
    """The newest Progress and Preview."""
    followers: list[Callable[[Any], None]] = field(default_factory=list)
    """Where to send what it reports."""

    def __post_init__(self) -> None:
        assert self.request is not None
        self.kind = "texture" if isinstance(self.request, Texture) else "image"
        self.prompt = self.request.settings.prompt

    def report(self, message: Any) -> None:
        """Keep what belongs to the job's history and tell its followers."""
        if isinstance(message, (Progress, Preview)):
            self.latest[type(message)] = message
        elif not isinstance(message, JobState):
            self.results.append(message)
        for follower in list(self.followers):
            follower(message)

    def summary(self) -> JobSummary:
        return JobSummary(self.name, self.kind, self.state, self.prompt)


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

    def __contains__(self, name: str) -> bool:
        return name in self._jobs

    def __iter__(self) -> Iterator[Job]:
        return iter(list(self._jobs.values()))

    def summaries(self) -> tuple[JobSummary, ...]:
        return tuple(job.summary() for job in self._jobs.values())

    @property
    def waiting(self) -> list[Job]:
        return [job for job in self._jobs.values() if job.state == QUEUED]

    def add(self, job: Job) -> None:
        """Put a job at the end of the queue. Raises QueueFull, or BadMessage for a name that is taken."""
        if job.name in self._jobs:
            raise BadMessage(name="Submit", reason="there is a job of this name already")
        if len(self.waiting) >= MAX_WAITING:
            raise QueueFull(limit=MAX_WAITING)
        self._jobs[job.name] = job
        self._forget_old()
        job.report(self.state_of(job))
        self._changed.set()

    def state_of(self, job: Job) -> JobState:
        position = self.waiting.index(job) if job.state == QUEUED else 0
        return JobState(job.name, job.state, position, job.failure)

    def change(self, job: Job, state: str, error: PaintoverError | None = None) -> None:
        """Move a job to `state` and tell its followers. A change that the table lacks is a bug: ValueError."""
        if state not in NEXT[job.state]:
            raise ValueError(f"a job cannot go from {job.state} to {state}")
        job.state, job.failure = state, Failure.of(error) if error else None
        if state in ENDED:
            job.latest.clear()
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
        ended = [name for name, job in self._jobs.items() if job.state in ENDED]
        for name in ended[:-MAX_REMEMBERED]:
            del self._jobs[name]
