"""Takes jobs, has the worker do them one after the other, and remembers what came of them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paintover.bridge.errors import (
    BadMessage,
    Cancelled,
    PaintoverError,
    ServerFailure,
    ServerStartFailed,
    WorkerDied,
)
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
    Texture,
    Trouble,
)
from paintover.bridge.scene import MeshData

from .history import History
from .jobs import Job, Jobs
from .supervisor import Supervisor
from .worker_messages import Run

log = logging.getLogger("paintover.front")

MAX_ATTEMPTS = 2

Follower = Callable[[Any], None]
"""Where to send what a job reports."""


class Runner:
    """The jobs of one server, their history, and the worker that does them."""

    def __init__(self, engine: str, folder: Path) -> None:
        self._jobs = Jobs()
        self._history = History(folder)
        self._supervisor = Supervisor(engine)

    @property
    def device(self) -> str:
        return self._supervisor.device

    async def close(self) -> None:
        await self._supervisor.close()

    # ------------------------------------------------------------ what clients ask for

    def submit(self, name: str, request: Generate | Texture, meshes: tuple[MeshData, ...], follower: Follower) -> None:
        """Put a checked request in the queue. Raises QueueFull, or BadMessage for a name that is taken."""
        if name in self._history:
            raise BadMessage(name="Submit", reason="there is a job of this name already")
        job = Job(name, request, meshes=meshes)
        job.followers.append(follower)
        self._jobs.add(job)

    def cancel(self, name: str) -> None:
        """Stop a job; one that is over stays as it is. Raises UnknownJob."""
        job = self._jobs.get(name)
        if job.state == QUEUED:
            self._end(job, CANCELLED, Cancelled())
        elif job.state == RUNNING:
            job.cancelled = True
            self._supervisor.stop_job(job.name)

    def follow(self, name: str, follower: Follower) -> None:
        """Send what the job has reported so far, and from now on what it reports. Raises UnknownJob."""
        job = self._jobs.get(name) if name in self._jobs else None
        if job and (job.state not in ENDED or job.results or job.name not in self._history):
            for old in (*job.results, *job.latest.values()):
                follower(old)
            follower(self._jobs.state_of(job))
            if job.state not in ENDED and follower not in job.followers:
                job.followers.append(follower)
            return
        for old in self._history.load(name):  # ends with the job's final state: it was stored whole
            follower(old)

    def unfollow(self, follower: Follower) -> None:
        """A client is gone: tell it nothing any more."""
        for job in self._jobs:
            with contextlib.suppress(ValueError):
                job.followers.remove(follower)

    def summaries(self) -> tuple[JobSummary, ...]:
        return self._jobs.summaries()

    # ------------------------------------------------------------ work

    async def work(self) -> None:
        """Run one job after the other, for ever."""
        while True:
            trouble: PaintoverError | None = None
            try:
                await self._supervisor.ready()
            except PaintoverError as error:
                trouble = error
            except OSError as error:
                trouble = ServerStartFailed(reason=f"the painting process did not start ({error})")
            job = await self._next_running()
            if trouble:
                log.error("%s", trouble)
                self._end(job, FAILED, trouble)
                continue
            try:
                await self._run(job)
            except Exception as error:  # a bug here costs this job, not all that wait behind it
                log.error("Job %s failed unexpectedly", job.name, exc_info=error)
                if job.state not in ENDED:
                    self._end(job, FAILED, ServerFailure(reason=f"{type(error).__name__}: {error}"))

    async def _next_running(self) -> Job:
        job = await self._jobs.next()
        self._jobs.change(job, RUNNING)
        return job

    async def _run(self, job: Job) -> None:
        job.attempts += 1
        try:
            assert job.request is not None
            failure = await self._supervisor.run(Run(job.name, job.request, job.meshes), job.report)
        except WorkerDied as error:
            log.error("%s", error)
            if job.cancelled:
                self._end(job, CANCELLED, Cancelled())
            elif job.attempts < MAX_ATTEMPTS:
                job.results.clear()
                self._jobs.change(job, QUEUED)
            else:
                self._end(job, FAILED, error)
            return
        except PaintoverError as error:
            self._end(job, FAILED, error)
            return
        if failure is None:
            self._end(job, DONE)
        else:
            reason = failure.error()
            self._end(job, CANCELLED if isinstance(reason, Cancelled) else FAILED, reason)

    def _end(self, job: Job, state: str, error: PaintoverError | None = None) -> None:
        """Finish a job: its results go to disk before anybody hears that it is over."""
        final = JobState(job.name, state, 0, Failure.of(error) if error else None)
        if job.results:
            try:
                self._history.store(job.name, (*job.results, final))
                job.results.clear()  # whoever asks from now on gets them from disk
                self._history.prune()
            except PaintoverError as trouble:
                # The result itself is not lost: it is in memory and goes out to those who follow.
                log.error("%s", trouble)
                for follower in job.followers:
                    follower(Trouble(Failure.of(trouble)))
        self._jobs.change(job, state, error)
        if error and not isinstance(error, Cancelled):
            log.warning("Job %s failed: %s", job.name, error)
