"""The HTTP port: streams, snapshot, the page's WebSocket, and who may not use it. ffmpeg reads the stream, too."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import numpy as np
import pytest
from PIL import Image

from paintover.bridge.errors import PortInUse
from paintover.bridge.live import LIVE

from ..waiting import wait_until
from .web_server import TOKEN, WebServer, serving


@pytest.fixture(scope="module")
def server() -> Iterator[WebServer]:
    with serving() as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def pixel(jpeg: bytes) -> tuple[int, ...]:
    with Image.open(io.BytesIO(jpeg)) as image:
        return tuple(np.asarray(image)[5, 5].tolist())


async def part(stream: aiohttp.StreamReader) -> bytes:
    """The next JPEG of an MJPEG stream."""
    head = await stream.readuntil(b"\r\n\r\n")
    length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
    return await stream.readexactly(length)


# ---------------------------------------------------------------- frames


async def test_a_browser_reads_the_page_and_its_files(server: WebServer, http: aiohttp.ClientSession) -> None:
    async with http.get(server.url, headers={"Accept": "text/html"}) as answer:
        page = await answer.text()
        assert answer.status == 200
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    for name in ("style.css", "app.js", "controls.js", "link.js", "presets.js", "graph.js", "icon.svg", "view.html"):
        async with http.get(f"{server.url}/{name}") as answer:
            assert answer.status == 200, name
            assert answer.content_type.split("/")[0] in ("text", "image", "application")
    assert 'src="app.js"' in page
    assert "http://" not in page.replace('xmlns="http://', "")
    for name in ("nothing.js", "../web.py", "%2e%2e/web.py", "page", "web.py"):
        async with http.get(f"{server.url}/{name}") as answer:
            assert answer.status == 404, name


async def test_the_stream_shows_the_newest_frame_to_several_viewers(
    server: WebServer, http: aiohttp.ClientSession
) -> None:
    server.stage.paint(200, 0, 0)
    async with http.get(f"{server.url}/stream.mjpg") as one, http.get(f"{server.url}/stream.mjpg") as two:
        assert one.headers["Content-Type"].startswith("multipart/x-mixed-replace; boundary=")
        for colour in ((0, 200, 0), (0, 0, 200), (200, 200, 0)):
            server.stage.paint(*colour)
            for viewer in (one, two):
                for _ in range(200):
                    if np.allclose(pixel(await part(viewer.content)), colour, atol=6):
                        break
                else:
                    pytest.fail(f"{colour} never came")


async def test_nothing_is_encoded_while_nobody_looks(server: WebServer, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{server.url}/stream.mjpg") as viewer:
        await part(viewer.content)
    await asyncio.to_thread(wait_until, lambda: not server.web._viewers)
    number = server.jpeg.number
    for value in range(6):
        server.stage.paint(value, 2, 3)
        count = server.output._number
        await asyncio.to_thread(wait_until, lambda count=count: server.output._number > count + 1)
    # What the last viewer had asked for may still come; nobody asks for more.
    assert server.jpeg.number <= number + 1


async def test_a_viewer_that_does_not_read_holds_nobody_up(server: WebServer, http: aiohttp.ClientSession) -> None:
    noise = np.random.default_rng(0)
    with socket.create_connection(("127.0.0.1", server.port)) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        async with http.get(f"{server.url}/stream.mjpg") as viewer:
            for _ in range(60):
                server.stage.show(noise.integers(0, 255, (256, 256, 3), np.uint8))
                assert len(await part(viewer.content)) > 10_000


async def test_the_snapshot_is_exact_and_says_what_it_was_painted_from(
    server: WebServer, http: aiohttp.ClientSession
) -> None:
    server.stage.paint(11, 22, 33)
    server.set("prompt", "rusty tin")
    await asyncio.to_thread(wait_until, lambda: tuple(server.output.image[0, 0]) == (11, 22, 33))
    async with http.get(f"{server.url}/snapshot.png") as answer:
        data = await answer.read()
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "PNG"
        assert image.info["prompt"] == "rusty tin"  # type: ignore[attr-defined,unused-ignore]
        assert tuple(np.asarray(image)[0, 0]) == (11, 22, 33)


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed")
async def test_ffmpeg_reads_the_stream(server: WebServer, tmp_path: Any) -> None:
    """Thirty frames, decoded by ffmpeg, the last of which has the colours that went in."""
    left, right = (220, 40, 40), (40, 60, 210)
    image = np.full((240, 320, 3), left, np.uint8)
    image[:, 160:] = right
    server.stage.show(image)
    frames = tmp_path / "frame-%02d.png"
    command = [
        "ffmpeg", "-hide_banner", "-loglevel", "error", "-y", "-f", "mpjpeg", "-i", f"{server.url}/stream.mjpg",
        "-frames:v", "30", "-fps_mode", "passthrough", str(frames),
    ]  # fmt: skip
    process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE)
    changing = asyncio.create_task(keep_painting(server, image))
    try:
        _, said = await asyncio.wait_for(process.communicate(), 120)
    finally:
        changing.cancel()
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, said.decode()
    read = sorted(tmp_path.glob("frame-*.png"))
    assert len(read) == 30
    with Image.open(read[-1]) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert pixels.shape == (240, 320, 3)
    assert np.abs(pixels[20:220, 10:150] - left).max() <= 8
    assert np.abs(pixels[20:220, 170:310] - right).max() <= 8


async def keep_painting(server: WebServer, image: np.ndarray) -> None:
    """A new picture object at each turn, as a worker that paints gives them."""
    while True:
        server.stage.show(image.copy())
        await asyncio.sleep(0.01)


# ---------------------------------------------------------------- the page's WebSocket


class Page:
    """The page's side of the WebSocket."""

    def __init__(self, socket_: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket_
        self.frames: list[bytes] = []

    async def hear(self, key: str) -> Any:
        """What comes next under this key."""
        async with asyncio.timeout(30):
            while True:
                message = await self.socket.receive()
                if message.type is aiohttp.WSMsgType.BINARY:
                    self.frames.append(message.data)
                    if key == "frame":
                        return message.data
                elif message.type is aiohttp.WSMsgType.TEXT:
                    if key in (told := json.loads(message.data)):
                        return told[key]
                else:
                    pytest.fail(f"the socket ended: {message}")

    async def value(self, name: str) -> Any:
        while name not in (values := await self.hear("values")):
            pass
        return values[name]


@pytest.fixture
async def page(server: WebServer, http: aiohttp.ClientSession) -> AsyncIterator[Page]:
    async with http.ws_connect(f"{server.url}/ws") as socket_:
        yield Page(socket_)


async def test_a_page_is_told_the_table_all_values_and_presets(server: WebServer, page: Page) -> None:
    first = json.loads((await page.socket.receive()).data)
    assert [row["name"] for row in first["hello"]["parameters"]] == [row.name for row in LIVE]
    assert first["values"] == server.state.values
    assert first["hello"]["models"] == ["mini", "mini-turbo"]
    assert first["presets"] == sorted(server.state.presets)
    status = await page.hear("status")
    assert status["state"] == "running"
    assert status["fps"] == 24.0
    assert 0 < status["pace"]["fps"] < 40
    assert {"jitter_ms", "largest_gap", "frame_age_ms"} <= set(status["pace"])


async def test_a_page_sets_values_and_hears_what_others_set(
    server: WebServer, page: Page, http: aiohttp.ClientSession
) -> None:
    async with http.ws_connect(f"{server.url}/ws") as socket_:
        other = Page(socket_)
        await page.hear("hello")
        await other.hear("hello")
        await page.socket.send_json({"set": {"guidance": 7.5, "prompt": "slate"}})
        assert await other.value("guidance") == 7.5
        assert server.state.values["prompt"] == "slate"
        await other.socket.send_json({"set": {"guidance": 99}})
        assert await page.value("guidance") == 30.0
        assert await other.value("guidance") == 30.0, "what it sent was not what it got"


async def test_what_is_wrong_is_said_and_costs_nothing(server: WebServer, page: Page) -> None:
    await page.hear("hello")
    for bad, word in (
        ("no json", "JSON"),
        ("[1]", "JSON object"),
        (json.dumps({"set": {"nothing": 1}}), "no such live parameter"),
        (json.dumps({"set": {"guidance": "much"}}), "not a number"),
        (json.dumps({"set": {"guidance": float("nan")}}), "not a finite number"),
        (json.dumps({"set": {f"nothing {number}": 1 for number in range(20_000)}}), "20,000 values"),
        (json.dumps({"trigger": "explode"}), "no such trigger"),
        (json.dumps({"trigger": "reset", "arguments": ["x"]}), "number"),
        (json.dumps({"trigger": "preset/recall", "arguments": [77]}), "empty"),
        (json.dumps({"trigger": "preset/recall", "arguments": ["x"]}), "number"),
    ):
        await page.socket.send_str(bad)
        lines = await page.hear("lines")
        assert word in lines[0][3], bad
        assert lines[0][1] == "error"
    for odd in ("{}", json.dumps({"set": 3, "trigger": 4, "frame": 0}), json.dumps({"set": {"seed": -1}})):
        await page.socket.send_str(odd)
    assert await page.value("seed") == server.state.values["seed"] >= 0


@pytest.mark.parametrize(
    ("text", "about"),
    [
        ("[" * 100_000, ""),
        ('{"set": {"steps": %s}}' % ("9" * 400), "steps"),
        ('{"set": {"steps": %s}}' % ("[" * 300 + "]" * 300), "steps"),
        ('{"trigger": "preset/recall", "arguments": [%s]}' % ("9" * 400), "preset/recall"),
        ('{"trigger": "preset/recall", "arguments": [{}]}', "preset/recall"),
    ],
)
async def test_json_that_is_too_much_is_said_and_costs_nothing(
    server: WebServer, page: Page, text: str, about: str
) -> None:
    await page.hear("hello")
    await page.socket.send_str(text)
    assert [line[2] for line in await page.hear("lines")] == [about]
    await page.socket.send_json({"set": {"guidance": 99}})
    assert await page.value("guidance") == 30.0


async def test_presets_are_stored_and_recalled(server: WebServer, page: Page) -> None:
    await page.hear("hello")
    await page.socket.send_json({"set": {"strength": 0.25}})
    await page.socket.send_json({"trigger": "preset/store", "arguments": [100]})
    assert 100 in await page.hear("presets")
    await page.socket.send_json({"set": {"strength": 0.75}})
    await page.socket.send_json({"trigger": "preset/recall", "arguments": [100]})
    assert await page.value("strength") == 0.25


async def test_frames_come_one_for_each_that_is_asked_for(server: WebServer, page: Page) -> None:
    await page.hear("hello")
    server.stage.paint(0, 180, 0)
    await page.hear("status")
    await page.hear("status")
    assert not page.frames, "nothing was asked for"
    for _ in range(3):
        await page.socket.send_json({"frame": True})
        assert np.allclose(pixel(await page.hear("frame")), (0, 180, 0), atol=6)
    await page.hear("status")
    await page.hear("status")
    assert len(page.frames) == 3


async def test_osc_messages_and_errors_are_shown(http: aiohttp.ClientSession) -> None:
    from types import SimpleNamespace

    heard = [SimpleNamespace(when=1.0, sender="10.0.0.2", address="/paintover/seed", text="5")]
    wrong = [SimpleNamespace(when=2.0, sender="10.0.0.2", address="/paintover/sed", text="There is no address")]
    with serving(heard=lambda: (heard, wrong)) as server:
        async with http.ws_connect(f"{server.url}/ws") as socket_:
            told = await Page(socket_).hear("osc")
        assert told == {
            "messages": [[1.0, "10.0.0.2", "/paintover/seed", "5"]],
            "errors": [[2.0, "10.0.0.2", "/paintover/sed", "There is no address"]],
        }


async def test_a_page_that_does_not_read_takes_no_memory_and_nobody_waits(
    server: WebServer, page: Page, http: aiohttp.ClientSession
) -> None:
    """A WebSocket whose other end never reads: values go on for others, and what waits for it stays small."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1 << 10)
    writer.write(
        b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    await reader.readuntil(b"\r\n\r\n")
    await asyncio.to_thread(wait_until, lambda: len(server.web._pages) == 2)
    await page.hear("hello")
    for i in range(40):
        for name in ("prompt_1", "prompt_2", "prompt_3"):
            await asyncio.to_thread(server.set, name, f"{i} " + "x" * 50_000)
        assert (await page.value("prompt_3")).startswith(f"{i} ")
    deaf = next(one for one in server.web._pages if one._values or one._lines or len(server.web._pages) == 2)
    assert len(deaf._values) <= len(LIVE)
    writer.close()


# ---------------------------------------------------------------- who may not use it


async def refused(http: aiohttp.ClientSession, url: str, **headers: str) -> int:
    async with http.get(url, headers=headers) as answer:
        return answer.status


async def test_a_web_page_of_elsewhere_cannot_use_it(server: WebServer, http: aiohttp.ClientSession) -> None:
    ws = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    ws["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ=="
    own = f"127.0.0.1:{server.port}"
    for path in ("/", "/ws", "/stream.mjpg", "/snapshot.png", "/app.js"):
        url = server.url + path
        assert await refused(http, url, Host="evil.example") == 403, "a name that was made to point here"
        assert await refused(http, url, Host=f"evil.example:{server.port}") == 403
        assert await refused(http, url, Host="") in (400, 403)
        assert await refused(http, url, Origin="https://evil.example") == 403
        assert await refused(http, url, Origin="null") == 403
        assert await refused(http, url, Origin="http://127.0.0.1:1") == 403, "another program's page on this machine"
        assert await refused(http, url, **{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}) == 403
        assert await refused(http, url, **{"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}) == 403
    assert await refused(http, server.url + "/ws", **ws, Origin="http://evil.example") == 403
    assert await refused(http, server.url + "/app.js", Origin=f"http://{own}") == 200
    assert await refused(http, server.url + "/app.js", Host=f"localhost:{server.port}") == 200
    async with http.post(server.url + "/token", data={"token": TOKEN}, headers={"Origin": "http://evil.example"}) as no:
        assert no.status == 403


async def test_from_another_machine_the_token_is_needed(
    server: WebServer, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paintover.server.live.guard.is_loopback", lambda remote: False)
    jar = aiohttp.CookieJar(unsafe=True)  # keeps cookies of an address without a name, too
    async with aiohttp.ClientSession(cookie_jar=jar) as browser:
        for path in ("/", "/ws", "/stream.mjpg", "/snapshot.png", "/app.js"):
            assert await refused(browser, server.url + path) == 401
            assert await refused(browser, server.url + path + "?token=wrong") == 401
        async with browser.get(server.url, headers={"Accept": "text/html"}) as answer:
            assert answer.status == 401
            assert "<form" in await answer.text()
        async with browser.post(server.url + "/token", data={"token": "wrong"}) as answer:
            assert answer.status == 401
        async with browser.get(f"{server.url}/snapshot.png?token={TOKEN}") as answer:
            assert answer.status == 200
        async with browser.get(server.url + "/app.js", headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
            assert answer.status == 200
        async with browser.post(
            server.url + "/token", data={"token": TOKEN}, headers={"Accept": "text/html"}, allow_redirects=False
        ) as answer:
            assert answer.status == 303
            cookie = answer.headers["Set-Cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite=Strict" in cookie
            assert TOKEN not in cookie
        async with browser.get(server.url, headers={"Accept": "text/html"}) as answer:
            assert answer.status == 200
            assert 'src="app.js"' in await answer.text()
        async with browser.ws_connect(server.url + "/ws") as socket_:
            assert await Page(socket_).hear("hello")


def test_loopback_is_loopback() -> None:
    from paintover.server.live.guard import is_loopback

    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1")))
    assert not any(map(is_loopback, ("10.0.0.1", "::ffff:10.0.0.1", "fe80::1%eth0", "", None, "localhost")))


async def test_a_port_that_is_taken_is_said(server: WebServer) -> None:
    from paintover.server.live.web import Web

    other = Web(server.web._sources, TOKEN)
    with pytest.raises(PortInUse, match="--http-port"):
        await other.start("127.0.0.1", server.port)


async def test_more_viewers_than_it_can_serve_are_refused(
    server: WebServer, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paintover.server.live.web.MAX_VIEWERS", 1)
    await asyncio.to_thread(wait_until, lambda: not server.web._viewers)
    async with http.get(f"{server.url}/stream.mjpg") as first:
        await part(first.content)
        assert await refused(http, f"{server.url}/stream.mjpg") == 503


def test_it_stops_at_once_with_viewers_connected() -> None:
    server = WebServer()
    with socket.create_connection(("127.0.0.1", server.port)) as viewer:
        viewer.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        viewer.recv(100)
        server.stop()  # it raises TimeoutError if it waits for the viewer to go
