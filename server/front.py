"""The front: greets clients, takes their jobs, passes reports on. It holds no GPU state and never stops answering."""

from __future__ import annotations

import asyncio
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
    BadParameter,
    ConnectionLost,
    MissingMesh,
    PaintoverError,
    PortInUse,
    ProtocolError,
    ServerFailure,
    ServerStartFailed,
    TooLarge,
    WrongProtocol,
    WrongToken,
)
from paintover.bridge.live_messages import LiveTrouble
from paintover.bridge.messages import (
    FAILED,
    Cancel,
    Capabilities,
    Failure,
    Follow,
    Forget,
    FrameGiven,
    FrameKept,
    FrameMissing,
    Generate,
    Hello,
    JobState,
    ListJobs,
    MeshesMissing,
    MeshQuery,
    MeshUpload,
    Ping,
    Pong,
    Probe,
    Refused,
    Resume,
    Shot,
    Submit,
    TakeOver,
    Texture,
    Trouble,
    Welcome,
)
from paintover.bridge.messages import (
    Jobs as JobList,
)
from paintover.bridge.parameters import check_size
from paintover.bridge.scene import MeshData, Passes
from paintover.bridge.schema import array_bytes
from paintover.bridge.wire import GREETING, LIMITS, Malformed

from . import models, probe
from .ending import end
from .live.live import Live, LiveOptions
from .runner import Runner
from .traffic import UNREAD, Traffic

log = logging.getLogger("paintover.front")

GREETING_TIMEOUT = 10.0
MAX_VIEWS = 32
MESH_CACHE = 1 << 30
"""Bytes of meshes that are kept for later jobs."""


