"""Takes jobs, has the worker do them one after the other, and remembers what came of them.

What is finished goes to the journal as it comes; a job whose worker died, or whose server did, goes on from there.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from paintover.bridge.errors import (
    BadMessage,
    Cancelled,
    JobNotOver,
    OutOfMemory,
    PaintoverError,
    ServerFailure,
    UnknownJob,
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
    Forgotten,
    FrameGiven,
    FrameKept,
    FrameMissing,
    Generate,
    Handover,
    ImageResult,
    JobSummary,
    Notice,
    PaintedUVs,
    Shot,
    Submit,
    Texture,
    TextureResult,
)
from paintover.bridge.origin import Origin
from paintover.bridge.scene import MeshData

from .archive import Archive, settled
from .jobs import Job, Jobs
from .journal import Record
from .parts import HIDDEN, Part, in_order
from .shots import Shots, check_continued
from .supervisor import Supervisor
from .worker_messages import Halfway, ViewDone

log = logging.getLogger("paintover.front")

MAX_ATTEMPTS = 2
"""Runs of a job that may end with the worker's death before another part of it is finished."""

Request = Generate | Texture | Shot
Follower = Callable[[Any], None]
"""Where to send what a job reports."""
Room = Callable[[], Awaitable[None]]
"""Waits until a follower has taken most of what it was sent; raises why it never will."""


