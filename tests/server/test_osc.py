"""The OSC endpoint over real UDP, with messages that python-osc builds and reads."""

from __future__ import annotations

import asyncio
import ipaddress
import math
import socket
import struct
import time
from typing import Any

import pytest
from pythonosc.osc_message_builder import OscMessageBuilder

from paintover.bridge.errors import MissingModel, PortInUse
from paintover.bridge.live import LIVE
from paintover.bridge.live_messages import LiveStatus, LiveTrouble
from paintover.bridge.messages import Failure
from paintover.server.live.osc import Osc
from paintover.server.live.osc_codec import BUNDLE, encode
from paintover.server.live.state import LiveState

from .osc_peer import endpoint


async def test_every_parameter_is_set_queried_and_echoed_to_others_only() -> None:
    async with endpoint() as (_, live, peer):
        one, other = peer(), peer()
        await one.join()
        await other.join()
        for row in LIVE:
            value: Any = "moß" if row.type is str else 1 if row.type is bool else row.maximum or 4
            if row.name in ("model", "play", "tempo_quantize"):
                value = {"model": "mini", "play": 0, "tempo_quantize": 4}[row.name]
            if row.name == "tempo_quantize":
                continue  # last, since others would wait for the beat
            one.send(f"/paintover/{row.address}", float(value) if row.type is not str else value)
            await one.settled()
            assert live.values[row.name] == pytest.approx(value)
            assert type(live.values[row.name]) is row.type
            if live.values[row.name] != row.default:
                expected = int(value) if row.type is bool else value
                assert (await other.hears(f"/paintover/{row.address}"))[0] == pytest.approx(expected, abs=1e-5)
            one.send(f"/paintover/{row.address}")
            one.send(f"/paintover/{row.address}", "?")
            await one.settled()
            assert len(one.of(f"/paintover/{row.address}")) == 2, "its own two questions, and no echo"
        one.send("/paintover/tempo/quantize", 4)
        await one.settled()
        assert live.values["tempo_quantize"] == 4
        assert not one.of("/paintover/error")
        assert not other.of("/paintover/error")


async def test_numbers_of_every_kind_switches_and_sizes() -> None:
    async with endpoint() as (_, live, peer):
        one = peer()
        await one.join()
        for kind, value in (("i", 3), ("h", 4), ("f", 5.0), ("d", 6.0), ("T", True)):
            builder = OscMessageBuilder("/paintover/steps")
            builder.add_arg(value, kind)
            one.raw(builder.build().dgram)
            await one.settled()
            assert live.values["steps"] == int(value)
        one.raw(b"/paintover/play\0,F\0\0")
        one.send("/paintover/output/size", 640.0, 384.0)
        await one.settled()
        assert live.values["play"] is False
        assert (live.values["output_width"], live.values["output_height"]) == (640, 384)
        one.send("/paintover/output/size")
        assert await one.hears("/paintover/output/size") == [640, 384]


ERRORS: list[tuple[str, tuple[Any, ...], int]] = [
    ("/paintover/nothing/here", (1.0,), 1),
    ("/other/strength", (1.0,), 1),
    ("/paintover", (1.0,), 1),
    ("/paintover/views", (3,), 1),
    ("/paintover/strength", ("much",), 2),
    ("/paintover/strength", (0.1, 0.2), 2),
    ("/paintover/strength", (math.nan,), 2),
    ("/paintover/steps", (math.inf,), 2),
    ("/paintover/prompt", (3,), 2),
    ("/paintover/prompt", ("x" * 60_001,), 3),
    ("/paintover/strength", (7.0,), 3),
    ("/paintover/steps", (2**40,), 3),
    ("/paintover/output/size", (500, 512), 3),
    ("/paintover/output/size", (512,), 2),
    ("/paintover/model", ("sd99",), 5),
    ("/paintover/preset/recall", (9,), 5),
    ("/paintover/preset/recall", ("a",), 2),
    ("/paintover/preset/store", (), 2),
    ("/paintover/preset/store", (math.nan,), 2),
    ("/paintover/preset/store", (1000,), 3),
    ("/paintover/texture/run", ("now",), 2),
    ("/paintover/osc/reply", (), 2),
    ("/paintover/osc/reply", (0,), 3),
    ("/paintover/osc/reply", (9701, "10.1.2.3"), 3),
    ("/paintover/osc/reply", (9701, "example.org"), 3),
    ("/paintover/osc/reply", (9701, "127.0.0.1", "x"), 2),
    ("/paintover/osc/subscribe", ("nothing/*", 5), 3),
    ("/paintover/osc/subscribe", (5, "x"), 2),
    ("/paintover/osc/subscribe", (), 2),
    ("/paintover/osc/subscribe", ("*", math.nan), 2),
]


