"""The stage: the one stream of frames that a server paints, between those who set it and the worker that paints it.

It turns the state's values into settings for the worker, hands on the newest control frame, and gives both to the next
worker when one dies. Painted frames go to the clients that asked for them, and to whoever else listens (`on_picture`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from paintover.bridge.aio import Channel
from paintover.bridge.cores import keep_off
from paintover.bridge.errors import BadSize, PaintoverError, ServerFailure
from paintover.bridge.live import LIVE, TRIGGERS_BY_ADDRESS, LiveSettings
from paintover.bridge.live_messages import (
    ERROR,
    FROZEN,
    LOADING,
    OFF,
    RECOVERING,
    RUNNING,
    WARMING,
    LiveEvent,
    LiveFrame,
    LiveJoin,
    LivePicture,
    LiveSet,
    LiveStatus,
    LiveTrigger,
    LiveTrouble,
    LiveValues,
    Value,
)
from paintover.bridge.messages import Failure
from paintover.bridge.scene import Passes

from ..supervisor import Supervisor
from ..worker_messages import StreamControl, StreamPicture, StreamSettings, StreamState
from .audience import Audience, report
from .control import Controls
from .measure import Measure
from .picture import Picture
from .stall import Stall
from .state import LiveState, in_order
from .suit import Suit

log = logging.getLogger("paintover.front")

MAX_SIDE = 4096
"""Pixels of a control frame's longer side."""
MOVING = 1 / 60
"""Seconds between settings while something changes by itself."""
COALESCE = 1 / 240
"""Seconds between settings at the least: faders send many values at once, one after the other."""
TELL = 1 / 30
"""Seconds between what clients are told of others' changes."""
STATUS = 0.2
REPEATED = 2.0
"""Seconds for which the same trouble is not told again: it may come with every frame."""

# What no painted frame depends on, and so wakes no worker: the rest goes to it. Slots and transition come as prompts.
_ELSEWHERE = ("tempo", "blender", "prompts")
PAINTED = tuple(row.name for row in LIVE if row.group not in _ELSEWHERE and row.name not in ("blackout", "output_fps"))


