"""Feedback over OSC: who hears what, how often, and what was wrong with what they sent."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from .osc_addresses import FAILED, PARAMETERS, RANGE, SENT, STATUS, TYPE
from .osc_codec import MAX_PACKET, Argument, encode, matching
from .osc_socket import Sender

FASTEST = 30.0
"""Hz at most for one address to one listener."""
REST = 0.004
"""Seconds between two looks at what waits to be sent, at least."""
BURST = 128
"""Messages in one such look at most: values that change all at once, for many listeners, go out in several."""
ERROR_REST = 0.5
"""Seconds between two error reports to one listener."""
MOST = 64
"""Listeners, and errors of one that wait."""
SENDERS = 256
RATES: dict[str, float] = (
    dict.fromkeys((address.path for address in (*PARAMETERS, *SENT)), FASTEST)
    | dict.fromkeys((address.path for address in STATUS), 5.0)
    | {"frame": 0.0}
)
"""How often a listener that has not subscribed otherwise hears an address, in Hz at most."""


class Listener:
    """Who hears what comes back: a host and its port."""

    def __init__(self, target: Sender) -> None:
        self.target = target
        self.rates: dict[str, float] = {}
        self.waiting: OrderedDict[str, tuple[Argument, ...]] = OrderedDict()
        self.due: dict[str, float] = {}
        self.errors: deque[tuple[str, int, str]] = deque(maxlen=MOST)
        self.error_due = 0.0
        self.reported: OrderedDict[tuple[str, int], None] = OrderedDict()
        """Addresses and codes of errors that it knows of."""

    def rate(self, path: str) -> float:
        return self.rates.get(path, RATES.get(path, 0.0))

    def __repr__(self) -> str:
        return "OSC {}:{}".format(*self.target)


class Echo:
    """All listeners of an endpoint. Belongs to the event loop."""

    def __init__(self, root: str, reply_port: int, send: Callable[[bytes, Sender], None]) -> None:
        """`reply_port` is where a sender is answered that has not named another; 0: nowhere, until it names one."""
        self.root = root
        self._reply_port = reply_port
        self._send = send
        self._listeners: OrderedDict[Sender, Listener] = OrderedDict()
        self._replies: OrderedDict[Sender, Sender] = OrderedDict()
        self._of_host: OrderedDict[str, Sender] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        self._next = self._looked = 0.0
        self._turn = 0
        if reply_port:
            self._listener(("127.0.0.1", reply_port))  # hears of the stage before it has said anything

    @property
    def listeners(self) -> list[Listener]:
        return list(self._listeners.values())

    # ------------------------------------------------------------ who

    def of(self, sender: Sender) -> Listener:
        """Where what comes back for this sender goes."""
        target = self._replies.get(sender) or self._of_host.get(sender[0]) or (sender[0], self._reply_port)
        return self._listener(target)

    def reply(self, sender: Sender, target: Sender) -> Listener:
        """From now on, it goes there; where it went before, changes are still told: a program may listen at two ports.

        A sender whose port changes is known by its host.
        """
        for known, key in ((self._replies, sender), (self._of_host, sender[0])):
            known[key] = target  # type: ignore[index]  # each has keys of its own type
            known.move_to_end(key)  # type: ignore[arg-type]
            if len(known) > SENDERS:
                known.popitem(last=False)
        return self._listener(target)

    def _listener(self, target: Sender) -> Listener:
        found = self._listeners.get(target)
        if found is None:
            found = Listener(target)
            if target[1]:
                self._listeners[target] = found
                if len(self._listeners) > MOST:
                    self._listeners.popitem(last=False)
        else:
            self._listeners.move_to_end(target)
        return found

    def subscribe(self, listener: Listener, pattern: str, rate: float) -> list[str]:
        """Let a listener hear the addresses that match so often, in Hz. Returns which they are, below the root."""
        below = pattern.removeprefix(self.root + "/") if pattern.startswith("/") else pattern
        found = matching(below, RATES)
        for path in found:
            listener.rates[path] = min(max(rate, 0.0), FASTEST)
            listener.due.pop(path, None)  # the new rate counts from now on, however slow the old one was
        return found

    # ------------------------------------------------------------ what

    def changed(self, path: str, *arguments: Argument, but: object = None) -> None:
        """Tell all listeners `but` one a new value, as soon as their rate allows. A newer one takes its place."""
        for listener in self._listeners.values():
            if listener is but:
                listener.waiting.pop(path, None)  # an older value would undo what it has just set
            elif listener.rate(path) > 0:
                listener.waiting[path] = arguments
        self._soon()

    def refused(self, listener: Listener, path: str, *arguments: Argument) -> None:
        """Tell one listener the value that stays, as soon as its rate allows: its fader or switch shows another."""
        listener.waiting[path] = arguments  # of what it does not want to hear, nothing is sent
        self._soon()

    def answer(self, listener: Listener, path: str, *arguments: Argument) -> None:
        """Tell one listener something at once."""
        self._send(encode(f"{self.root}/{path}", *arguments), listener.target)

    def error(self, listener: Listener, path: str, code: int, text: str, *, again: bool = False) -> bool:
        """Tell a listener what is wrong: once for an address and code, until it is right again, or `again`."""
        key = (path, code)
        if key in listener.reported and not again:
            return False
        listener.reported[key] = None
        if len(listener.reported) > 1000:
            listener.reported.popitem(last=False)
        listener.errors.append((path, code, text))
        self._soon()
        return True

    def right(self, listener: Listener, path: str) -> None:
        """What came for an address was right: the next error there is news again."""
        if listener.reported:
            for code in (TYPE, RANGE, FAILED):
                listener.reported.pop((path, code), None)

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._listeners.clear()

    # ------------------------------------------------------------ when

    def _soon(self) -> None:
        self._look(time.monotonic())

    def _look(self, when: float) -> None:
        """Look at what waits at that time, or before if that was already arranged."""
        when = max(when, self._looked + REST)
        if self._timer:
            if self._next <= when:
                return
            self._timer.cancel()
        self._next = when
        self._timer = asyncio.get_running_loop().call_later(max(0.0, when - time.monotonic()), self._flush)

    def _flush(self) -> None:
        """Send what is due, and come back for the rest."""
        self._timer, self._looked = None, (now := time.monotonic())
        again, left = math.inf, BURST
        built: dict[tuple[str, tuple[Argument, ...]], bytes] = {}
        for listener in self._in_turn():
            for path in list(listener.waiting):
                if (rate := listener.rate(path)) <= 0:
                    listener.waiting.pop(path)
                elif (due := listener.due.get(path, 0.0)) > now:
                    again = min(again, due)
                elif left <= 0:
                    again = now
                    break
                else:
                    left -= 1
                    listener.due[path] = now + 1 / rate
                    key = (path, listener.waiting.pop(path))
                    if key not in built:
                        built[key] = encode(f"{self.root}/{path}", *key[1])
                    if len(built[key]) <= MAX_PACKET:
                        self._send(built[key], listener.target)
            if listener.errors and listener.error_due <= now:
                self.answer(listener, "error", *listener.errors.popleft())
                listener.error_due = now + ERROR_REST
            if listener.errors:
                again = min(again, listener.error_due)
        if again < math.inf:
            self._look(again)

    def _in_turn(self) -> list[Listener]:
        """All listeners, each time beginning with another one."""
        found = list(self._listeners.values())
        self._turn = (self._turn + 1) % max(1, len(found))
        return found[self._turn :] + found[: self._turn]
