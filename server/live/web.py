"""HTTP beside the bridge: the monitor page, the frames as MJPEG and PNG, and the WebSocket that the page lives on.

Nobody who looks holds anybody else up: each viewer has a task of its own that takes the newest frame when the last one
has left, and what else it is told waits in a place of fixed size.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import json
import logging
import math
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import WSMsgType, web
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from paintover.bridge.errors import PaintoverError, PortInUse
from paintover.bridge.live_messages import LiveStatus

from .connections import IDLE, Site, parting
from .guard import Guard
from .jpeg import JpegSink
from .page_client import PageClient
from .state import LiveState, in_order

log = logging.getLogger("paintover.live")
requests = logging.getLogger("paintover.live.requests")
"""What the web server says of requests that are none, each with where it noticed that."""

PAGE = Path(__file__).parent / "page"
MAX_VIEWERS = 64
"""Pages and streams together."""
BOUNDARY = "paintover-frame"
UNSENT = 1 << 18
"""Bytes of a stream that the system holds for a viewer: more would be frames that wait."""
DEAF = 30.0
"""Seconds for which a viewer may take nothing."""
TICK = 0.2
"""Seconds between what pages are told of the status."""


class Seldom(logging.Filter):
    """Lets a record through now and then: whoever asks for nonsense must not fill the log."""

    REST = 10.0
    """Seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._next = -math.inf

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        due = now >= self._next
        if due:
            self._next = now + self.REST
        return due


requests.addFilter(Seldom())


@dataclass
class Sources:
    """What the page shows and sets."""

    state: LiveState
    status: Callable[[], LiveStatus]
    pace: Callable[[], Mapping[str, float]]
    image: Callable[[], np.ndarray]
    """What goes out now."""
    jpeg: JpegSink
    models: Callable[[], Iterable[str]]
    heard: Callable[[], tuple[Iterable[Any], Iterable[Any]]] = lambda: ((), ())
    """The newest OSC messages and errors: objects with when, sender, address and text."""


