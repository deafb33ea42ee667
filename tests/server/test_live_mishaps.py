"""A thread or a task of the live part that meets what it cannot handle goes on with what comes next."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from paintover.bridge.errors import NotStored, PaintoverError
from paintover.bridge.frames import FrameWriter
from paintover.bridge.live_messages import LiveStatus
from paintover.bridge.scene import Passes
from paintover.server.live import outside
from paintover.server.live.outside import Outside
from paintover.server.live.state import LiveState
from paintover.server.live.store import Store

from ..waiting import eventually, wait_until
from .osc_peer import endpoint
from .test_live_outside import name_of_its_own
from .test_live_web import Page, part, pixel
from .web_server import serving


async def test_a_picture_that_cannot_be_encoded_costs_no_later_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with serving() as server:
        async with aiohttp.ClientSession() as http, http.get(f"{server.url}/stream.mjpg") as viewer:
            await part(viewer.content)

            def broken(image: np.ndarray) -> bytes:
                raise MemoryError("no room for a JPEG")

            with monkeypatch.context() as change:
                change.setattr("paintover.server.live.jpeg.encoded", broken)
                server.stage.paint(1, 200, 1)
                await asyncio.to_thread(wait_until, lambda: "no room for a JPEG" in caplog.text, 30)
            async with asyncio.timeout(30):
                while not np.allclose(pixel(await part(viewer.content)), (1, 200, 1), atol=6):
                    pass


async def test_a_status_that_cannot_be_told_costs_no_later_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise RuntimeError("no status today")

    with serving() as server:
        async with aiohttp.ClientSession() as http, http.ws_connect(f"{server.url}/ws") as socket_:
            page = Page(socket_)
            with monkeypatch.context() as change:
                change.setattr(server.web._sources, "status", broken)
                await asyncio.to_thread(wait_until, lambda: "no status today" in caplog.text, 30)
            while (await page.hear("status"))["text"] != "for a test":
                pass


async def test_a_frame_that_cannot_be_taken_costs_no_later_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    name = name_of_its_own()
    writer = FrameWriter(name, 1 << 16)
    heard: asyncio.Queue[np.ndarray | Passes] = asyncio.Queue()
    taken = outside.taken

    def broken_once(image: np.ndarray) -> np.ndarray | Passes:
        if image.max() == 13:
            raise MemoryError("no room for it")
        return taken(image)

    monkeypatch.setattr(outside, "taken", broken_once)
    reading = Outside([name], heard.put_nowait)
    reading.start()
    try:
        writer.write(np.full((8, 16, 3), 13, np.uint8), 0.0)
        await asyncio.to_thread(wait_until, lambda: "no room for it" in caplog.text, 30)
        writer.write(np.full((8, 16, 3), 14, np.uint8), 0.0)
        frame = await asyncio.wait_for(heard.get(), 30)
        assert isinstance(frame, np.ndarray)
        assert (frame == 14).all()
    finally:
        reading.close()
        writer.close()


async def test_a_packet_that_cannot_be_taken_costs_no_later_one(caplog: pytest.LogCaptureFixture) -> None:
    async with endpoint() as (osc, live, peer):
        one, inbox = peer(), osc._inbox
        await one.join()
        assert inbox is not None

        def broken(packet: bytes, sender: tuple[str, int]) -> None:
            inbox.put = put  # type: ignore[method-assign]
            raise MemoryError("no room for a packet")

        put, inbox.put = inbox.put, broken  # type: ignore[method-assign]
        one.send("/paintover/strength", 0.25)
        await eventually(lambda: "no room for a packet" in caplog.text)
        one.send("/paintover/strength", 0.5)
        await eventually(lambda: live.values["strength"] == 0.5)
        about, code, _ = await one.hears("/paintover/error")
        assert (about, code) == ("/paintover", 4), "its sender hears that something was lost"


async def test_a_status_that_cannot_be_told_over_osc_costs_no_later_one(caplog: pytest.LogCaptureFixture) -> None:
    async with endpoint() as (osc, _, peer):
        one, status = peer(), osc._status
        await one.join()

        def broken() -> LiveStatus:
            osc._status = status
            raise RuntimeError("no status today")

        await one.hears("/paintover/status/fps")
        osc._status = broken
        await eventually(lambda: "no status today" in caplog.text)
        alive, told = len(one.of("/paintover/status/alive")), len(one.of("/paintover/status/fps"))
        await one.until(lambda heard: len(one.of("/paintover/status/alive")) > alive)
        await one.until(lambda heard: len(one.of("/paintover/status/fps")) > told)


async def test_what_cannot_be_kept_for_any_reason_is_tried_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, live = tmp_path / "live.json", LiveState()
    troubles: list[PaintoverError] = []

    async def broken(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    keeping = asyncio.ensure_future(Store(path, live).keep(troubles.append))
    try:
        with monkeypatch.context() as change:
            change.setattr("paintover.server.live.store.asyncio.to_thread", broken)
            await eventually(lambda: bool(troubles))
        live.set("prompt", "moss", origin=None, now=0)
        await eventually(lambda: path.exists() and "moss" in path.read_text(encoding="utf-8"))
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])
    (trouble,) = troubles
    assert isinstance(trouble, NotStored)
    assert "can't start new thread" in trouble.message
