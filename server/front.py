"""The front: greets clients, takes their jobs, passes reports on. It holds no GPU state and never stops answering."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import hmac
import logging
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from paintover.bridge import PROTOCOL, VERSION
from paintover.bridge.aio import Channel
from paintover.bridge.errors import (
    BadMessage,
    BadParameter,
    BadSize,
    Cancelled,
    ConnectionLost,
    MissingMesh,
    PaintoverError,
    PortInUse,
    ProtocolError,
    ServerFailure,
    ServerStartFailed,
    TooLarge,
    WorkerDied,
    WrongProtocol,
    WrongToken,
)
from paintover.bridge.messages import (
    CANCELLED,
    DONE,
    ENDED,
    FAILED,
    QUEUED,
    RUNNING,
    Cancel,
    Capabilities,
    Failure,
    Follow,
    Generate,
    Hello,
    JobState,
    ListJobs,
    MeshesMissing,
    MeshQuery,
    MeshUpload,
    Ping,
    Pong,
    Refused,
    Submit,
    Texture,
    Trouble,
    Welcome,
)
from paintover.bridge.messages import (
    Jobs as JobList,
)
from paintover.bridge.scene import MeshData
from paintover.bridge.wire import GREETING, LIMITS, Malformed

from . import models
from .history import History
from .jobs import Job, Jobs
from .supervisor import Supervisor
from .worker_messages import Run

log = logging.getLogger("paintover.front")

GREETING_TIMEOUT = 10.0
MAX_CLIENTS = 64
MAX_UNREAD = 4096
"""Messages that may wait for a client; one that never reads is let go, so that it cannot fill memory."""
MAX_SIDE = 4096
MAX_VIEWS = 32
MESH_CACHE = 1 << 30
"""Bytes of meshes that are kept for later jobs."""
MAX_ATTEMPTS = 2


class Front:
    """One server: its clients, its jobs, its worker."""

    def __init__(self, *, token: str, data: Path, engine: str = "diffusers") -> None:
        if not token:
            raise ServerStartFailed(reason="it has no token", hint="Delete the empty token file, then start again.")
        self._token = token
        self._jobs = Jobs()
        self._history = History(data / "jobs")
        self._supervisor = Supervisor(engine)
        self._meshes = MeshStore(MESH_CACHE)
        self._clients: set[Channel] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._answers: dict[type, Callable[[Channel, Any], None]] = {
            Ping: lambda channel, message: channel.send(Pong(message.number)),
            MeshQuery: lambda channel, message: channel.send(MeshesMissing(self._meshes.missing(message.hashes))),
            MeshUpload: lambda channel, message: self._meshes.add(message.mesh),
            Submit: self._submit,
            Cancel: self._cancel,
            Follow: self._follow,
            ListJobs: lambda channel, message: channel.send(JobList(self._jobs.summaries())),
        }

    # ------------------------------------------------------------ life

    async def serve(self, host: str, port: int, started: Callable[[int], None]) -> None:
        """Listen until cancelled. `started` gets the port (useful with port 0). Raises PortInUse."""
        loop = asyncio.get_running_loop()

        def accept() -> Channel:
            channel = Channel(GREETING)
            self._spawn(self._client(channel))
            return channel

        try:
            listener = await loop.create_server(accept, host, port)
        except OSError as reason:
            if reason.errno == errno.EADDRINUSE:
                raise PortInUse(host=host, port=port) from reason
            raise
        self._spawn(self._work())
        started(listener.sockets[0].getsockname()[1])
        try:
            await asyncio.Event().wait()
        finally:
            listener.close()
            for task in list(self._tasks):
                task.cancel()
            await self._supervisor.close()

    async def unused(self) -> None:
        """Wait until no client is connected and no job waits or runs."""
        while self._clients or any(job.state not in ENDED for job in self._jobs.summaries()):
            await asyncio.sleep(0.25)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("A task of the front failed", exc_info=error)

    # ------------------------------------------------------------ clients

    async def _client(self, channel: Channel) -> None:
        """One client, from its greeting to its end."""
        try:
            await self._serve(channel)
        finally:
            channel.close()

    async def _serve(self, channel: Channel) -> None:
        try:
            hello = await asyncio.wait_for(channel.receive(), GREETING_TIMEOUT)
            self._greet(channel, hello)
        except (PaintoverError, TimeoutError) as error:
            if isinstance(error, PaintoverError) and not isinstance(error, ConnectionLost):
                log.warning("Refused a client: %s", error)
                channel.send(Refused(Failure.of(error)))
            await channel.part()
            return
        self._clients.add(channel)
        try:
            while True:
                self._answer(channel, await channel.receive())
                if channel.waiting > MAX_UNREAD:
                    raise ProtocolError("The client does not read its answers.", hint="Read them, or ask for less.")
        except PaintoverError as error:
            if isinstance(error, ProtocolError):
                log.warning("Closed a client: %s", error)
                channel.send(Trouble(Failure.of(error)))
                await channel.part()
        finally:
            self._clients.discard(channel)
            for job in self._jobs:
                with contextlib.suppress(ValueError):
                    job.followers.remove(channel.send)

    def _greet(self, channel: Channel, hello: Any) -> None:
        if isinstance(hello, Malformed):
            raise hello.error
        if not isinstance(hello, Hello):
            raise ProtocolError(reason="the first message was not Hello")
        if hello.protocol != PROTOCOL:
            raise WrongProtocol(ours=PROTOCOL, version=VERSION, theirs=hello.protocol)
        if not hmac.compare_digest(_bytes(hello.token), _bytes(self._token)):
            raise WrongToken()
        if len(self._clients) >= MAX_CLIENTS:
            raise ProtocolError(f"The server already has {MAX_CLIENTS} clients.", hint="Close one of them.")
        channel.set_limits(LIMITS)
        channel.send(Welcome(PROTOCOL, VERSION, self.capabilities()))
        log.info("Client %r (Paintover %s) connected", hello.client[:80], hello.version[:20])

    def capabilities(self) -> Capabilities:
        return Capabilities(models.infos(), self._supervisor.device, MAX_SIDE, MAX_VIEWS)

    def _answer(self, channel: Channel, message: Any) -> None:
        """Do what a message asks for. An error goes back to its sender; nothing a client says stops the front."""
        try:
            if isinstance(message, Malformed):
                raise message.error
            answer = self._answers.get(type(message))
            if answer is None:
                raise ProtocolError(reason=f"{type(message).__name__} is not for the server")
            answer(channel, message)
        except PaintoverError as error:
            job = getattr(message, "job", "")
            failure = Failure.of(error)
            channel.send(JobState(job, FAILED, 0, failure) if job else Trouble(failure))

    # ------------------------------------------------------------ what clients ask for

    def _submit(self, channel: Channel, message: Submit) -> None:
        request = check(message.request)
        if message.job in self._history:
            raise BadMessage(name="Submit", reason="there is a job of this name already")
        # The job keeps its meshes: by the time of its turn they may have made room for others.
        meshes = self._meshes.get(request.meshes) if isinstance(request, Texture) else ()
        job = Job(message.job, request, meshes=meshes)
        job.followers.append(channel.send)
        self._jobs.add(job)

    def _cancel(self, channel: Channel, message: Cancel) -> None:
        job = self._jobs.get(message.job)
        if job.state == QUEUED:
            self._end(job, CANCELLED, Cancelled())
        elif job.state == RUNNING:
            job.cancelled = True
            self._supervisor.stop_job(job.name)

    def _follow(self, channel: Channel, message: Follow) -> None:
        job = self._jobs.get(message.job) if message.job in self._jobs else None
        if job and (job.state not in ENDED or job.results or job.name not in self._history):
            for old in (*job.results, *job.latest.values()):
                channel.send(old)
            channel.send(self._jobs.state_of(job))
            if job.state not in ENDED and channel.send not in job.followers:
                job.followers.append(channel.send)
            return
        for old in self._history.load(message.job):  # ends with the job's final state: it was stored whole
            channel.send(old)

    # ------------------------------------------------------------ work

    async def _work(self) -> None:
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


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # JSON may hold halves of characters


class MeshStore:
    """Meshes by content hash, the least recently used ones forgotten beyond a size."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._meshes: OrderedDict[str, MeshData] = OrderedDict()

    def missing(self, hashes: tuple[str, ...]) -> tuple[str, ...]:
        for name in hashes:
            if name in self._meshes:
                self._meshes.move_to_end(name)
        return tuple(name for name in hashes if name not in self._meshes)

    def add(self, mesh: MeshData) -> None:
        mesh.check_values()
        if _size(mesh) > self._limit:
            raise TooLarge(what=f"The mesh of {mesh.name!r}", size=_size(mesh), limit=self._limit)
        name = mesh.content_hash()
        self._meshes[name] = mesh
        self._meshes.move_to_end(name)
        while len(self._meshes) > 1 and sum(map(_size, self._meshes.values())) > self._limit:
            self._meshes.popitem(last=False)

    def get(self, hashes: tuple[str, ...]) -> tuple[MeshData, ...]:
        """The meshes, or MissingMesh."""
        if missing := self.missing(hashes):
            raise MissingMesh(count=len(missing))
        return tuple(self._meshes[name] for name in hashes)


