"""The OSC endpoint's socket: a thread that does nothing else reads it, so that the system's buffer stays empty.

Packets are taken apart at once, and of all that came for a parameter only the last is kept (latest wins), in the order
in which these last ones came. Whoever takes them, in the event loop, has little to do however many came.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import NamedTuple

from paintover.bridge.errors import PortInUse

from .osc_codec import MAX_PACKET, address_of, asks, due, split

log = logging.getLogger("paintover.live")

BUFFER = 16 << 20
"""Bytes asked of the system for packets that wait; Linux gives at most net.core.rmem_max."""
SMALLEST = 1 << 16
"""Bytes that are asked for at the least where the system refuses more."""
STRANGERS = 16
"""Messages that nobody knows that may wait: they are only reported."""
FURTHEST = 60.0
"""Seconds ahead that a bundle may ask to be held back."""
SETS, BARRIER, OTHER = "sets", "barrier", "other"
"""What an address is: of several values the last counts; the order around it counts; neither."""
_LIMITS: dict[str | None, int] = {SETS: 256, OTHER: 256, BARRIER: 64}
"""Messages besides parameters' values that may wait when one of this kind comes."""
# Not in the socket module.
SO_RXQ_OVFL, SO_RCVBUFFORCE = 40, 33

Sender = tuple[str, int]


class Arrival(NamedTuple):
    message: bytes
    sender: Sender
    when: float
    """time.monotonic()"""
    wrong: str = ""
    """What is wrong with the rest of the packet; `message` is empty then."""


class Inbox:
    """Bound to a port when made. Raises PortInUse."""

    def __init__(self, host: str, port: int, kinds: Mapping[bytes, str], allowed: Callable[[str], bool]) -> None:
        """`kinds` names those addresses that are known. `allowed` says whether a host may send."""
        self._kinds = kinds
        self._allowed = allowed
        self._hosts: dict[str, bool] = {}
        self._waiting: OrderedDict[object, Arrival] = OrderedDict()
        self._others = self._number = self._epoch = 0
        self._lock = threading.Lock()
        self._awake = False
        self._closing = False
        self._wake: Callable[[], None] = lambda: None
        self._later: Callable[[float, bytes, Sender], None] | None = None
        self.lost = 0
        """Packets that the system had no room for."""
        self.refused = 0
        """Messages that there was no room for here."""
        self.sock = _bound(host, port)
        self.port: int = self.sock.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name="paintover-osc", daemon=True)

    def start(self, wake: Callable[[], None], later: Callable[[float, bytes, Sender], None] | None = None) -> None:
        """Read from now on. `wake` is called, in the reading thread, when something waits that did not before.

        With `later`, a bundle that asks for a time to come is given to it instead, with the seconds until then.
        """
        self._wake, self._later = wake, later
        self._thread.start()

    def close(self) -> None:
        self._closing = True
        host = self.sock.getsockname()[0]
        with contextlib.suppress(OSError):  # wakes the thread, portably
            self.sock.sendto(b"", ("127.0.0.1" if host == "0.0.0.0" else host, self.port))
        if self._thread.is_alive():
            self._thread.join(2)
        self.sock.close()

    def pop(self) -> Arrival | None:
        """What came first of all that waits. After None, `wake` is called for the next."""
        with self._lock:
            if not self._waiting:
                self._awake = False
                return None
            key, arrival = self._waiting.popitem(last=False)
            if isinstance(key, int):
                self._others -= 1
            return arrival

    def put(self, packet: bytes, sender: Sender) -> None:
        """Take a packet apart and keep what counts of it."""
        messages, wrong = split(packet)
        when = time.monotonic()
        with self._lock:
            for message in messages:
                self._keep(message, sender, when)
            if wrong:
                self._keep_other(Arrival(b"", sender, when, wrong), STRANGERS)
            wake = not self._awake and bool(self._waiting)
            self._awake = self._awake or wake
        if wake:
            self._wake()

    def _keep(self, message: bytes, sender: Sender, when: float) -> None:
        address = address_of(message)
        kind = self._kinds.get(address)
        arrival = Arrival(message, sender, when)
        if kind is SETS and not asks(message, address):
            key = (self._epoch, address)
            self._waiting[key] = arrival
            self._waiting.move_to_end(key)
            return
        if self._keep_other(arrival, _LIMITS.get(kind, STRANGERS)) and kind is BARRIER:
            self._epoch += 1

    def _keep_other(self, arrival: Arrival, limit: int) -> bool:
        if self._others >= limit:
            self.refused += 1
            return False
        self._others += 1
        self._number += 1
        self._waiting[self._number] = arrival
        return True

    # ------------------------------------------------------------ the thread

    def _run(self) -> None:
        buffer = bytearray(MAX_PACKET + 1)
        view, sock = memoryview(buffer), self.sock
        ancillary = socket.CMSG_SPACE(4) if sys.platform == "linux" else 0
        while not self._closing:
            try:
                if ancillary:
                    size, notes, _, sender = sock.recvmsg_into([view], ancillary)
                    if notes:
                        self.lost = int.from_bytes(notes[0][2], sys.byteorder)
                else:
                    size, sender = sock.recvfrom_into(view)
            except OSError:
                # Windows reports here that nobody took an answer; only a closed socket ends the thread.
                if self.sock.fileno() < 0:
                    return
                continue
            if self._closing:
                return
            try:
                if self._may(sender[0]):
                    self._take(bytes(view[:size]), (sender[0], sender[1]))
            except Exception as error:  # no memory, or a bug: this packet is lost, and the next one is read
                if not self.refused:
                    log.error("A packet could not be taken", exc_info=error)
                self.refused += 1

    def _take(self, packet: bytes, sender: Sender) -> None:
        if self._later and (at := due(packet)):
            wait = at - time.time()
            if 0.0 < wait <= FURTHEST:
                self._later(wait, packet, sender)
                return
        self.put(packet, sender)

    def _may(self, host: str) -> bool:
        known = self._hosts.get(host)
        if known is None:
            if len(self._hosts) > 1000:
                self._hosts.clear()
            known = self._hosts[host] = self._allowed(host)
        return known


def _bound(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        if sys.platform == "win32":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        _ask_for(sock, socket.SO_RCVBUF, BUFFER)
        # macOS sends no packet that is larger than this buffer, and it has 9 KB by default: too little for a prompt.
        _ask_for(sock, socket.SO_SNDBUF, 2 * MAX_PACKET)
        if sys.platform == "linux":
            sock.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
            with contextlib.suppress(PermissionError):
                sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        sock.bind((host, port))
    except OSError as reason:
        sock.close()
        if reason.errno == errno.EADDRINUSE:
            raise PortInUse(host=host, port=port, hint="Choose another port with --osc-port.") from reason
        raise
    return sock


def _ask_for(sock: socket.socket, which: int, size: int) -> None:
    """A buffer of that size, or the largest that there is: macOS refuses more than kern.ipc.maxsockbuf, mostly 8 MB,
    where other systems give as much as they have (firezone/firezone#13648)."""
    while size >= SMALLEST:
        try:
            sock.setsockopt(socket.SOL_SOCKET, which, size)
        except OSError:
            size //= 2
        else:
            return
