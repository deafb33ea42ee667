"""The HTTP port's connections: no more than a fixed number, and an end for those whose other end does nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from aiohttp import web

MOST = 256
"""Connections at a time, about. Each takes a file descriptor, of which the system gives a process few."""
IDLE = 30.0
"""Seconds for which a connection may ask for nothing."""
PARTING = 2.0
"""Seconds that the other end has to take what is left for it."""


class Site(web.TCPSite):
    """Beyond MOST connections the oldest one goes that has asked for nothing yet, so that a flood of them keeps nobody
    out; without any of those, the newcomer."""

    def __init__(self, runner: web.AppRunner, host: str, port: int) -> None:
        super().__init__(runner, host, port)
        self._known: set[web.RequestHandler] = set()
        """Connections that have asked for something."""

    async def start(self) -> None:
        make = self._runner.server
        assert make is not None

        def accept() -> asyncio.Protocol:
            there = make.connections
            self._known.intersection_update(there)
            there = [one for one in there if one.transport and not one.transport.is_closing()]
            strangers = [one for one in there if one not in self._known]
            for stranger, _ in zip(strangers, range(len(there) + 1 - MOST), strict=False):
                assert stranger.transport is not None
                stranger.transport.abort()
            return _Closed() if len(there) >= MOST and not strangers else make()

        await web.BaseSite.start(self)
        self._server = await asyncio.get_running_loop().create_server(accept, self._host, self._port)

    def known(self, request: web.BaseRequest) -> None:
        """Its connection has asked for something."""
        self._known.add(request.protocol)


class _Closed(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


@contextlib.contextmanager
def parting(request: web.Request) -> Iterator[None]:
    """Have the connection gone soon after a stream on it is over, whether its other end reads or not: what is still to
    be sent to one that does not would keep it for ever."""
    transport = request.transport
    try:
        yield
    finally:
        if transport is not None:
            asyncio.get_running_loop().call_later(PARTING, transport.abort)
