"""All of the stage in one place: its state and what keeps it, the stream, the paced output, OSC, and the web port."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from paintover.bridge.errors import PaintoverError, PortInUse, ServerStartFailed, SinkMissing
from paintover.bridge.live_messages import (
    LiveEvent,
    LiveFrame,
    LiveJoin,
    LiveLeave,
    LiveSet,
    LiveStatus,
    LiveTrigger,
    LiveTrouble,
)
from paintover.bridge.messages import Failure, Notice

from .. import models
from ..supervisor import Supervisor
from . import sinks
from .announce import Announcement
from .jpeg import JpegSink
from .osc import Osc
from .osc_addresses import HTTP_PORT, OSC_PORT, OSC_REPLY, ROOT
from .oscquery import OscQuery
from .output import Output
from .outside import Outside
from .picture import Picture
from .stage import Stage
from .state import LiveState
from .store import Store
from .web import Sources, Web

log = logging.getLogger("paintover.live")

TIDY = 5.0
"""Seconds between two looks for garbage."""


@dataclass(frozen=True)
class LiveOptions:
    """How the stage is reached, as chosen on the command line. A port of 0 is none."""

    osc_port: int = OSC_PORT
    osc_reply: int = OSC_REPLY
    osc_root: str = ROOT
    osc_allow: tuple[ipaddress.IPv4Network, ...] = ()
    osc_timetags: bool = False
    http_port: int = HTTP_PORT
    sinks: tuple[str, ...] | None = None
    """None: shared memory, where there is any."""
    sources: tuple[str, ...] = ()
    """Names of shared memory from which frames of other programs come in."""
    fallback: Path | None = None
    """A picture that is shown while none can be painted."""
    zeroconf: bool = False


class Live:
    """`start`, tasks for `work`, `close`. Belongs to the front's event loop."""

    def __init__(
        self,
        options: LiveOptions,
        token: str,
        data: Path,
        supervisor: Supervisor,
        tell: Callable[[Notice], None],
    ) -> None:
        """`tell` sends a notice to everybody who is connected."""
        self._options = options
        self._token = token
        self._data = data
        self._tell = tell
        self.notices: list[Notice] = []
        """What whoever connects should know: an endpoint that the server has to do without."""
        self.state = LiveState(lambda name: models.resolve(name).controls)
        self.stage = Stage(self.state, supervisor, lambda name: models.resolve(name).defaults)
        self.answers: dict[type, Callable[[Any, Any], None]] = {
            LiveJoin: self.stage.join,
            LiveLeave: lambda channel, message: self.stage.leave(channel),
            LiveFrame: self.stage.frame,
            LiveSet: self.stage.set,
            LiveTrigger: self.stage.trigger,
        }
        self._jpeg = JpegSink()
        self._output: Output | None = None
        self._outside: Outside | None = None
        self._store: Store | None = None
        self._osc: Osc | None = None
        self._web: Web | None = None
        self._announcement: Announcement | None = None

    # ------------------------------------------------------------ life

    async def start(self, host: str, port: int, actual: int) -> None:
        """Open everything. What is kept is named after the bridge's `port` as asked for, frames after the `actual` one.

        A port that is in use is done without, and told. Raises SinkMissing, and ServerStartFailed for a fallback that
        is no picture.
        """
        options = self._options
        store = Store(self._data / f"live-{port}.json", self.state, self._frozen)
        for trouble in store.load(time.monotonic()):
            self._note(trouble)
        if store.picture is not None:
            self.stage.picture = Picture(store.picture, 0, int(self.state.values["seed"]), time.monotonic())
        self._store = store
        try:
            self._outside = Outside(options.sources, self.stage.outside)
        except ValueError as reason:
            raise ServerStartFailed(f"{reason}.", hint="Choose another name for --source.") from reason
        self._open_output(f"paintover-{actual}")
        self._outside.start()
        self.stage.on_picture.append(self._painted)
        self.stage.on_event.append(self._event)
        self._open_osc()
        http = await self._open_web(host)
        if options.zeroconf:
            self._announcement = Announcement(self._osc.port if self._osc else 0, http)
            await self._announcement.start()
        # All that was loaded stays: looking through it for garbage takes 30 ms and more, in which no frame goes out.
        gc.collect()
        gc.freeze()

    def _open_output(self, name: str) -> None:
        """Send frames out. Raises SinkMissing, unless it is about what nobody has asked for."""
        wanted = ("shared",) if self._options.sinks is None else self._options.sinks
        chosen = [sinks.make(sink, frames=name, fps=self._fps()) for sink in wanted]
        self.stage.controls.keeps_depth = "depth" in wanted
        fallback = _picture(self._options.fallback) if self._options.fallback else None
        output = Output(self.stage, self.state.values, [self._jpeg, *chosen], fallback=fallback)
        try:
            output.start()
        except SinkMissing as error:
            if self._options.sinks is not None:
                raise
            self._note(error)
            output = Output(self.stage, self.state.values, [self._jpeg], fallback=fallback)
            output.start()
        self._output = output

    def _open_osc(self) -> None:
        options = self._options
        if not options.osc_port:
            return
        osc = Osc(
            self.state, self.status, root=options.osc_root, reply_port=options.osc_reply,
            allow=options.osc_allow, timetags=options.osc_timetags,
        )  # fmt: skip
        try:
            osc.open(options.osc_port)
        except (PortInUse, OSError) as reason:
            osc.close()
            self._without("OSC is off", options.osc_port, "--osc-port", reason)
            return
        self._osc = osc
        log.info("OSC: UDP port %d", osc.port)

    async def _open_web(self, host: str) -> int:
        """Open the HTTP port, and return it; 0 without one."""
        options = self._options
        if not options.http_port:
            return 0
        sources = Sources(
            self.state, self.status, self._pace, self._image, self._jpeg,
            lambda: [model.name for model in models.infos()], self._heard,
        )  # fmt: skip
        web = Web(sources, self._token)
        query = OscQuery(
            self.state, self.status, root=options.osc_root, osc_port=lambda: self._osc.port if self._osc else 0
        )
        web.oscquery = query.get
        try:
            port = await web.start(host, options.http_port)
        except (PortInUse, OSError) as reason:
            self._without("The monitor page is off", options.http_port, "--http-port", reason)
            return 0
        self._web = web
        log.info("Monitor page: http://%s:%d", host, port)
        return port

    def work(self) -> list[Awaitable[None]]:
        """What goes on by itself: a task each, until cancelled."""
        assert self._store
        work: list[Awaitable[None]] = [
            self.stage.work(),
            _tidy(),
            self._store.keep(lambda error: self._tell(Notice(Failure.of(error)))),
        ]
        return [*work, self._osc.run()] if self._osc else work

    async def close(self) -> None:
        if self._announcement:
            await self._announcement.close()
        if self._osc:
            self._osc.close()
        if self._outside:
            await asyncio.to_thread(self._outside.close)
        if self._output:
            await asyncio.to_thread(self._output.close)
        if self._web:
            await self._web.close()

    # ------------------------------------------------------------ between its parts

    def status(self) -> LiveStatus:
        status = self.stage.status()
        if self._output:
            pace = self._output.pace()
            status = replace(status, frame_age_ms=pace.frame_age_ms, jitter_ms=pace.jitter_ms)
        return status

    def _pace(self) -> dict[str, float]:
        return asdict(self._output.pace()) if self._output else {}

    def _image(self) -> np.ndarray:
        return self._output.image if self._output else np.zeros((64, 64, 3), np.uint8)

    def _heard(self) -> tuple[Any, Any]:
        return (self._osc.messages, self._osc.errors) if self._osc else ((), ())

    def _frozen(self) -> np.ndarray | None:
        return self._output.frozen if self._output else None

    def _fps(self) -> float:
        return float(self.state.values["output_fps"])

    def _painted(self, picture: Picture) -> None:
        if self._osc:
            self._osc.painted(picture.number)

    def _event(self, event: LiveTrouble | LiveEvent) -> None:
        if self._osc:
            self._osc.event(event)
        if self._web:
            if isinstance(event, LiveTrouble):
                self._web.event(f"{event.failure.message} {event.failure.hint}".strip(), error=True)
            else:
                self._web.event(event.address)

    def _without(self, what: str, port: int, flag: str, reason: Exception) -> None:
        """The show goes on without this endpoint: nobody may have asked for it."""
        why = "is in use by another program" if isinstance(reason, PortInUse) else f"cannot be used ({reason})"
        hint = f"Stop that program, or choose another port with {flag} (0: none), and start the server again."
        self._note(PortInUse(f"{what}: port {port} {why}.", hint=hint))

    def _note(self, error: PaintoverError) -> None:
        log.warning("%s", error)
        self.notices.append(Notice(Failure.of(error)))


async def _tidy() -> None:
    """Look for garbage, for ever: clients and workers that have gone refer to themselves in circles.

    Python looks only once there is a quarter as much that is new as there was at its last look, which was at all that
    was loaded: that hardly ever comes. What is not frozen is little, and looked through in a millisecond.
    """
    while True:
        await asyncio.sleep(TIDY)
        gc.collect()


def _picture(path: Path) -> np.ndarray:
    """A picture file as uint8 (H, W, 3). Raises ServerStartFailed."""
    from PIL import Image, UnidentifiedImageError

    with contextlib.suppress(OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError):
        return np.asarray(Image.open(path).convert("RGB"))
    raise ServerStartFailed(f"{path} is no picture that can be shown.", hint="Choose a PNG or JPEG for --fallback.")
