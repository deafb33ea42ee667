"""What floods, strangers and rubbish do to the OSC endpoint: nothing."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import struct
from typing import Any

import pytest

from paintover.bridge.errors import PortInUse
from paintover.bridge.live_messages import LiveStatus
from paintover.server.live.osc import Osc
from paintover.server.live.osc_codec import BUNDLE, encode
from paintover.server.live.state import LiveState

from .osc_peer import bundle, endpoint


async def test_a_flood_ends_with_the_last_values() -> None:
    async with endpoint() as (osc, live, peer):
        one = peer()
        await one.join()
        names = ["strength", "guidance", "smooth", "feedback/zoom"]
        for number in range(2000):
            for name in names:
                one.send(f"/paintover/{name}", number / 4000 + 0.5)
            if number % 20 == 0:
                await asyncio.sleep(0)
        await one.settled()
        last = pytest.approx(1999 / 4000 + 0.5, abs=1e-6)
        assert [live.values[n] for n in ("strength", "smooth", "feedback_zoom")] == [last, 0.99, last]
        assert osc._inbox is not None
        assert osc._inbox.lost == 0


async def test_what_the_system_had_no_room_for_is_told() -> None:
    async with endpoint() as (osc, _, peer):
        one = peer()
        await one.join()
        assert osc._inbox is not None
        osc._inbox.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with osc._inbox._lock:  # the reading thread stands
            for _ in range(200):
                one.send("/paintover/strength", 0.5)

        def told(_: Any) -> bool:
            one.send("/paintover/ping")  # with a message, the system says how many were lost before it
            return bool(one.of("/paintover/error"))

        await one.until(told)
        about, code, text = await one.hears("/paintover/error")
        assert (about, code) == ("/paintover", 4)
        assert "lost" in text


async def test_nothing_that_arrives_stops_it() -> None:
    async with endpoint() as (_, live, peer):
        one = peer()
        await one.join()
        good = encode("/paintover/strength", 0.5)
        for packet in (
            b"", b"/", b"\0" * 65_507, b"/" * 65_507, b"#bundle\0" * 8_000, good[:-1], good[:9],
            bundle(good) + struct.pack(">i", -4), BUNDLE + b"\xff" * 65_000,
            b"/paintover/steps\0\0\0\0," + b"[" * 60_000, b"/paintover/steps\0\0\0\0,b\0\0\x7f\xff\xff\xff",
            b"/paintover/prompt\0\0\0,s\0\0" + b"\xff" * 60_000 + bytes(4),
            encode("/paintover/" + "{a,b}" * 40, 1.0), encode("/paintover/" + "*" * 190, "x"),
        ):  # fmt: skip
            one.raw(packet)
        await one.settled()
        one.raw(good)
        await one.settled()
        assert live.values["strength"] == 0.5


async def test_only_allowed_hosts_are_heard_and_answered() -> None:
    async with endpoint(allow=[ipaddress.IPv4Network("10.1.0.0/16")]) as (osc, _, peer):
        assert osc._inbox is not None
        assert osc._inbox.sock.getsockname()[0] == "0.0.0.0"
        assert osc.allowed("127.0.0.1")
        assert osc.allowed("10.1.200.3")
        for host in ("10.2.0.1", "8.8.8.8", "", "localhost", "::1", "10.1.0.0/16", "0.0.0.0", "255.255.255.255"):
            assert not osc.allowed(host), host
        one = peer()
        one.send("/paintover/osc/reply", one.port, "8.8.8.8")
        one.send("/paintover/osc/reply", one.port, "127.0.0.1")
        await one.hears("/paintover/ack")
        assert [listener.target for listener in osc.echo.listeners] == [("127.0.0.1", one.port)]
    async with endpoint() as (osc, _, _):
        assert osc._inbox is not None
        assert osc._inbox.sock.getsockname()[0] == "127.0.0.1"
        assert not osc.allowed("10.1.200.3")


async def test_a_host_that_is_not_allowed_is_not_read() -> None:
    async with endpoint() as (osc, live, peer):
        one = peer()
        await one.join()
        assert osc._inbox is not None
        asked: list[str] = []

        def may(host: str) -> bool:
            asked.append(host)
            return len(asked) > 1

        osc._inbox._allowed = may
        osc._inbox._hosts.clear()
        one.send("/paintover/strength", 0.125)
        await one.until(lambda _: asked)
        osc._inbox._hosts.clear()
        await one.settled()
        assert live.values["strength"] == 1.0


async def test_two_endpoints_on_one_port() -> None:
    async with endpoint() as (osc, live, peer):
        second = Osc(LiveState(), LiveStatus)
        with pytest.raises(PortInUse):
            second.open(osc.port)
        second.close()
        one = peer()
        await one.join()
        one.send("/paintover/strength", 0.5)
        await one.settled()
        assert live.values["strength"] == 0.5


async def test_listeners_stay_few() -> None:
    async with endpoint(reply_port=9) as (osc, _, _):
        for number in range(1, 1000):
            osc.echo.of((f"127.0.{number // 250}.{number % 250}", 5000))
            osc.echo.reply(("127.0.0.1", number), ("127.0.0.1", 10_000 + number))
        assert len(osc.echo.listeners) <= 64
        assert len(osc.echo._replies) <= 256


async def test_an_inbox_keeps_a_bounded_number() -> None:
    async with endpoint() as (osc, live, peer):
        one = peer()
        await one.join()
        inbox = osc._inbox
        assert inbox is not None
        sender = ("127.0.0.1", one.port)
        for number in range(3000):
            inbox.put(encode("/paintover/preset/store", number % 128 + 1), sender)
            inbox.put(encode("/paintover/ping", 1), sender)
            inbox.put(encode(f"/paintover/what/{number}", 1), sender)
            inbox.put(encode("/paintover/strength", number / 3000), sender)
            inbox.put(b"junk", sender)
        assert len(inbox._waiting) < 256 + 66
        assert inbox.refused > 5000
        one.heard.clear()
        await one.until(lambda _: any(code == 4 for _, code, _ in one.of("/paintover/error")))
        assert live.values["strength"] == pytest.approx(2999 / 3000)


async def test_a_system_that_gives_smaller_buffers_only_is_no_reason_to_be_deaf(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """macOS refuses what is more than kern.ipc.maxsockbuf, where other systems give what they have."""
    asked: list[int] = []

    class Small(socket.socket):
        def setsockopt(self, *option: Any) -> None:
            if option[1] in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                asked.append(option[2])
                if option[2] > 1 << 20:
                    raise OSError(errno.ENOBUFS, "No buffer space available")
            super().setsockopt(*option)

    monkeypatch.setattr("paintover.server.live.osc_socket.socket.socket", Small)
    monkeypatch.setattr("paintover.server.live.osc_socket.sys.platform", "darwin")
    async with endpoint() as (_, _, peer):
        monkeypatch.undo()
        program = peer()
        await program.join()
        program.send("/paintover/ping", 5)
        await program.hears("/paintover/pong", 5)
    assert 1 << 20 in asked
    assert any(size >= 65_507 for size in asked[-2:]), "a prompt of the greatest length has to go out, too"


async def test_numbers_that_fit_nothing_are_refused_and_leave_no_trace(caplog: pytest.LogCaptureFixture) -> None:
    async with endpoint() as (osc, live, peer):
        program = peer()
        await program.join()
        for tag, value in ((b"d", struct.pack(">d", 1e300)), (b"h", struct.pack(">q", 2**62))):
            program.raw(b"/paintover/ping\0,%s\0\0" % tag + value)
        assert (await program.hears("/paintover/error"))[:2] == ["/paintover/ping", 2]
        live.store(128)
        program.raw(b"/paintover/preset/recall\0\0\0\0,d\0\0" + struct.pack(">d", 1e300))
        await program.hears("/paintover/ack", "preset/recall", 2**31 - 1)
        program.send("/" + "x" * 60_000, 1)
        await program.settled()
        assert max(len(one.address) for one in osc.messages) <= 300
    assert "could not be handled" not in caplog.text
