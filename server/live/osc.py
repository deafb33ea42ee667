"""The OSC endpoint: sets what OSC programs ask for on the stage, and tells them what is set there and how it does."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import math
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from paintover.bridge.errors import (
    BadPacket,
    BadParameter,
    Clamped,
    PaintoverError,
    QueueFull,
    ServerStartFailed,
    WrongType,
)
from paintover.bridge.live import LIVE_BY_NAME
from paintover.bridge.live_messages import STATES, LiveEvent, LiveStatus, LiveTrouble, Value

from .echo import Echo, Listener
from .osc_addresses import (
    ACTIONS,
    BUSY,
    BY_PATH,
    FAILED,
    PARAMETERS,
    RANGE,
    ROOT,
    STATUS,
    TYPE,
    UNKNOWN,
    Address,
)
from .osc_codec import Argument, bundles, encode, matching, parse
from .osc_socket import BARRIER, OTHER, SETS, Arrival, Inbox, Sender
from .state import LiveState

log = logging.getLogger("paintover.live")

SLICE = 0.001
"""Seconds at most that messages are handled in one turn of the loop."""
REST = 0.004
"""Seconds between two such turns at least: what comes meanwhile is latest-wins."""
SHOWN = 60
LONGEST = 300
"""Characters of an error's words."""
LARGEST = 2**31 - 1
"""What is sent back as a whole number."""
KEPT = 50
"""Messages and errors that are kept for people to look at."""
LOG_REST = 1.0
"""Seconds between two lines of the log about what came."""
HELD = 256
"""Bundles that wait for their time."""


@dataclass(frozen=True)
class Heard:
    """A message or an error, for people to look at."""

    when: float
    """Seconds since 1970."""
    sender: str
    """Its host."""
    address: str
    text: str
    code: int = 0
    """Of an error; 0 for a message."""


def networks(named: Iterable[str]) -> tuple[ipaddress.IPv4Network, ...]:
    """What --osc-allow names. Raises ServerStartFailed for what is no IPv4 network."""
    try:
        return tuple(ipaddress.IPv4Network(name, strict=False) for name in named)
    except ValueError as reason:
        raise ServerStartFailed(
            reason=f"--osc-allow {reason}", hint="Name a network like 192.168.1.0/24, or one machine like 10.0.0.7."
        ) from reason


def code_of(error: Exception) -> int:
    """An error's code in /error."""
    if isinstance(error, WrongType | BadPacket):
        return TYPE
    if isinstance(error, Clamped | BadParameter):
        return RANGE
    return BUSY if isinstance(error, QueueFull) else FAILED