@pytest.mark.parametrize(("address", "arguments", "code"), ERRORS)
async def test_what_is_wrong_is_reported_to_its_sender_once(
    address: str, arguments: tuple[Any, ...], code: int
) -> None:
    def check(name: str) -> None:
        raise MissingModel(name=name)

    async with endpoint(LiveState(check)) as (osc, _, peer):
        one, other = peer(), peer()
        await one.join()
        await other.join()
        for _ in range(3):
            one.send(address, *arguments)
            await one.settled()
        about, given_code, text = await one.hears("/paintover/error")
        assert (about, given_code) == (address, code)
        assert text
        one.send("/paintover/nobody", 1)  # its report comes after all others
        await one.hears("/paintover/error", "/paintover/nobody", 1, "There is no address /paintover/nobody.")
        assert len(one.of("/paintover/error")) == 2
        await other.settled()
        assert not other.of("/paintover/error")
        assert [error.code for error in osc.errors] == [code] * 3 + [1]


async def test_an_error_is_news_again_after_a_right_value() -> None:
    async with endpoint() as (_, _, peer):
        one = peer()
        await one.join()
        for value in (7.0, 0.5, 7.0):
            one.send("/paintover/strength", value)
            await one.settled()
        await one.until(lambda _: len(one.of("/paintover/error")) == 2)


async def test_errors_come_at_most_twice_a_second() -> None:
    async with endpoint() as (_, _, peer):
        one = peer()
        await one.join()
        times: list[float] = []
        for number in range(40):
            one.send(f"/paintover/wrong/{number}")

        def count(_: Any) -> bool:
            if len(one.of("/paintover/error")) > len(times):
                times.append(time.monotonic())
            return len(times) == 4

        await one.until(count)
        assert times[-1] - times[0] >= 1.4, "sent no sooner than every half second"


def bundle(*elements: bytes, stamp: int = 1) -> bytes:
    return BUNDLE + struct.pack(">Q", stamp) + b"".join(struct.pack(">i", len(e)) + e for e in elements)


def in_future(seconds: float) -> int:
    return int((time.time() + seconds + 2208988800) * 2**32)


async def test_bundles_apply_at_once_whatever_their_time() -> None:
    async with endpoint() as (_, live, peer):
        one = peer()
        await one.join()
        strength, steps = encode("/paintover/strength", 0.25), encode("/paintover/steps", 7)
        one.raw(bundle(strength, bundle(steps), stamp=in_future(1e6)))
        await one.settled()
        assert (live.values["strength"], live.values["steps"]) == (0.25, 7)
        one.raw(bundle(encode("/paintover/strength", 0.75), steps)[:-3])
        assert (await one.hears("/paintover/error"))[1] == 2
        assert live.values["strength"] == 0.75, "what is sound of it counts"