class Web:
    """The HTTP port. `oscquery` answers what is not the page's (see `_anything`)."""

    def __init__(self, sources: Sources, token: str) -> None:
        self._sources = sources
        self._closing = asyncio.Event()
        self._viewers = 0
        self._pages: set[PageClient] = set()
        self._runner: web.AppRunner | None = None
        self._site: Site | None = None
        self._ticking: asyncio.Task[None] | None = None
        self.oscquery: Callable[[web.Request], Any] | None = None
        """An aiohttp handler for OSCQuery: GET of “/” by others than browsers, of addresses, and its WebSocket."""
        self._app = web.Application(middlewares=[self._note, Guard(token).check], client_max_size=1 << 16)
        self._app.add_routes(
            [
                web.get("/", self._anything),
                web.get("/ws", self._page, allow_head=False),
                web.get("/stream.mjpg", self._stream),
                web.get("/snapshot.png", self._snapshot),
                web.get("/{name:[a-z_]+\\.(?:js|css|svg|html)}", self._file),
                web.get("/{path:.*}", self._anything),
                web.post("/token", self._file),  # the guard answers it
            ]
        )

    # ------------------------------------------------------------ life

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises PortInUse."""
        self._runner = web.AppRunner(
            self._app, access_log=None, logger=requests, handle_signals=False, shutdown_timeout=1.0,
            keepalive_timeout=IDLE,
        )  # fmt: skip
        await self._runner.setup()
        self._site = Site(self._runner, host, port)
        try:
            await self._site.start()
        except OSError as reason:
            await self._runner.cleanup()
            if reason.errno == errno.EADDRINUSE:
                hint = "Stop that program, or choose another port with --http-port (0: none)."
                raise PortInUse(host=host, port=port, hint=hint) from reason
            raise
        self._sources.jpeg.attach()
        self._sources.state.listeners.append(self._changed)
        self._sources.state.triggered.append(self._triggered)
        self._ticking = asyncio.create_task(self._tick())
        return int(self._runner.addresses[0][1])

    async def close(self) -> None:
        self._closing.set()
        if self._ticking:
            self._ticking.cancel()
        if goodbyes := [asyncio.create_task(page.close()) for page in self._pages]:
            await asyncio.wait(goodbyes, timeout=1.0)
        if self._runner:
            await self._runner.cleanup()

    # ------------------------------------------------------------ what pages are told

    def event(self, text: str, *, error: bool = False) -> None:
        """Show a line among the page's messages: something on the stage went wrong, or happened."""
        for page in self._pages:
            page.line(time.time(), "error" if error else "event", "", text)

    def _changed(self, name: str, value: Any, origin: object) -> None:
        for page in self._pages:
            if page is not origin:
                page.value(name, value)

    def _triggered(self, address: str, arguments: tuple[float, ...], origin: object) -> None:
        if address == "preset/store":
            for page in self._pages:
                page.presets(self._sources.state)

    async def _tick(self) -> None:
        failed = False
        while True:
            await asyncio.sleep(TICK)
            if not self._pages:
                continue
            try:
                status = {**asdict(self._sources.status()), "pace": dict(self._sources.pace())}
                messages, errors = (list(entries)[-12:] for entries in self._sources.heard())
                for page in self._pages:
                    page.status(status)
                    page.heard(messages, errors)
                failed = False
            except Exception as error:  # the page shows what it was told last
                if not failed:
                    log.error("Pages cannot be told the status", exc_info=error)
                failed = True

    # ------------------------------------------------------------ requests

    @web.middleware
    async def _note(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self._site:
            self._site.known(request)
        response: web.StreamResponse = await handler(request)
        return response

    async def _anything(self, request: web.Request) -> web.StreamResponse:
        """The page for a browser that asks for it; OSCQuery for everybody else, and for every other path."""
        if request.path == "/" and "text/html" in request.headers.get("Accept", "") and not request.query_string:
            return web.FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})
        if request.path == "/" and set(request.query) == {"token"}:
            return await self._file_named("index.html")
        if self.oscquery:
            return await self.oscquery(request)
        raise web.HTTPNotFound(text="There is nothing here.\n")

    async def _file(self, request: web.Request) -> web.StreamResponse:
        return await self._file_named(request.match_info.get("name", ""))

    async def _file_named(self, name: str) -> web.StreamResponse:
        path = PAGE / name
        if path.parent != PAGE or not path.is_file():
            raise web.HTTPNotFound(text="There is nothing here.\n")
        return web.FileResponse(path, headers={"Cache-Control": "no-cache"})

    async def _snapshot(self, request: web.Request) -> web.StreamResponse:
        """The frame that goes out now, without loss, with what it was painted from."""
        image, values = self._sources.image(), dict(self._sources.state.values)

        def encode() -> bytes:
            info, buffer = PngInfo(), io.BytesIO()
            for name, value in values.items():
                info.add_text(name, str(value))
            Image.fromarray(image).save(buffer, "PNG", pnginfo=info, compress_level=3)
            return buffer.getvalue()

        name = time.strftime("paintover-%Y%m%d-%H%M%S.png")
        headers = {"Content-Disposition": f'inline; filename="{name}"'}
        return web.Response(body=await asyncio.to_thread(encode), content_type="image/png", headers=headers)

    @contextlib.contextmanager
    def _viewing(self) -> Any:
        if self._viewers >= MAX_VIEWERS:
            raise web.HTTPServiceUnavailable(text=f"There are {MAX_VIEWERS} viewers already.\n")
        self._viewers += 1
        try:
            yield
        finally:
            self._viewers -= 1

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """The frames as MJPEG (multipart/x-mixed-replace): each viewer gets the newest when it is ready for it."""
        with self._viewing(), parting(request):
            _limit_buffers(request)
            response = web.StreamResponse(headers={"Cache-Control": "no-store", "Connection": "close"})
            response.content_type = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
            if request.method == "HEAD":
                return response
            await response.prepare(request)
            jpeg, number = self._sources.jpeg, self._sources.jpeg.number
            await response.write(f"--{BOUNDARY}\r\n".encode())
            with contextlib.suppress(ConnectionError, TimeoutError, asyncio.CancelledError):
                while not self._closing.is_set():
                    shot = await jpeg.next(number)
                    number = shot.number
                    head = f"Content-Type: image/jpeg\r\nContent-Length: {len(shot.data)}\r\n\r\n".encode()
                    # The next boundary comes with the frame: browsers show a frame once they see its end.
                    part = b"".join((head, shot.data, f"\r\n--{BOUNDARY}\r\n".encode()))
                    await asyncio.wait_for(response.write(part), DEAF)
            return response

    async def _page(self, request: web.Request) -> web.StreamResponse:
        """The page's WebSocket: JSON both ways (page_client.py), frames as binary messages."""
        with self._viewing(), parting(request):
            socket_ = web.WebSocketResponse(heartbeat=15.0, compress=False, max_msg_size=1 << 19)
            await socket_.prepare(request)
            _limit_buffers(request)
            page = PageClient(socket_, self._sources.jpeg)
            page.hello(self._sources.state, list(self._sources.models()))
            self._pages.add(page)
            sending = asyncio.create_task(page.send())
            # A page that takes nothing any more is let go; it may connect again.
            sending.add_done_callback(lambda task: None if task.cancelled() else _hang_up(request))
            try:
                async for message in socket_:
                    if message.type is WSMsgType.TEXT:
                        self._told(page, message.data)
            finally:
                self._pages.discard(page)
                sending.cancel()
                await asyncio.wait([sending])
            return socket_

    def _told(self, page: PageClient, text: str) -> None:
        """What a page says: {"set": {name: value}}, {"trigger": address, "arguments": […]}, {"frame": true}."""
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            return page.line(time.time(), "error", "", "That was no JSON.")
        if not isinstance(message, dict):
            return page.line(time.time(), "error", "", "That was no JSON object.")
        if message.get("frame"):
            page.ask()
        values = message.get("set")
        state, now = self._sources.state, time.monotonic()
        try:
            wanted = in_order(values) if isinstance(values, dict) else []
        except PaintoverError as error:
            return page.line(time.time(), "error", "", error.message)
        for name, value in wanted:
            try:
                if (used := state.set(name, value, origin=page, now=now)) != value or name == "seed":
                    page.value(name, used)
            except PaintoverError as error:
                page.line(time.time(), "error", name, error.message)
                if name in state.values:
                    page.value(name, state.values[name])
        if isinstance(address := message.get("trigger"), str):
            given = message.get("arguments", [])
            try:
                state.trigger(address, tuple(given) if isinstance(given, list) else (), origin=page, now=now)
            except PaintoverError as error:
                page.line(time.time(), "error", address[:60], error.message)
        return None


def _limit_buffers(request: web.Request) -> None:
    """Little room below us: what waits there is old by the time it is shown."""
    transport = request.transport
    if transport is not None and (sock := transport.get_extra_info("socket")) is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNSENT)


def _hang_up(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()  # closing would wait for it to read
