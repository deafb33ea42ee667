"""OSCQuery: the tree of OSC addresses with types, ranges and values over HTTP, and changes over a WebSocket.

After the proposal at https://github.com/Vidvox/OSCQueryProposal. The web server mounts `get`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

from aiohttp import WSMsgType, web

from paintover.bridge import VERSION
from paintover.bridge.live import LIVE_BY_NAME
from paintover.bridge.live_messages import STATES, LiveStatus, Value
from paintover.bridge.parameters import Parameter

from .connections import parting
from .osc_addresses import ROOT, SENT, STATUS, TAKEN, WRITE, Address
from .osc_codec import encode
from .state import LiveState

PACE = 1 / 30
"""Seconds between two messages of changes to one WebSocket, at least."""
MOST = 64
"""WebSockets at a time."""
PATIENCE = 10.0
"""Seconds that one message may take to leave; a client that stops reading is let go of then."""
ATTRIBUTES = ("FULL_PATH", "CONTENTS", "TYPE", "ACCESS", "VALUE", "RANGE", "CLIPMODE", "DESCRIPTION", "UNIT")
_SENT_VALUES = {address.path: address for address in STATUS}


class OscQuery:
    """What one server answers. `osc_port` is where its OSC endpoint listens; 0 for none."""

    def __init__(
        self,
        state: LiveState,
        status: Callable[[], LiveStatus],
        *,
        root: str = ROOT,
        osc_port: Callable[[], int] = lambda: 0,
    ) -> None:
        self._state = state
        self._status = status
        self._root = root
        self._osc_port = osc_port
        self._addresses = {f"{root}/{address.path}": address for address in (*TAKEN, *SENT)}
        self._paths = {f"{root}/{LIVE_BY_NAME[name].address}": name for name in LIVE_BY_NAME}
        self._sockets: set[_Listening] = set()
        state.listeners.append(self._changed)

    # ------------------------------------------------------------ the tree

    def tree(self, path: str) -> dict[str, Any] | None:
        """The node at a path, with all that is below it; None where there is none."""
        path = "/" + path.strip("/")
        if address := self._addresses.get(path):
            return self._leaf(path, address, self._below(path))
        below = self._below(path)
        if not below:
            return None
        return {"FULL_PATH": path, "ACCESS": 0, "CONTENTS": below}

    def _below(self, path: str) -> dict[str, Any]:
        start = path.rstrip("/") + "/"
        names = dict.fromkeys(p[len(start) :].split("/")[0] for p in self._addresses if p.startswith(start))
        return {name: node for name in names if (node := self.tree(start + name))}

    def _leaf(self, path: str, address: Address, below: dict[str, Any]) -> dict[str, Any]:
        node: dict[str, Any] = {
            "FULL_PATH": path,
            "DESCRIPTION": address.description,
            "ACCESS": address.access,
            "TYPE": address.tags.partition("[")[0] or ("I" if address.access == WRITE else ""),
        }
        if address.rows:
            node["VALUE"] = [_plain(self._state.values[row.name]) for row in address.rows]
            node["RANGE"] = [_range(row) for row in address.rows]
            node["CLIPMODE"] = ["none" if row.type is str else "both" for row in address.rows]
            if units := [row.unit for row in address.rows if row.unit]:
                node["UNIT"] = units
        elif address.path in _SENT_VALUES:
            name = address.path.removeprefix("status/")
            status = self._status()
            node["VALUE"] = [STATES.index(status.state) if name == "state" else float(getattr(status, name))]
        if below:
            node["CONTENTS"] = below
        return node

    def host_info(self, port: int) -> dict[str, Any]:
        info: dict[str, Any] = {
            "NAME": f"Paintover {VERSION}",
            "EXTENSIONS": dict.fromkeys(ATTRIBUTES[2:], True) | {"LISTEN": True, "PATH_CHANGED": False},
            "OSC_TRANSPORT": "UDP",
            "WS_PORT": port,
        }
        return info | ({"OSC_PORT": self._osc_port()} if self._osc_port() else {})

    def answer(self, path: str, query: str, port: int) -> tuple[int, dict[str, Any] | None]:
        """HTTP status and JSON for GET `path`?`query`. `port` is the HTTP port itself."""
        if query == "HOST_INFO":
            return 200, self.host_info(port)
        node = self.tree(path)
        if node is None:
            return 404, None
        if not query:
            return 200, node
        if query not in ATTRIBUTES:
            return 400, None
        return (200, {query: node[query]}) if query in node else (204, None)

    # ------------------------------------------------------------ HTTP

    async def get(self, request: web.Request) -> web.StreamResponse:
        """A handler for GET of any path: JSON, or the WebSocket where the request asks for one."""
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._socket(request)
        port = int(request.transport.get_extra_info("sockname")[1]) if request.transport else 0
        status, body = self.answer(request.path, _asked(request), port)
        if body is None:
            return web.Response(status=status)
        return web.json_response(body)

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        if len(self._sockets) >= MOST:
            raise web.HTTPServiceUnavailable(text=f"{MOST} programs listen already.\n")
        with parting(request):
            return await self._listen(request)

    async def _listen(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(heartbeat=PATIENCE, max_msg_size=1 << 16)
        await socket.prepare(request)
        listening = _Listening(socket, request.transport)
        self._sockets.add(listening)
        sending = asyncio.ensure_future(listening.send())
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    self._command(listening, message.data)
        finally:
            self._sockets.discard(listening)
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sending
        return socket

    def _command(self, listening: _Listening, text: str) -> None:
        """LISTEN or IGNORE; anything else is left unanswered, as the proposal has it."""
        try:
            message = json.loads(text)
            command, path = message["COMMAND"], message["DATA"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return
        if not isinstance(path, str) or path not in self._paths:
            return
        if command == "LISTEN":
            listening.paths.add(path)
            listening.put(path, self._state.values[self._paths[path]])
        elif command == "IGNORE":
            listening.paths.discard(path)
            listening.waiting.pop(path, None)

    def _changed(self, name: str, value: Value, origin: object) -> None:
        path = f"{self._root}/{LIVE_BY_NAME[name].address}"
        for listening in self._sockets:
            if path in listening.paths:
                listening.put(path, value)


class _Listening:
    """One WebSocket, and what waits to be sent there: the newest value of each path."""

    def __init__(self, socket: web.WebSocketResponse, transport: asyncio.Transport | None) -> None:
        self.socket = socket
        self._transport = transport
        self.paths: set[str] = set()
        self.waiting: dict[str, Value] = {}
        self._more = asyncio.Event()

    def put(self, path: str, value: Value) -> None:
        self.waiting[path] = value
        self._more.set()

    async def send(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            waiting, self.waiting = self.waiting, {}
            try:
                async with asyncio.timeout(PATIENCE):
                    for path, value in waiting.items():
                        await self.socket.send_bytes(encode(path, value))
            except (TimeoutError, ConnectionError):
                if self._transport:
                    self._transport.abort()  # closing would wait for it to read
                return
            await asyncio.sleep(PACE)


def _asked(request: web.Request) -> str:
    """The attribute after “?”; the token is the guard's."""
    return next((name for name in request.query if name != "token"), "")


def _plain(value: Value) -> Value:
    return int(value) if isinstance(value, bool) else value


def _range(row: Parameter) -> dict[str, Any]:
    if row.type is str:
        return {}
    if row.type is bool:
        return {"MIN": 0, "MAX": 1}
    return {"VALS": list(row.choices)} if row.choices else {"MIN": row.minimum, "MAX": row.maximum}