async def test_timetags_are_kept_where_asked() -> None:
    async with endpoint(timetags=True) as (_, live, peer):
        one = peer()
        await one.join()
        one.raw(bundle(encode("/paintover/steps", 7), stamp=in_future(0.5)))
        one.raw(bundle(encode("/paintover/strength", 0.5), stamp=in_future(1e6)))  # absurd: at once
        await one.settled()
        assert live.values["strength"] == 0.5
        assert live.values["steps"] != 7
        await one.until(lambda _: live.values["steps"] == 7)


async def test_triggers_fire_but_not_on_release() -> None:
    async with endpoint() as (_, live, peer):
        one, other = peer(), peer()
        await one.join()
        await other.join()
        for arguments in ((), (1.0,), (0.0,), (0,), (5,)):
            one.send("/paintover/reset", *arguments)
        one.raw(b"/paintover/reset\0\0\0\0,F\0\0")
        one.raw(b"/paintover/reset\0\0\0\0,I\0\0")
        await one.settled()
        assert live.resets == 4
        assert len(one.of("/paintover/ack")) == 1 + 4
        await other.hears("/paintover/event/trigger", "reset")
        one.send("/paintover/sync", 0)
        await one.settled()
        assert not one.of("/paintover/steps")


async def test_presets_see_the_values_that_came_before_them() -> None:
    async with endpoint() as (_, live, peer):
        one = peer()
        await one.join()
        packet = [
            encode("/paintover/strength", 0.1), encode("/paintover/preset/store", 1.0),
            encode("/paintover/strength", 0.2), encode("/paintover/preset/store", 2.0),
            encode("/paintover/strength", 0.3), encode("/paintover/preset/recall", 1.0),
            encode("/paintover/guidance", 3.0), encode("/paintover/preset/recall", 0.0),
        ]  # fmt: skip
        one.raw(bundle(*packet))
        await one.settled()
        assert live.presets[1]["strength"] == pytest.approx(0.1)
        assert live.presets[2]["strength"] == pytest.approx(0.2)
        assert live.values["strength"] == pytest.approx(0.1)
        assert live.values["guidance"] == 3.0
        assert one.of("/paintover/ack")[1:] == [
            ["preset/store", 1], ["preset/store", 2], ["preset/recall", 1]
        ]  # fmt: skip


async def test_values_apply_in_the_order_of_the_last_ones() -> None:
    async with endpoint() as (_, live, peer):
        one = peer()
        await one.join()
        order: list[tuple[str, Any]] = []
        live.listeners.append(lambda name, value, _: order.append((name, value)))
        one.raw(
            bundle(*(encode(f"/paintover/{n}", v) for n, v in (("smooth", 0.25), ("guidance", 2.0), ("smooth", 0.5))))
        )
        await one.settled()
        assert order == [("guidance", 2.0), ("smooth", 0.5)]


async def test_a_seed_that_was_chosen_is_told_to_everybody() -> None:
    async with endpoint() as (_, live, peer):
        one, other = peer(), peer()
        await one.join()
        await other.join()
        one.send("/paintover/seed", -1)
        for who in (one, other):
            await who.until(lambda _, who=who: who.of("/paintover/seed") == [[live.values["seed"]]])  # type: ignore[misc]


async def test_echo_is_latest_wins_at_a_bounded_rate() -> None:
    async with endpoint() as (_, live, peer):
        one, other = peer(), peer()
        await one.join()
        await other.join()
        start, number = time.monotonic(), 0
        while time.monotonic() < start + 1.0:
            number += 1
            one.send("/paintover/guidance", 1 + number / 1000)
            await asyncio.sleep(0.004)
        await one.settled()
        await other.hears("/paintover/guidance", live.values["guidance"])
        took = time.monotonic() - start
        assert 3 <= len(other.of("/paintover/guidance")) <= took * 30 + 2
        assert number > 60


