"""One monitor page as the server sees it: what it is still to be told, in a place of fixed size, and its frames.

Messages to the page are JSON objects; any of these keys may be there:
    hello     parameters, triggers, groups, states, models, version: once
    values    {name: value}, those that changed
    presets   [numbers that are stored]
    status    LiveStatus and the output's pace
    osc       {messages: […], errors: […]}: the newest, each [time, sender, address, text]
    lines     [[time, kind, about, text], …]: "error" or "event"
Binary messages are JPEG frames: one for each {"frame": true} that the page sends, the newest at that time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from aiohttp import WSCloseCode, web

from paintover.bridge import VERSION
from paintover.bridge.live import LIVE, TRIGGERS
from paintover.bridge.live_messages import STATES

from .jpeg import JpegSink
from .state import LiveState

PAUSE = 1 / 30
"""Seconds between two messages: what changes meanwhile goes together."""
ASKED = 2
"""Frames that a page may have asked for and not got."""
DEAF = 30.0
"""Seconds for which a page may take nothing."""


class PageClient:
    def __init__(self, socket: web.WebSocketResponse, jpeg: JpegSink) -> None:
        self._socket = socket
        self._jpeg = jpeg
        self._news: dict[str, Any] = {}
        self._values: dict[str, Any] = {}
        self._lines: deque[tuple[float, str, str, str]] = deque(maxlen=50)
        self._seen: tuple[Any, ...] = ()
        self._some = asyncio.Event()
        self._frames = asyncio.Semaphore(0)
        self._asked = 0

    # ------------------------------------------------------------ what it is told

    def hello(self, state: LiveState, models: list[str]) -> None:
        self._news["hello"] = {
            "version": VERSION,
            "parameters": [_described(row) for row in LIVE],
            "triggers": [asdict(trigger) for trigger in TRIGGERS],
            "states": STATES,
            "models": models,
        }
        self._values.update(state.values)
        self.presets(state)

    def value(self, name: str, value: Any) -> None:
        self._values[name] = value
        self._some.set()

    def presets(self, state: LiveState) -> None:
        self._news["presets"] = sorted(state.presets)
        self._some.set()

    def status(self, status: Mapping[str, Any]) -> None:
        self._news["status"] = status
        self._some.set()

    def heard(self, messages: Iterable[Any], errors: Iterable[Any]) -> None:
        """The newest OSC messages and errors."""
        both = tuple(messages), tuple(errors)
        if both != self._seen:
            self._seen = both
            kinds = zip(("messages", "errors"), both, strict=True)
            self._news["osc"] = {
                kind: [[one.when, one.sender, one.address, one.text] for one in entries] for kind, entries in kinds
            }
            self._some.set()

    def line(self, at: float, kind: str, about: str, text: str) -> None:
        self._lines.append((at, kind, about, text))
        self._some.set()

    def ask(self) -> None:
        """It is ready for a frame."""
        if self._asked < ASKED:
            self._asked += 1
            self._frames.release()

    async def close(self) -> None:
        """The server ends."""
        await self._socket.close(code=WSCloseCode.GOING_AWAY)

    # ------------------------------------------------------------ its task

    async def send(self) -> None:
        """Send until the page is gone."""
        frames = asyncio.create_task(self._send_frames())
        try:
            with contextlib.suppress(ConnectionError, TimeoutError):
                while True:
                    await self._some.wait()
                    self._some.clear()
                    await asyncio.wait_for(self._socket.send_str(json.dumps(self._told())), DEAF)
                    await asyncio.sleep(PAUSE)
        finally:
            frames.cancel()
            await asyncio.wait([frames])

    def _told(self) -> dict[str, Any]:
        news, values, lines = self._news, self._values, list(self._lines)
        self._news, self._values = {}, {}
        self._lines.clear()
        return news | ({"values": values} if values else {}) | ({"lines": lines} if lines else {})

    async def _send_frames(self) -> None:
        number = self._jpeg.number
        with contextlib.suppress(ConnectionError, TimeoutError):
            while True:
                await self._frames.acquire()
                shot = await self._jpeg.next(number)
                number = shot.number
                self._asked -= 1
                await asyncio.wait_for(self._socket.send_bytes(shot.data), DEAF)


def _described(row: Any) -> dict[str, Any]:
    return {
        "name": row.name, "type": row.type.__name__, "default": row.default, "label": row.label,
        "description": row.description, "group": row.group, "minimum": row.minimum, "maximum": row.maximum,
        "unit": row.unit, "step": row.step, "choices": row.choices, "address": row.address, "multiline": row.multiline,
    }  # fmt: skip