class Stage:
    """See above. Belongs to the front's event loop; `work` is its own task there."""

    def __init__(self, state: LiveState, supervisor: Supervisor, defaults_of: Callable[[str], dict[str, Any]]) -> None:
        """`defaults_of` gives the parameter values that suit a model."""
        self.state = state
        self.picture: Picture | None = None
        self.on_picture: list[Callable[[Picture], None]] = []
        self.on_event: list[Callable[[LiveTrouble | LiveEvent], None]] = []
        self.controls = Controls()
        self._supervisor = supervisor
        supervisor.on_stream, supervisor.on_worker, supervisor.on_trouble = self._hear, self._worker, self._no_worker
        self._suit = Suit(state, defaults_of)
        self._audience = Audience()
        self._on = False
        self._text, self._progress, self._doing = "", 0.0, OFF
        self._wake = asyncio.Event()
        self._hurries = False
        self._updated = self._told = self._told_status = 0.0
        """When the worker got settings last, and the clients what others have changed and the status."""
        self._control_leaves = False
        """A control frame is going to be handed on."""
        self._settings: StreamSettings | None = None
        self._measure: Measure[tuple[Channel, int]] = Measure()
        """It knows control frames by who sent them, and their number there."""
        self._painted_origin: tuple[Channel | None, int] = (None, -1)
        self._seconds: dict[str, float] = {}
        self._complained: dict[Failure, float] = {}
        """Trouble that came lately -> when it was told."""
        self._stall = Stall()
        self._loads = False
        """The worker says that it loads or prepares something: that may take any time."""
        state.listeners.append(self._value_changed)
        state.triggered.append(self._triggered)
        state.reports.append(self._report)

    # ------------------------------------------------------------ clients

    def join(self, channel: Channel, message: LiveJoin) -> None:
        with self._sources():
            self._audience.join(channel, message, self.state.values)
        if message.source or message.pictures:
            self.start()
        channel.send(self.status())
        if message.pictures and self.picture:
            channel.send(self._shown_to(channel, self.picture.image, self.picture.seed))

    def leave(self, channel: Channel) -> None:
        with self._sources():
            self._audience.leave(channel)
        self._measure.forget(lambda origin: origin[0] is channel)

    @contextlib.contextmanager
    def _sources(self) -> Iterator[None]:
        """Whoever is the source may be another one afterwards: then its newest frame is painted from, if it has one."""
        self.controls.keep()
        before = self._audience.source
        yield
        source = self._audience.source
        if source and source is not before and (frame := self._audience.frame_of(source)):
            self.frame(source, frame)

    def frame(self, channel: Channel, message: LiveFrame) -> None:
        """Paint from this from now on. A frame that is not sound is reported, and the one before it stays."""
        if not self._audience.keep(channel, message):
            return  # it was told when another one took its place
        channel.offer_board()
        height, width = message.passes.depth.shape
        try:
            if not 1 <= min(width, height) <= max(width, height) <= MAX_SIDE:
                raise BadSize(width=width, height=height, minimum=1, maximum=MAX_SIDE, reason="of a live frame")
            message.passes.check_values()
        except PaintoverError as error:
            self.controls.keep()
            channel.send(LiveTrouble(Failure.of(error)))
            return
        number = self.controls.take(message.passes, message.image)
        self._measure.control(number, (channel, message.number))
        self._paint()

    def outside(self, frame: np.ndarray | Passes) -> None:
        """Take a frame of another program (outside.py): what image-to-image starts from, or depth."""
        self.controls.outside(frame)
        self._paint()

    def _paint(self) -> None:
        """There is something new to paint from."""
        self.start()
        if not self._control_leaves:
            self._control_leaves = True
            # Copying it takes a millisecond. A painted picture that has arrived meanwhile goes first: that is what the
            # loop finds after the one turn.
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._send_control)

    def _send_control(self) -> None:
        self._control_leaves = False
        if (source := self._audience.source) and source.board:
            self._supervisor.lend(source.board)
        if self.controls.newest:
            self._hand_on(self.controls.newest)

    def set(self, channel: Channel, message: LiveSet) -> None:
        """Set values; answer what they are."""
        now, effective = time.monotonic(), {}
        try:
            values = in_order(message.values)
        except PaintoverError as error:
            report(error, "", channel)
            return
        for name, value in values:
            try:
                effective[name] = self.state.set(name, value, origin=channel, now=now)
            except PaintoverError as error:
                report(error, name, channel)
                if name in self.state.values:  # so that it shows what is
                    effective[name] = self.state.values[name]
        if effective:  # behind the settings that they lead to: the picture is waited for
            asyncio.get_running_loop().call_soon(channel.send, LiveValues(effective))

    def trigger(self, channel: Channel, message: LiveTrigger) -> None:
        try:
            self.state.trigger(message.address, message.arguments, origin=channel, now=time.monotonic())
        except PaintoverError as error:
            report(error, message.address, channel)

    # ------------------------------------------------------------ for its owner, OSC and the web

    def start(self) -> None:
        """Paint from now on."""
        if not self._on:
            self._on = True
            self._do(RUNNING if self._held and self.picture else LOADING)
            self._stall.heard(time.monotonic())
            self._wake.set()

    async def work(self) -> None:
        """Keep worker and clients up to date, for ever."""
        while True:
            if not self._wake.is_set():
                pause = MOVING if self.state.busy else STATUS if self._on or len(self._audience) else None
                pause = TELL if self._audience.behind else pause
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), pause)
            self._wake.clear()
            self._tick()
            await asyncio.sleep(COALESCE)

    def _tick(self) -> None:
        self._hurries = False
        now = time.monotonic()
        try:
            self.state.advance(now)
            self._update(now)
            if now - self._told >= TELL:
                self._told = now
                self._audience.tell_changes(self.state.values)
            if now - self._told_status >= STATUS:
                self._told_status = now
                self._audience.tell_status(self.status())
                self._look_after(now)
        except Exception as error:  # noqa: BLE001 - a bug here must not stop the show
            self._complain(Failure.of(ServerFailure(reason=f"{type(error).__name__}: {error}")), error)

    def _hurry(self) -> None:
        """Something has changed: have the worker know in the next turn of the loop, unless it was told just now."""
        self._wake.set()
        if not self._hurries and time.monotonic() - self._updated >= COALESCE:
            self._hurries = True
            asyncio.get_running_loop().call_soon(self._tick)

    def status(self) -> LiveStatus:
        now, measure = time.monotonic(), self._measure
        age = now - self.picture.arrived if self.picture else 0.0
        busy = "A job is being painted; the picture holds" if self._supervisor.busy else ""
        return LiveStatus(
            self._state(), measure.rate(now), measure.latency * 1000, age * 1000, dropped=measure.dropped,
            vram_gb=self._supervisor.beat.device_used / (1 << 30), progress=self._progress, text=self._text or busy,
        )  # fmt: skip

    @property
    def down(self) -> bool:
        """Nothing can be painted now: a chosen fallback may take the picture's place."""
        return self._doing in (LOADING, RECOVERING, ERROR)

    def _do(self, state: str, text: str = "", progress: float = 0.0) -> None:
        changed, self._doing, self._text, self._progress = state != self._doing, state, text, progress
        if changed:
            self._audience.tell_status(self.status())

    @property
    def _held(self) -> bool:
        return bool(self.state.values["freeze"] or not self.state.values["play"])

    def _state(self) -> str:
        return FROZEN if self._doing == RUNNING and self._held else self._doing if self._on else OFF

    # ------------------------------------------------------------ to the worker

    def _update(self, now: float) -> None:
        """Send the settings, if a painted frame depends on what has changed."""
        if not self._on:
            return
        settings, prompts, last = self.state.settings(), self.state.prompts(now), self._settings
        if last and (prompts, self.state.resets, _painted(settings)) == (
            last.prompts, last.resets, _painted(last.settings),
        ):  # fmt: skip
            return
        self._updated = now
        self._settings = StreamSettings((last.number if last else 0) + 1, settings, prompts, self.state.resets)
        if settings.freeze or not settings.play:
            self._measure.rest()
        else:
            self._measure.settings(self._settings.number, now)
        self._hand_on(self._settings)

    def _hand_on(self, message: StreamControl | StreamSettings) -> None:
        self._stall.given()
        self._supervisor.stream(message)

    def _worker(self, there: bool) -> None:
        """Another worker has taken over, or the one that was there has died."""
        if not self._on:
            return
        self._loads = False
        now = time.monotonic()
        self._stall.heard(now)
        paints = not self._held and not self._supervisor.busy
        if not there and paints and (died := self._suit.died(now)):
            self._complain(Failure.of(died))
        if not there or self._doing != LOADING:  # the first one is no recovery
            # While the picture is held nothing is painted: another worker is all that there is to wait for.
            self._do(RUNNING if there and self._held and self.picture else RECOVERING)
        if there:
            self._measure.rest()
            for message in (self.controls.newest, self._settings):
                if message:
                    self._hand_on(message)

    def _no_worker(self, error: PaintoverError) -> None:
        """None could be started: it is tried again."""
        if self._on:
            self._do(RECOVERING, error.message)
            self._complain(Failure.of(error))

    def _look_after(self, now: float) -> None:
        """Replace a worker whose stream hangs."""
        rests = self._loads or self._held or self._state() in (OFF, LOADING) or self._supervisor.busy
        if seconds := self._stall.hangs(now, self._supervisor.beat.cpu_seconds, rests):
            self._supervisor.replace(f"it painted no frame for {seconds:.0f} seconds")

    # ------------------------------------------------------------ from the worker

    def _hear(self, message: StreamPicture | StreamState) -> None:
        now = time.monotonic()
        if isinstance(message, StreamPicture):
            # The first frame of its kind takes longer than those that follow.
            self._stall.heard(now, 0.0 if self._loads else message.seconds.get("paint", 0.0))
            self._loads = False
            self._painted(message, now)
            return
        self._stall.heard(now)
        self._loads = message.state in (LOADING, WARMING)
        # Whoever waits for the picture to come back is not told of each step.
        state = RECOVERING if self._doing == RECOVERING and message.state != ERROR else message.state
        self._do(state, message.text, message.progress)
        if message.failure:
            self._complain(message.failure)
        if message.refused == self.state.values["model"]:
            if not message.control:
                self._suit.take_back(now)
            elif self.state.values[f"control_{message.control}"]:
                self.state.apply({f"control_{message.control}": False}, now)

    def _painted(self, message: StreamPicture, now: float) -> None:
        self._do(RUNNING)
        self._suit.painted()
        self._painted_origin = self._measure.picture(message.control, message.settings, now) or self._painted_origin
        self.state.latency = self._measure.latency
        self._seconds = message.seconds
        board = self._supervisor.board
        for channel in self._audience.watching:
            if board:
                channel.lend(board)
            channel.send(self._shown_to(channel, message.image, message.seed))
        if (image := board.copy_of(message.image) if board else message.image) is None:
            return  # the loop was late: a newer one waits
        count = self.picture.number + 1 if self.picture else 0
        self.picture = Picture(image, count, message.seed, now, self.controls.depth_of(message.control))
        for listener in self.on_picture:
            listener(self.picture)
        keep_off(message.core)

    def _shown_to(self, channel: Channel, image: np.ndarray, seed: int) -> LivePicture:
        """The picture; with the number of the frame that it was painted from, if that was this client's."""
        source, number = self._painted_origin
        return LivePicture(number if source is channel else -1, image, seed, self._seconds)

    # ------------------------------------------------------------ what the state says

    def _value_changed(self, name: str, value: Value, origin: object) -> None:
        self._audience.note_change(name, origin)
        if name == "model":
            try:
                self._suit.bring(str(value), time.monotonic())
            except PaintoverError as error:  # it was there a moment ago; the worker says what becomes of it
                self._complain(Failure.of(error))
        if origin is not None:  # else it comes from what was kept: whoever starts a server for jobs wants no frames
            self.start()
        self._hurry()

    def _triggered(self, address: str, arguments: tuple[Any, ...], origin: object) -> None:
        self.start()
        self._hurry()
        if TRIGGERS_BY_ADDRESS[address].for_client:
            self._tell(LiveEvent(address))

    def _report(self, error: PaintoverError, name: str, origin: object) -> None:
        """Tell who did it what was wrong; if nobody did, everybody."""
        if origin is None:
            self._complain(Failure.of(error))
        else:
            report(error, name, origin)

    def _complain(self, failure: Failure, bug: Exception | None = None) -> None:
        """Tell everybody what is wrong, but not again with every frame."""
        now = time.monotonic()
        self._complained = {one: at for one, at in self._complained.items() if now - at < REPEATED}
        if failure not in self._complained:
            self._complained[failure] = now
            log.warning("The stream: %s", failure.message, exc_info=bug)
            self._tell(LiveTrouble(failure))

    def _tell(self, message: LiveTrouble | LiveEvent) -> None:
        self._audience.tell(message)
        for listener in self.on_event:
            listener(message)


def _painted(settings: LiveSettings) -> tuple[Value, ...]:
    """What a painted frame depends on."""
    return tuple(getattr(settings, name) for name in PAINTED)
