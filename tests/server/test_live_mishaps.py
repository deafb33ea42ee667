"""A thread or a task of the live part that meets what it cannot handle goes on with what comes next."""

from __future__ import annotations

import asyncio

import aiohttp
import numpy as np
import pytest

from paintover.bridge.frames import FrameWriter
from paintover.bridge.scene import Passes
from paintover.server.live import outside
from paintover.server.live.outside import Outside

from ..waiting import wait_until
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