class Runner:
    """The jobs of one server, their journal, and the workers that do them."""

    def __init__(self, engine: str, folder: Path, tell_all: Follower, *, standby: bool = True) -> None:
        """`tell_all` sends a message to everybody who is connected."""
        self._jobs = Jobs()
        self._archive = Archive(folder, tell_all)
        self._journal = self._archive.journal
        self.supervisor = Supervisor(
            engine, standby=standby, replaced=lambda error: tell_all(Notice(Failure.of(error)))
        )
        self._arriving: dict[str, int] = {}
        """Jobs that are being stored, with their sizes."""
        self._shots = Shots(self._jobs, self._archive, self.supervisor)

    @property
    def notice(self) -> Notice | None:
        """The journal's trouble, as newcomers should be told; None while there is none."""
        return self._archive.notice

    @property
    def device(self) -> str:
        return self.supervisor.device

    @property
    def busy(self) -> bool:
        """Whether a job arrives, waits or runs."""
        return bool(self._arriving) or any(job.state not in ENDED for job in self._jobs)

    def open(self) -> None:
        """Take up what an earlier server left: what was under way waits again, what is over is listed."""
        self._archive.open()
        for record in self._journal.records():
            job = self._from_journal(record)
            if record.state not in ENDED:
                if not self._journal.orphaned(record):
                    continue
                log.info("Job %s goes on where it was", job.name)
                job.state = QUEUED
                if job.attempts >= MAX_ATTEMPTS and job.done <= job.parts_before:
                    died = WorkerDied(reason="each time that it ran this job")
                    job.state, job.failure, job.ended = FAILED, Failure.of(died), time.time()
                self._archive.write(job, self._journal.record, job.record(self._journal.owner))
            self._jobs.add(job)

    async def close(self) -> None:
        for job in self._jobs:
            if job.state == RUNNING and not job.ended:
                job.attempts -= 1  # that this run ends is not the job's fault
                stopped = (CANCELLED, Failure.of(Cancelled())) if job.cancelled else (None, None)
                self._archive.write(job, self._journal.record, job.record(self._journal.owner, *stopped))
        await self.supervisor.close()
        await self._archive.close()

    # ------------------------------------------------------------ what clients ask for

    async def knows(self, name: str) -> bool:
        return self._has(name) or await self._archive.read(self._journal.__contains__, name)

    def _has(self, name: str) -> bool:
        return name in self._jobs or name in self._arriving

    async def submit(
        self, name: str, request: Request, meshes: tuple[MeshData, ...], origin: Origin, follower: Follower
    ) -> None:
        """Put a checked request in the queue, once it is stored. Raises QueueFull, BadMessage for a taken name, and for
        a shot that goes on from another one UnknownJob or NothingToContinue."""
        taken = BadMessage(name="Submit", reason="there is a job of this name already")
        if self._has(name):
            raise taken
        job = Job.of(name, request, meshes, origin)
        self._jobs.check_room(job.size, self._arriving.values())
        job.followers.append(follower)
        self._arriving[name] = job.size
        try:
            if await self._archive.read(self._journal.__contains__, name):
                raise taken
            continued = request.continues if isinstance(request, Shot) else ""
            if isinstance(request, Shot) and continued:
                await self._archive.read(check_continued, self._journal, request)
            record = job.record(self._journal.owner)
            self._archive.write(job, self._journal.store, record, Submit(name, request, job.origin), meshes, {})
            if isinstance(request, Shot) and continued:
                self._archive.write(job, self._journal.adopt_keys, name, continued, request.first)
            await settled(job)
        finally:
            del self._arriving[name]
        self._jobs.add(job)

    async def cancel(self, name: str) -> None:
        """Stop a job; what is finished of it stays. One that is over stays as it is. Raises UnknownJob."""
        job = self._jobs.get(name)
        if job.state == RUNNING:
            job.cancelled = True
            self.supervisor.stop_job(job.name)
        elif job.state == QUEUED and not job.cancelled:
            job.cancelled = True
            await self._end(job, CANCELLED, Cancelled())

    async def follow(self, name: str, follower: Follower, room: Room) -> None:
        """Send what the job has reported so far, and from now on what it reports. Raises UnknownJob.

        Finished parts one by one, as the follower takes them: all of them may be more than memory holds.
        """
        job = await self._find(name)
        told: set[str] = set()
        while left := [part for part in in_order(job.finished - told) if not part.startswith(HIDDEN)]:
            for part in left:
                if kept := job.parts.get(part) or await self._archive.read(self._part_if_there, name, part):
                    follower(_report_of(kept))
                    await room()
            told.update(left)
            if follower in job.followers:  # what was finished meanwhile it has heard
                break
            job = self._jobs.find(name) or job  # it may have been resumed meanwhile
        # From here to the end without a pause, so that nothing is missed or told twice.
        for old in list(job.latest.values()):
            follower(old)
        follower(self._jobs.state_of(job))
        if wanted := self._shots.asked(job):
            follower(wanted)
        if job.state not in ENDED and follower not in job.followers:
            job.followers.append(follower)

    async def take_over(self, name: str, follower: Follower, room: Room) -> None:
        """What the job was asked for, then what `follow` sends. Raises UnknownJob."""
        job = await self._find(name)
        meshes = job.meshes
        if not meshes and job.kind == "texture":
            meshes = await self._archive.read(self._journal.load_meshes, name)
        request = job.request
        if request is None and job.kind == "shot":
            request = (await self._archive.read(self._journal.load_request, name)).request
        follower(Handover(name, job.settings, job.origin, request if isinstance(request, Shot) else None))
        for mesh in meshes:
            follower(PaintedUVs(name, mesh.object_id, mesh.name, mesh.uvs))
            await room()
        await self.follow(name, follower, room)

    async def resume(self, name: str, follower: Follower, room: Room) -> None:
        """Run a cancelled or failed job again from its finished parts. Raises UnknownJob, QueueFull, ServerFailure."""
        job = await self._find(name)
        if job.state in (CANCELLED, FAILED):
            self._jobs.check_room(job.size, self._arriving.values())
            await self._load(job)
            if job.state in (CANCELLED, FAILED) and self._jobs.find(name) in (job, None):  # nobody else was quicker
                job.attempts, job.cancelled, job.ended, job.parts_before = 0, False, 0.0, job.done
                if name not in self._jobs:
                    self._jobs.add(job)
                self._jobs.change(job, QUEUED)
                self._archive.write(job, self._journal.record, job.record(self._journal.owner))
        await self.take_over(name, follower, room)

    async def frame(self, message: FrameGiven | FrameMissing | FrameKept) -> None:
        """An answer to a shot's question. Raises UnknownJob, or BadMessage if nobody asked."""
        self._shots.hear(await self._find(message.job), message)

    async def forget(self, name: str, follower: Follower) -> None:
        """Remove a job that is over. Raises UnknownJob, JobNotOver, NotStored."""
        if (await self._find(name)).state not in ENDED:
            raise JobNotOver(job=name)
        self._jobs.remove(name)
        await self._archive.remove(self._journal.remove, name)
        follower(Forgotten(name))

    def unfollow(self, follower: Follower) -> None:
        """A client is gone: tell it nothing any more."""
        for job in self._jobs:
            with contextlib.suppress(ValueError):
                job.followers.remove(follower)

    def summaries(self) -> tuple[JobSummary, ...]:
        return self._jobs.summaries()

    async def _find(self, name: str) -> Job:
        """The job in the table, or else the journal's, or UnknownJob."""
        return self._jobs.find(name) or await self._archive.read(self._load_job, name)

    def _part_if_there(self, name: str, part: str) -> Part | None:
        """A stored part; None for one that somebody has tidied away. Raises UnknownJob if all of the job is gone."""
        try:
            return self._journal.load_part(name, part)
        except UnknownJob:
            if name not in self._journal:
                raise
            return None

    def _load_job(self, name: str) -> Job:
        if name not in self._journal:
            raise UnknownJob(job=name[:40])
        return self._from_journal(self._journal.load_record(name))

    def _from_journal(self, record: Record) -> Job:
        """The job of a record, with what its folder tells; its pictures stay there."""
        name = record.job
        return Job.from_record(
            record, self._journal.part_names(name), self._journal.resumable(name), self._journal.size(name)
        )

    # ------------------------------------------------------------ work

    async def work(self) -> None:
        """Run one job after the other, for ever. A bug costs the job that it meets, not all that wait behind it."""
        while True:
            trouble: Exception | None = None
            try:
                await self.supervisor.ready()
            except Exception as error:
                log.error("There is no worker: %s", error, exc_info=not isinstance(error, PaintoverError))
                trouble = error if self._jobs.waiting else None  # for one that comes later it is tried again
            job = await self._jobs.next()
            try:
                self._jobs.change(job, RUNNING)
                if trouble:
                    raise trouble
                await self._run(job)
            except Exception as error:  # noqa: BLE001 - logged there
                await self._fail(job, error)

    async def _fail(self, job: Job, error: Exception) -> None:
        """End a job by an error, whatever else goes wrong. One that is over stays as it is."""
        if not isinstance(error, PaintoverError):
            log.error("Job %s failed unexpectedly", job.name, exc_info=error)
            error = ServerFailure(reason=f"{type(error).__name__}: {error}")
        try:
            if job.state not in ENDED:
                await self._end(job, FAILED, error)
        except Exception as another:
            log.error("The end of job %s was not stored", job.name, exc_info=another)
            if job.state not in ENDED:
                self._jobs.change(job, FAILED, error)

    async def _run(self, job: Job) -> None:
        await self._load(job)
        job.attempts = 1 if job.done > job.parts_before else job.attempts + 1
        job.parts_before, job.given_up, job.steps_back = job.done, None, False
        # Counted on disk before it runs: a job may take the whole server down with it.
        self._archive.write(job, self._journal.record, job.record(self._journal.owner))
        reason = await self._do(job)
        stopped = isinstance(reason, Cancelled)
        again = isinstance(reason, WorkerDied) or (
            isinstance(reason, OutOfMemory) and await self.supervisor.make_room()
        )
        if reason is None:
            await self._end(job, DONE)
        elif job.cancelled:
            await self._end(job, CANCELLED, Cancelled())
        elif stopped and job.given_up:
            await self._end(job, FAILED, job.given_up)
        elif stopped and job.steps_back:
            job.attempts = 0
            self._jobs.change(job, QUEUED, behind=True)
            self._archive.write(job, self._journal.record, job.record(self._journal.owner))
        elif again and (job.attempts < MAX_ATTEMPTS or job.done > job.parts_before):
            self._jobs.change(job, QUEUED)
        else:
            await self._end(job, FAILED, reason)

    async def _do(self, job: Job) -> PaintoverError | None:
        """Have a worker do it; returns by what error it ended."""
        try:
            run = await self._shots.begin(job, job.request) if isinstance(job.request, Shot) else job.to_run()
            failure = await self.supervisor.run(run, partial(self._report, job), lambda: job.cancelled)
            return failure.error() if failure else None
        except WorkerDied as error:
            log.error("%s", error)
            return error
        finally:
            await self._shots.end(job)

    async def _load(self, job: Job) -> None:
        """Have in memory what a run needs. Raises UnknownJob or ServerFailure."""
        async with job.loading:  # a second one that read at the same time would put older parts over newer ones
            if job.request is None:
                submit = await self._archive.read(self._journal.load_request, job.name)
                if not isinstance(submit.request, Shot):  # what a shot has painted goes out, and is not needed again
                    job.meshes = await self._archive.read(self._journal.load_meshes, job.name)
                    job.parts = await self._archive.read(self._journal.load_parts, job.name)
                    job.finished = set(job.parts)
                job.request = submit.request

    def _report(self, job: Job, message: Any) -> None:
        """Take what the worker says: finished parts are kept and stored, all of it goes to the followers."""
        if self._shots.report(job, message):
            return
        if isinstance(message, (ViewDone, ImageResult, TextureResult, Halfway)):
            job.keep(message)
            self._archive.write(job, self._journal.part, job.name, message)
        if not isinstance(message, Halfway):
            job.report(_report_of(message))

    async def _end(self, job: Job, state: str, error: PaintoverError | None = None) -> None:
        """Finish a job: all of it is on disk before anybody hears that it is over."""
        job.ended = time.time()
        failure = Failure.of(error) if error else None
        record = job.record(self._journal.owner, state, failure)
        self._archive.write(job, self._journal.record, record)
        await settled(job)
        if not job.stored and job.request is not None:  # there may be room by now
            job.stored = True
            gone = state == DONE and job.kind != "shot"  # another shot may go on from this one
            request = None if gone else Submit(job.name, job.request, job.origin)
            self._archive.write(job, self._journal.store, record, request, job.meshes, dict(job.parts))
            await settled(job)
        if job.stored:
            self._archive.notice = None
        if state == DONE:
            job.resumable = False
            if job.kind != "shot":
                self._archive.write(job, self._journal.drop_request, job.name)
        self._jobs.change(job, state, error)
        if error and not isinstance(error, Cancelled):
            log.warning("Job %s failed: %s", job.name, error)
        try:
            for name in await self._archive.remove(self._journal.prune):
                if name in self._jobs and self._jobs.get(name).state in ENDED:
                    self._jobs.remove(name)
        except PaintoverError as trouble:
            self._archive.trouble(trouble)


def _report_of(part: Any) -> Any:
    """What clients get to see of a finished part."""
    return part.painted if isinstance(part, ViewDone) else part