def _size(mesh: MeshData) -> int:
    return sum(a.nbytes for a in (mesh.positions, mesh.triangles, mesh.normals, mesh.uvs, mesh.materials))


def check(request: Generate | Texture) -> Generate | Texture:
    """The request with its seed chosen, or an error: model known, sizes within limits, passes sound."""
    models.resolve(request.settings.model)
    if isinstance(request, Generate):
        sizes = [(request.width, request.height)]
        if request.settings.strength < 1 and request.image is None:
            raise BadParameter(name="strength", reason="below 1 it needs an image to start from")
    else:
        if not 1 <= len(request.views) <= MAX_VIEWS:
            raise BadParameter(name="views", reason=f"{len(request.views)} views; 1 to {MAX_VIEWS} can be painted")
        if not request.meshes:
            raise MissingMesh("The job names no mesh.", hint="Select the objects that should be painted.")
        sizes = [(view.camera.width, view.camera.height) for view in request.views]
        for view in request.views:
            view.check_values()
    for width, height in sizes:
        if width % 8 or height % 8 or min(width, height) < 64 or max(width, height) > MAX_SIDE:
            reason = "the server cannot paint that size"
            raise BadSize(width=width, height=height, minimum=64, maximum=MAX_SIDE, reason=reason)
    if request.settings.seed >= 0:
        return request
    # Chosen here and not by the engine, so that a job that starts over paints the same picture.
    chosen = dataclasses.replace(request.settings, seed=secrets.randbelow(2**31))
    return dataclasses.replace(request, settings=chosen)