class Front:
    """One server: its clients, its meshes; its runner does the jobs."""

    def __init__(
        self,
        *,
        token: str,
        data: Path,
        engine: str = "diffusers",
        standby: bool = True,
        live: LiveOptions = LiveOptions(),  # noqa: B008  # frozen
    ) -> None:
        if not token:
            raise ServerStartFailed(reason="it has no token", hint="Delete the empty token file, then start again.")
        self._token = token
        self._runner = Runner(engine, data / "jobs", self._tell_all, standby=standby)
        self._live = Live(live, token, data, self._runner.supervisor, self._tell_all)
        self._meshes = MeshStore(MESH_CACHE)
        self._traffic = Traffic()
        self._tasks: set[asyncio.Task[None]] = set()
        self._answers: dict[type, Callable[[Channel, Any], Awaitable[None] | None]] = {
            Ping: lambda channel, message: channel.send(Pong(message.number)),
            MeshQuery: lambda channel, message: channel.send(MeshesMissing(self._meshes.missing(message.hashes))),
            MeshUpload: lambda channel, message: self._meshes.add(message.mesh),
            Submit: self._submit,
            Cancel: lambda channel, message: self._runner.cancel(message.job),
            Follow: lambda channel, message: self._runner.follow(message.job, channel.send, channel.room),
            TakeOver: lambda channel, message: self._runner.take_over(message.job, channel.send, channel.room),
            Resume: lambda channel, message: self._runner.resume(message.job, channel.send, channel.room),
            Forget: lambda channel, message: self._runner.forget(message.job, channel.send),
            **dict.fromkeys(
                (FrameGiven, FrameMissing, FrameKept), lambda channel, message: self._runner.frame(message)
            ),
            ListJobs: lambda channel, message: channel.send(JobList(self._runner.summaries())),
            Probe: lambda channel, message: channel.send(probe.answer(message)),
            **self._live.answers,
        }

    # ------------------------------------------------------------ life

    async def serve(self, host: str, port: int, started: Callable[[int], None]) -> None:
        """Listen until cancelled. `started` gets the port (useful with port 0). Raises PortInUse."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._traffic.complain)
        self._runner.open()

        def accept() -> Channel:
            channel = Channel(GREETING, patience=UNREAD)
            self._spawn(self._client(channel))
            return channel

        try:
            listener = await loop.create_server(accept, host, port, start_serving=False)
        except OSError as reason:
            if reason.errno == errno.EADDRINUSE:
                raise PortInUse(host=host, port=port) from reason
            raise
        actual = listener.sockets[0].getsockname()[1]
        try:
            await self._live.start(host, port, actual)
            for work in (self._runner.work(), self._traffic.watch(), *self._live.work()):
                self._spawn(work)
            await listener.start_serving()
            started(actual)
            await asyncio.Event().wait()
        finally:
            listener.close()
            # The runner's own task first: the worker that it may be starting is then there to be ended, or gone.
            await end(self._tasks)
            await self._live.close()
            await self._runner.close()

    async def unused(self) -> None:
        """Wait until no client is connected and no job waits or runs."""
        while self._traffic.clients or self._runner.busy:
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
        self._traffic.add(channel)
        try:
            await self._serve(channel)
        finally:
            self._traffic.remove(channel)
            channel.close()

    async def _serve(self, channel: Channel) -> None:
        try:
            hello = await asyncio.wait_for(channel.receive(), GREETING_TIMEOUT)
            self._greet(channel, hello)
        except (PaintoverError, TimeoutError) as error:
            if isinstance(error, PaintoverError) and not isinstance(error, ConnectionLost):
                self._traffic.note(logging.WARNING, f"Refused a client: {error}")
                await channel.part(Refused(Failure.of(error)))
            return
        try:
            while True:
                await self._answer(channel, await channel.receive())
        except PaintoverError as error:
            if isinstance(error, ProtocolError):
                self._traffic.note(logging.WARNING, f"Closed a client: {error}")
                await channel.part(Trouble(Failure.of(error)))
        finally:
            self._runner.unfollow(channel.send)
            self._live.stage.leave(channel)

    def _greet(self, channel: Channel, hello: Any) -> None:
        if isinstance(hello, Malformed):
            raise hello.error
        if not isinstance(hello, Hello):
            raise ProtocolError(reason="the first message was not Hello")
        if hello.protocol != PROTOCOL:
            raise WrongProtocol(ours=PROTOCOL, version=VERSION, theirs=hello.protocol)
        if not hmac.compare_digest(_bytes(hello.token), _bytes(self._token)):
            raise WrongToken()
        self._traffic.greet(channel)
        channel.set_limits(LIMITS)
        channel.send(Welcome(PROTOCOL, VERSION, self.capabilities()))
        for notice in (self._runner.notice, *self._live.notices):
            if notice:
                channel.send(notice)
        if self._traffic.may_share_memory:
            channel.offer_lane()
        self._traffic.note(logging.INFO, f"Client {hello.client[:80]!r} (Paintover {hello.version[:20]}) connected")

    def capabilities(self) -> Capabilities:
        return Capabilities(models.infos(), self._runner.device)

    async def _answer(self, channel: Channel, message: Any) -> None:
        """Do what a message asks for. An error goes back to its sender; nothing a client says stops the front."""
        try:
            if isinstance(message, Malformed):
                raise message.error
            answer = self._answers.get(type(message))
            if answer is None:
                raise ProtocolError(reason=f"{type(message).__name__} is not for the server")
            if (work := answer(channel, message)) is not None:
                await work
        except PaintoverError as error:
            await self._say(channel, message, error)
        except Exception as error:  # a bug here is its finder's trouble, and nobody else's
            log.error("A %s could not be answered", type(message).__name__, exc_info=error)
            await self._say(channel, message, ServerFailure(reason=f"{type(error).__name__}: {error}"))

    async def _say(self, channel: Channel, message: Any, error: PaintoverError) -> None:
        """Tell a client what was wrong with its message."""
        job, failure = str(getattr(message, "job", "")), Failure.of(error)
        if isinstance(message, Malformed) and message.tag.startswith("Live"):
            channel.send(LiveTrouble(failure))
            return
        # A job that is there has a state of its own, whatever was wrong with this message.
        there = not job or await self._runner.knows(job)
        channel.send(Trouble(failure, job) if there else JobState(job, FAILED, 0, failure))

    def _tell_all(self, message: Any) -> None:
        for channel in self._traffic.clients:
            channel.send(message)

    # ------------------------------------------------------------ what clients ask for

    async def _submit(self, channel: Channel, message: Submit) -> None:
        request = await check(message.request)
        # The job keeps its meshes: by the time of its turn they may have made room for others.
        meshes = self._meshes.get(request.meshes) if isinstance(request, Texture) else ()
        await self._runner.submit(message.job, request, meshes, message.origin, channel.send)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # JSON may hold halves of characters


class MeshStore:
    """Meshes by content hash, the least recently used ones forgotten beyond a size."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._meshes: OrderedDict[str, MeshData] = OrderedDict()
        self._total = 0

    def missing(self, hashes: tuple[str, ...]) -> tuple[str, ...]:
        for name in hashes:
            if name in self._meshes:
                self._meshes.move_to_end(name)
        return tuple(name for name in hashes if name not in self._meshes)

    async def add(self, mesh: MeshData) -> None:
        if _size(mesh) > self._limit:
            raise TooLarge(what=f"The mesh of {mesh.name!r}", size=_size(mesh), limit=self._limit)
        await asyncio.to_thread(mesh.check_values)
        name = await asyncio.to_thread(mesh.content_hash)
        if name not in self._meshes:
            self._total += _size(mesh)
        self._meshes[name] = mesh
        self._meshes.move_to_end(name)
        while len(self._meshes) > 1 and self._total > self._limit:
            self._total -= _size(self._meshes.popitem(last=False)[1])

    def get(self, hashes: tuple[str, ...]) -> tuple[MeshData, ...]:
        """The meshes, or MissingMesh."""
        if missing := self.missing(hashes):
            raise MissingMesh(count=len(missing))
        return tuple(self._meshes[name] for name in hashes)


def _size(mesh: MeshData) -> int:
    return array_bytes(mesh) + 4096  # Python's own share, so that a million tiny meshes count, too


async def check(request: Generate | Texture | Shot) -> Generate | Texture | Shot:
    """The request with its seed chosen, or an error: model known, sizes within limits, passes sound."""
    models.resolve(request.settings.model)
    if isinstance(request, Generate | Shot):
        sizes = [(request.width, request.height)]
        if isinstance(request, Generate) and request.settings.strength < 1 and request.image is None:
            raise BadParameter(name="strength", reason="below 1 it needs an image to start from")
    else:
        if not 1 <= len(request.views) <= MAX_VIEWS:
            raise BadParameter(name="views", reason=f"{len(request.views)} views; 1 to {MAX_VIEWS} can be painted")
        if not request.meshes:
            raise MissingMesh("The job names no mesh.", hint="Select the objects that should be painted.")
        sizes = [(view.camera.width, view.camera.height) for view in request.views]
        await asyncio.to_thread(_check_values, request.views)
    for width, height in sizes:
        check_size(width, height)
    if request.settings.seed >= 0:
        return request
    # Chosen here and not by the engine, so that a job that starts over paints the same picture.
    chosen = dataclasses.replace(request.settings, seed=secrets.randbelow(2**31))
    return dataclasses.replace(request, settings=chosen)


def _check_values(views: tuple[Passes, ...]) -> None:
    for view in views:
        view.check_values()