class Osc:
    """One endpoint. `open`, then `run` until cancelled; both in the event loop."""

    def __init__(
        self,
        state: LiveState,
        status: Callable[[], LiveStatus],
        *,
        root: str = ROOT,
        reply_port: int = 9701,
        allow: Iterable[ipaddress.IPv4Network] = (),
        timetags: bool = False,
    ) -> None:
        self.state = state
        self.root = root
        self._status = status
        self._allow = tuple(allow)
        self._timetags = timetags
        self._inbox: Inbox | None = None
        self.echo = Echo(root, reply_port, self._send)
        self.messages: deque[Heard] = deque(maxlen=KEPT)
        self.errors: deque[Heard] = deque(maxlen=KEPT)
        self._handlers: dict[str, Callable[[Arrival, Listener, list[Argument]], None]] = {
            **{address.path: partial(self._parameters, address) for address in BY_PATH.values() if address.rows},
            **{address.path: partial(self._trigger, address.path) for address in ACTIONS},
            "osc/reply": self._reply,
            "osc/subscribe": self._subscribe,
            "sync": self._sync,
            "ping": self._ping,
        }
        self._alive = 0
        self._held = 0
        self._last = 0.0
        self._told_lost = 0
        self._said = ""
        self._wrong, self._address = False, ""
        """Of the message that is being handled: whether something was reported, and where it was sent."""
        self._log_due = 0.0
        state.listeners.append(self._changed)
        state.triggered.append(self._triggered)
        state.reports.append(self._clamped)

    @property
    def port(self) -> int:
        return self._inbox.port if self._inbox else 0

    # ------------------------------------------------------------ life

    def open(self, port: int) -> None:
        """Listen on UDP `port`: on this machine only, unless networks are allowed. Raises PortInUse."""
        loop = asyncio.get_running_loop()
        kinds = {f"{self.root}/{path}".encode(): _kind(address) for path, address in BY_PATH.items()}
        self._inbox = Inbox("0.0.0.0" if self._allow else "127.0.0.1", port, kinds, self.allowed)

        def call(work: Callable[..., None], *arguments: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(work, *arguments)

        later = partial(call, self._hold) if self._timetags else None
        self._inbox.start(partial(call, self._woken), later)

    async def run(self) -> None:
        """The heartbeat and the status, until cancelled."""
        next_alive = next_status = time.monotonic()
        failed = False
        while True:
            now = time.monotonic()
            if now >= next_alive:
                next_alive = max(next_alive + 1.0, now)
                self._alive += 1
                self.echo.changed("status/alive", float(self._alive))
                self._report_lost()
            if now >= next_status:
                next_status = max(next_status + 0.2, now)
                failed = not self._try_to_tell_status(failed)
            await asyncio.sleep(max(0.01, min(next_alive, next_status) - time.monotonic()))

    def close(self) -> None:
        self.echo.close()
        if self._inbox:
            self._inbox.close()
            self._inbox = None

    def allowed(self, host: str) -> bool:
        """Whether messages come from, and feedback goes to, this host: this machine, or an allowed network."""
        try:
            address = ipaddress.IPv4Address(host)
        except ValueError:
            return False
        return address.is_loopback or any(address in network for network in self._allow)

    def _send(self, packet: bytes, target: Sender) -> None:
        if self._inbox:
            # Nobody there, no route, or no room: feedback is best effort, and never holds the server up.
            with contextlib.suppress(OSError):
                self._inbox.sock.sendto(packet, getattr(socket, "MSG_DONTWAIT", 0), target)

    # ------------------------------------------------------------ in

    def _woken(self) -> None:
        wait = self._last + REST - time.monotonic()
        if wait > 0:
            asyncio.get_running_loop().call_later(wait, self._take)
        else:
            self._take()

    def _take(self) -> None:
        """Handle what waits, for a slice of time; then others have their turn."""
        until = time.monotonic() + SLICE
        while self._inbox and (arrival := self._inbox.pop()):
            self._handle(arrival)
            if time.monotonic() > until:
                asyncio.get_running_loop().call_later(SLICE, self._take)
                break
        self._last = time.monotonic()

    def _hold(self, wait: float, packet: bytes, sender: Sender) -> None:
        """A bundle that asks for its time."""
        if self._held >= HELD:
            self._error(self.echo.of(sender), sender, "#bundle", BUSY, "too many bundles wait for their time")
            return

        def now() -> None:
            self._held -= 1
            if self._inbox:
                self._inbox.put(packet, sender)

        self._held += 1
        asyncio.get_running_loop().call_later(wait, now)

    def _handle(self, arrival: Arrival) -> None:
        """One message. Whatever is wrong with it is its sender's trouble, and nobody else's."""
        listener, address, self._wrong = self.echo.of(arrival.sender), "", False
        try:
            if arrival.wrong:
                raise BadPacket(reason=arrival.wrong)
            address = arrival.message[:200].partition(b"\0")[0].decode("utf-8", "replace")
            address, arguments = parse(arrival.message)
            self._address = address
            self.messages.append(Heard(time.time(), arrival.sender[0], address[:LONGEST], _words(arguments)))
            self._dispatch(address, arrival, listener, arguments)
            if not self._wrong:  # not clamped, either
                self.echo.right(listener, address)
        except PaintoverError as error:
            self._error(listener, arrival.sender, address, code_of(error), error.message)
        except Exception as error:  # a bug here must not stop the show
            log.error("OSC %r could not be handled", address[:SHOWN], exc_info=error)
            self._error(listener, arrival.sender, address, FAILED, f"{type(error).__name__}: {error}")

    def _dispatch(self, address: str, arrival: Arrival, listener: Listener, arguments: list[Argument]) -> None:
        path = address.removeprefix(self.root + "/") if address.startswith(self.root + "/") else ""
        if handler := self._handlers.get(path):
            handler(arrival, listener, arguments)
            return
        found = matching(path, (known.path for known in PARAMETERS)) if any(sign in path for sign in "*?[{") else []
        if not found:
            self._error(listener, arrival.sender, address, UNKNOWN, f"There is no address {address[:SHOWN]}.")
        for one in found:
            try:
                self._handlers[one](arrival, listener, arguments)
            except PaintoverError as error:  # what does not fit one address may fit the next
                self._error(listener, arrival.sender, f"{self.root}/{one}", code_of(error), error.message)

    def _parameters(self, address: Address, arrival: Arrival, listener: Listener, arguments: list[Argument]) -> None:
        if not arguments or arguments == ["?"]:
            self.echo.answer(listener, address.path, *(self.state.values[row.name] for row in address.rows))
            return
        if len(arguments) != len(address.rows):
            raise WrongType(
                name=address.path, reason=f"it takes {len(address.rows)} value(s), and {len(arguments)} came"
            )
        for row, value in zip(address.rows, arguments, strict=True):
            try:
                self.state.set(row.name, value, origin=listener, now=arrival.when)
            except PaintoverError:
                self.echo.refused(listener, row.address, self.state.values[row.name])
                raise

    def _trigger(self, path: str, arrival: Arrival, listener: Listener, arguments: list[Argument]) -> None:
        numbers = tuple(one for one in arguments if isinstance(one, int | float) and math.isfinite(one))
        if len(numbers) != len(arguments):
            raise WrongType(name=path, reason="it takes numbers only")
        if _released(arguments):
            return
        self.state.trigger(path, numbers, origin=listener, now=arrival.when)
        self.echo.answer(listener, "ack", path, round(max(-LARGEST, min(numbers[0], LARGEST))) if numbers else 1)

    def _reply(self, arrival: Arrival, listener: Listener, arguments: list[Argument]) -> None:
        port, *rest = arguments or [""]
        if isinstance(port, str) or len(rest) > 1 or not all(isinstance(one, str) for one in rest):
            raise WrongType(name="osc/reply", reason="it takes a port, and then the IP address of a host")
        host = str(rest[0]) if rest and rest[0] != "localhost" else "127.0.0.1" if rest else arrival.sender[0]
        if not 1 <= port < 65536:
            raise BadParameter(name="osc/reply", reason="a port is a number from 1 to 65535")
        if not self.allowed(host):
            raise BadParameter(
                name="osc/reply", reason=f"{host[:SHOWN]} is no IP address of a network named by --osc-allow"
            )
        self.echo.answer(self.echo.reply(arrival.sender, (host, round(port))), "ack", "osc/reply", round(port))

    def _subscribe(self, arrival: Arrival, listener: Listener, arguments: list[Argument]) -> None:
        pattern, rate, *rest = [*arguments, "", ""][: max(2, len(arguments))]
        if not isinstance(pattern, str) or isinstance(rate, str) or rest or rate != rate:
            raise WrongType(name="osc/subscribe", reason="it takes a pattern and a rate in Hz")
        found = self.echo.subscribe(listener, pattern, rate)
        if not found:
            raise BadParameter(name="osc/subscribe", reason=f"{pattern[:SHOWN]!r} matches no address")
        self.echo.answer(listener, "ack", "osc/subscribe", len(found))
        self._send_values(listener, [one for one in PARAMETERS if one.path in found and rate > 0])

    def _sync(self, arrival: Arrival, listener: Listener, arguments: list[Argument]) -> None:
        if not _released(arguments):
            self._send_values(listener, PARAMETERS)
            self.echo.answer(listener, "status/text", self._said)

    def _ping(self, arrival: Arrival, listener: Listener, arguments: list[Argument]) -> None:
        number = arguments[0] if arguments else 0
        if isinstance(number, str) or not abs(number) <= LARGEST:
            raise WrongType(name="ping", reason="it takes a number of 32 bits")
        self.echo.answer(listener, "pong", number)

    def _send_values(self, listener: Listener, addresses: Iterable[Address]) -> None:
        values = self.state.values
        messages = [encode(f"{self.root}/{one.path}", values[one.rows[0].name]) for one in addresses]
        for bundle in bundles(messages):
            self._send(bundle, listener.target)

    # ------------------------------------------------------------ out

    def _changed(self, name: str, value: Value, origin: object) -> None:
        self.echo.changed(LIVE_BY_NAME[name].address, value, but=origin)

    def _triggered(self, path: str, arguments: tuple[float, ...], origin: object) -> None:
        if path != "tempo/tap":
            self.echo.changed("event/trigger", " ".join((path, *(f"{one:g}" for one in arguments))), but=origin)

    def _clamped(self, error: PaintoverError, name: str, origin: object) -> None:
        if isinstance(origin, Listener):
            self._error(origin, origin.target, self._address, code_of(error), error.message)

    def event(self, event: LiveTrouble | LiveEvent) -> None:
        """Something happened on the stage (Stage.on_event)."""
        if isinstance(event, LiveTrouble):
            text = f"{event.failure.message} {event.failure.hint}".strip()
            self.echo.changed("event/trouble", text)
            if event.address:
                for listener in self.echo.listeners:
                    self.echo.error(listener, f"{self.root}/{event.address}", FAILED, text)

    def painted(self, number: int) -> None:
        """A frame was painted (Stage.on_picture)."""
        self.echo.changed("frame", number)

    def _error(self, listener: Listener, sender: Sender, address: str, code: int, text: str) -> None:
        self._wrong = True
        text = text[:LONGEST]
        self.errors.append(Heard(time.time(), sender[0], address[:200], text, code))
        news, now = self.echo.error(listener, address[:200], code, text), time.monotonic()
        if news and now >= self._log_due:
            self._log_due = now + LOG_REST
            log.info("OSC from %s: %s: %s", sender[0], address[:SHOWN], text)

    def _report_lost(self) -> None:
        """Tell everybody what nobody could read in time."""
        if not self._inbox or (lost := self._inbox.lost + self._inbox.refused) == self._told_lost:
            return
        error = QueueFull(f"{lost - self._told_lost} OSC messages were lost: too many came at once.", hint="")
        self._told_lost = lost
        for listener in self.echo.listeners:
            self.echo.error(listener, self.root, BUSY, error.message, again=True)
        self.errors.append(Heard(time.time(), "", self.root, error.message, BUSY))

    def _try_to_tell_status(self, failed: bool) -> bool:
        """Whether it was told. `failed`: the last time it was not, which is in the log."""
        try:
            self._tell_status()
        except Exception as error:  # listeners have what they were told last, and hear that the server lives
            if not failed:
                log.error("The status cannot be told over OSC", exc_info=error)
            return False
        return True

    def _tell_status(self) -> None:
        status = self._status()
        for address in STATUS:
            name = address.path.removeprefix("status/")
            value = STATES.index(status.state) if name == "state" else float(getattr(status, name))
            self.echo.changed(address.path, value)
        if status.text != self._said:
            self._said = status.text
            self.echo.changed("status/text", status.text)


def _kind(address: Address) -> str:
    return SETS if address.rows else BARRIER if address.path.startswith("preset/") else OTHER


def _released(arguments: list[Argument]) -> bool:
    """A button that is let go of."""
    return bool(arguments) and not isinstance(arguments[0], str) and arguments[0] == 0


def _words(arguments: list[Argument]) -> str:
    return " ".join(f"{one:g}" if isinstance(one, float) else str(one)[:SHOWN] for one in arguments)
