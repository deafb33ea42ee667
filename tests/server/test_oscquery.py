"""OSCQuery over real HTTP and WebSockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

from paintover.bridge.errors import ServerStartFailed
from paintover.bridge.live import LIVE, TRIGGERS
from paintover.bridge.live_messages import LiveStatus
from paintover.server.live.announce import Announcement
from paintover.server.live.osc_codec import parse
from paintover.server.live.oscquery import OscQuery
from paintover.server.live.state import LiveState


class Query:
    def __init__(self, state: LiveState, session: aiohttp.ClientSession, url: str) -> None:
        self.state, self.session, self.url = state, session, url

    async def get(self, path: str) -> tuple[int, Any]:
        async with self.session.get(self.url + path) as response:
            return response.status, await response.json() if response.status == 200 else None


@pytest_asyncio.fixture
async def query() -> AsyncIterator[Query]:
    state = LiveState()
    oscquery = OscQuery(state, lambda: LiveStatus("running", fps=24.0), osc_port=lambda: 9700)
    app = web.Application()
    app.router.add_get("/{path:.*}", oscquery.get)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    async with aiohttp.ClientSession() as session:
        yield Query(state, session, f"http://127.0.0.1:{runner.addresses[0][1]}")
    await runner.cleanup()


async def test_the_tree_holds_every_address_with_its_details(query: Query) -> None:
    query.state.set("strength", 0.25, origin=None, now=0)
    status, tree = await query.get("/")
    assert status == 200
    assert tree["FULL_PATH"] == "/"
    for row in LIVE:
        node = tree["CONTENTS"]["paintover"]
        for part in row.address.split("/"):
            node = node["CONTENTS"][part]
        assert node["FULL_PATH"] == f"/paintover/{row.address}"
        assert node["DESCRIPTION"] == row.description
        assert node["ACCESS"] == 3
        assert node["TYPE"] == {str: "s", int: "i", float: "f", bool: "i"}[row.type]
        value = query.state.values[row.name]
        assert node["VALUE"] == [int(value) if row.type is bool else value]
        if row.minimum is not None:
            assert node["RANGE"] == [{"MIN": row.minimum, "MAX": row.maximum}]
        assert await query.get(f"/paintover/{row.address}") == (200, node)
    for trigger in TRIGGERS:
        status, node = await query.get(f"/paintover/{trigger.address}")
        assert (status, node["ACCESS"]) == (200, 2)
        assert "VALUE" not in node
    assert (await query.get("/paintover/tempo/quantize"))[1]["RANGE"] == [{"VALS": [0, 1, 4]}]
    assert "text" in tree["CONTENTS"]["paintover"]["CONTENTS"]["prompt"]["CONTENTS"]["1"]["CONTENTS"]


async def test_single_attributes(query: Query) -> None:
    query.state.set("strength", 0.25, origin=None, now=0)
    assert await query.get("/paintover/strength?VALUE") == (200, {"VALUE": [0.25]})
    assert await query.get("/paintover/play?VALUE") == (200, {"VALUE": [1]})
    assert await query.get("/paintover/output/size?VALUE") == (
        200, {"VALUE": [query.state.values["output_width"], query.state.values["output_height"]]}
    )  # fmt: skip
    assert await query.get("/paintover/status/fps?VALUE") == (200, {"VALUE": [24.0]})
    assert await query.get("/paintover/status/state?VALUE") == (200, {"VALUE": [3]})
    assert (await query.get("/paintover/strength?VALUE&token=x"))[0] == 200
    assert (await query.get("/paintover/reset?VALUE"))[0] == 204
    assert (await query.get("/paintover/strength?MOOD"))[0] == 400
    assert (await query.get("/paintover/nothing"))[0] == 404
    assert (await query.get("/paintover/strength/more"))[0] == 404
    status, info = await query.get("/?HOST_INFO")
    assert (status, info["OSC_PORT"], info["OSC_TRANSPORT"]) == (200, 9700, "UDP")
    assert str(info["WS_PORT"]) in query.url
    assert info["EXTENSIONS"]["LISTEN"] is True


async def values(socket: aiohttp.ClientWebSocketResponse, count: int) -> list[tuple[str, list[Any]]]:
    return [parse(await socket.receive_bytes(timeout=20)) for _ in range(count)]


async def test_a_websocket_hears_what_it_listens_to(query: Query) -> None:
    async with query.session.ws_connect(query.url + "/") as socket:
        for bad in ("", "{", "[]", "3", '{"COMMAND":"LISTEN"}', '{"COMMAND":"LISTEN","DATA":7}', "[" * 10_000):
            await socket.send_str(bad)
        await socket.send_bytes(b"\0\1")
        await socket.send_str(json.dumps({"COMMAND": "LISTEN", "DATA": "/paintover/nothing"}))
        await socket.send_str(json.dumps({"COMMAND": "LISTEN", "DATA": "/paintover/strength"}))
        assert await values(socket, 1) == [("/paintover/strength", [1.0])]
        query.state.set("guidance", 2.0, origin=None, now=0)
        query.state.set("strength", 0.5, origin=None, now=0)
        assert await values(socket, 1) == [("/paintover/strength", [0.5])]
        await socket.send_str(json.dumps({"COMMAND": "IGNORE", "DATA": "/paintover/strength"}))
        await socket.send_str(json.dumps({"COMMAND": "LISTEN", "DATA": "/paintover/prompt"}))
        assert await values(socket, 1) == [("/paintover/prompt", [""])]
        query.state.set("strength", 0.75, origin=None, now=0)
        query.state.set("prompt", "moß", origin=None, now=0)
        assert await values(socket, 1) == [("/paintover/prompt", ["moß"])]


async def test_a_websocket_gets_the_newest_of_many_changes(query: Query) -> None:
    async with query.session.ws_connect(query.url + "/") as socket:
        await socket.send_str(json.dumps({"COMMAND": "LISTEN", "DATA": "/paintover/strength"}))
        await values(socket, 1)
        for number in range(1000):
            query.state.set("strength", number / 1000, origin=None, now=0)
            if number % 10 == 0:
                await asyncio.sleep(0)
        heard: list[Any] = []
        while not heard or heard[-1][1] != [pytest.approx(0.999)]:
            heard += await values(socket, 1)
        assert len(heard) < 500


async def test_announcement_names_both_ports() -> None:
    found: dict[str, int] = {}
    announcement = Announcement(19700, 19702, ["127.0.0.1"])
    looking = AsyncZeroconf(interfaces=["127.0.0.1"])

    def changed(zeroconf: Any, service_type: str, name: str, state_change: Any) -> None:
        names.put_nowait((service_type, name))

    names: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    browser = None
    try:
        await announcement.start()
        browser = AsyncServiceBrowser(
            looking.zeroconf, ["_osc._udp.local.", "_oscjson._tcp.local."], handlers=[changed]
        )
        async with asyncio.timeout(30):
            while len(found) < 2:
                kind, name = await names.get()
                info = await looking.async_get_service_info(kind, name)
                if info and name.startswith("Paintover"):
                    found[kind] = info.port
    finally:
        if browser:
            await browser.async_cancel()
        await looking.async_close()
        await announcement.close()
    assert found == {"_osc._udp.local.": 19700, "_oscjson._tcp.local.": 19702}


async def test_announcing_where_there_is_no_network_is_reported() -> None:
    announcement = Announcement(19700, 19702, ["203.0.113.7"])  # of no interface of this machine (RFC 5737)
    with pytest.raises(ServerStartFailed, match="could not be announced"):
        await announcement.start()
