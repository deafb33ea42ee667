"""An OSC endpoint in this process, and a peer that talks to it over real UDP."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from pythonosc.osc_packet import OscPacket

from paintover.bridge.live_messages import LiveStatus
from paintover.server.live.osc import Osc
from paintover.server.live.osc_codec import BUNDLE, encode
from paintover.server.live.state import LiveState

from ..waiting import eventually

Message = tuple[str, list[Any]]


class Peer:
    """An OSC program: sends, and hears what comes back to its own port."""

    def __init__(self, port: int) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.setblocking(False)
        self.port = self.sock.getsockname()[1]
        self.server = ("127.0.0.1", port)
        self.heard: list[Message] = []

    async def join(self) -> None:
        self.send("/paintover/osc/reply", self.port)
        await self.hears("/paintover/ack")

    def send(self, address: str, *arguments: Any) -> None:
        self.raw(encode(address, *arguments))

    def raw(self, packet: bytes) -> None:
        self.sock.sendto(packet, self.server)

    def listen(self) -> list[Message]:
        with contextlib.suppress(BlockingIOError):
            while True:
                packet = OscPacket(self.sock.recv(65536))
                self.heard += [(m.message.address, m.message.params) for m in packet.messages]
        return self.heard

    async def until(self, true: Callable[[list[Message]], bool]) -> list[Message]:
        await eventually(lambda: true(self.listen()), 20)
        return self.heard

    async def hears(self, address: str, *arguments: Any) -> list[Any]:
        """Wait for a message at an address, with these arguments if any are given. Returns its arguments."""

        def found() -> list[list[Any]]:
            same = [values for name, values in self.heard if name == address]
            return [v for v in same if not arguments or v == pytest.approx(list(arguments))]

        await self.until(lambda heard: bool(found()))
        return found()[-1]

    async def settled(self) -> list[Message]:
        """All that is heard until everything sent so far was handled."""
        number = time.monotonic_ns() % 2**31
        self.send("/paintover/ping", number)
        await self.hears("/paintover/pong", number)
        return self.heard

    def of(self, address: str) -> list[list[Any]]:
        return [values for name, values in self.listen() if name == address]


def bundle(*elements: bytes, stamp: int = 1) -> bytes:
    return BUNDLE + struct.pack(">Q", stamp) + b"".join(struct.pack(">i", len(e)) + e for e in elements)


@contextlib.asynccontextmanager
async def endpoint(
    state: LiveState | None = None, status: LiveStatus | None = None, **options: Any
) -> AsyncIterator[tuple[Osc, LiveState, Callable[[], Peer]]]:
    live = state or LiveState()
    osc = Osc(live, lambda: status or LiveStatus(), **{"reply_port": 0, **options})
    osc.open(0)
    peers: list[Peer] = []

    def peer() -> Peer:
        peers.append(Peer(osc.port))
        return peers[-1]

    running = asyncio.ensure_future(osc.run())
    try:
        yield osc, live, peer
    finally:
        running.cancel()
        osc.close()
        for one in peers:
            one.sock.close()
    assert not running.done() or running.cancelled()