async def test_an_older_echo_never_undoes_what_its_receiver_has_set() -> None:
    async with endpoint() as (osc, live, peer):
        one, other = peer(), peer()
        await one.join()
        await other.join()
        one.send("/paintover/steps", 3)
        await other.hears("/paintover/steps", 3)
        one.send("/paintover/steps", 4)  # its echo waits for its turn
        await one.settled()
        other.send("/paintover/steps", 5)
        await one.hears("/paintover/steps", 5)
        other.send("/paintover/osc/subscribe", "steps", 30)
        await other.hears("/paintover/ack", "osc/subscribe", 1)
        await other.until(lambda heard: heard[-1][0] != "/paintover/ack")
        assert [values for values in other.of("/paintover/steps") if values == [4]] in ([], [[4]])
        assert other.of("/paintover/steps")[-1] == [5]
        assert live.values["steps"] == 5
        assert not any(listener.waiting.get("steps") for listener in osc.echo.listeners)


async def test_subscriptions() -> None:
    async with endpoint(status=LiveStatus("running", fps=24.5, text="Painting")) as (osc, _, peer):
        one, other = peer(), peer()
        await one.join()
        await other.join()
        one.send("/paintover/osc/subscribe", "/paintover/status/*", 0)
        assert (await one.hears("/paintover/ack", "osc/subscribe", 10)) == ["osc/subscribe", 10]
        one.send("/paintover/osc/subscribe", "frame", 30)
        one.send("/paintover/osc/subscribe", "control/*/scale", 10)
        for name in ("depth", "normal", "edge"):
            assert await one.hears(f"/paintover/control/{name}/scale") == [1.0]
        await one.settled()
        one.heard.clear()
        osc.painted(41)
        await one.hears("/paintover/frame", 41)
        for _ in range(2):
            other.heard.clear()
            await other.hears("/paintover/status/fps", 24.5)
        await other.hears("/paintover/status/state", 3)
        assert not other.of("/paintover/frame")
        assert not [name for name, _ in one.listen() if "/status/" in name]
        one.send("/paintover/osc/subscribe", "status/alive", 1)
        counts = [(await one.hears("/paintover/status/alive"))[0]]
        await one.until(lambda _: len(one.of("/paintover/status/alive")) == 3)
        counts = [values[0] for values in one.of("/paintover/status/alive")]
        assert counts == [counts[0], counts[0] + 1, counts[0] + 2]


async def test_status_text_and_troubles_of_the_stage() -> None:
    async with endpoint(status=LiveStatus("loading", text="Loading mini")) as (osc, _, peer):
        one = peer()
        await one.join()
        one.send("/paintover/sync")
        await one.hears("/paintover/status/text", "Loading mini")
        osc.event(LiveTrouble(Failure.of(MissingModel(name="sd99")), "model"))
        assert "sd99" in (await one.hears("/paintover/event/trouble"))[0]
        assert (await one.hears("/paintover/error"))[:2] == ["/paintover/model", 5]


async def test_sync_sends_every_value() -> None:
    async with endpoint() as (_, _, peer):
        one = peer()
        await one.join()
        one.send("/paintover/prompt", "x" * 60_000)
        one.send("/paintover/sync")
        await one.until(lambda heard: {f"/paintover/{row.address}" for row in LIVE} <= {name for name, _ in heard})
        assert one.of("/paintover/prompt") == [["x" * 60_000]]


async def test_patterns_reach_every_address_that_matches() -> None:
    async with endpoint() as (_, live, peer):
        one = peer()
        await one.join()
        one.send("/paintover/control/{depth,edge}/scale", 0.5)
        one.send("/paintover/*/nothing", 0.5)
        assert (await one.hears("/paintover/error"))[1] == 1
        assert [live.values[f"control_{name}_scale"] for name in ("depth", "normal", "edge")] == [0.5, 1.0, 0.5]


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
            encode("/paintover/" + "{a,b}" * 40, 1.0), encode("/paintover/" + "*" * 190, 1.0),
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
        osc._inbox._hosts["127.0.0.1"] = False
        one.send("/paintover/strength", 0.125)
        await one.until(lambda _: osc._inbox is not None and osc._inbox.denied == 1)
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
