"""The OSC endpoint over real UDP, with messages that python-osc builds and reads."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
from pythonosc.osc_message_builder import OscMessageBuilder

from paintover.bridge.errors import MissingModel
from paintover.bridge.live import LIVE
from paintover.server.live.osc_codec import encode
from paintover.server.live.state import LiveState

from .osc_peer import bundle, endpoint


async def test_every_parameter_is_set_queried_and_echoed_to_others_only() -> None:
    async with endpoint() as (_, live, peer):
        one, other = peer(), peer()
        await one.join()
        await other.join()
        for row in LIVE:
            value: Any = "moß" if row.type is str else 1 if row.type is bool else row.maximum or 4
            value = row.choices[-1] if row.choices else value
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
    def controls_of(name: str) -> tuple[str, ...]:
        raise MissingModel(name=name)

    async with endpoint(LiveState(controls_of)) as (osc, _, peer):
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
        begun = time.monotonic()
        for number in range(40):
            one.send(f"/paintover/wrong/{number}")
        await one.until(lambda _: len(one.of("/paintover/error")) >= 4)
        assert time.monotonic() - begun >= 1.5, "sent no sooner than every half second"


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


async def test_patterns_reach_every_address_that_matches() -> None:
    async with endpoint() as (_, live, peer):
        one = peer()
        await one.join()
        one.send("/paintover/control/{depth,edge}/scale", 0.5)
        one.send("/paintover/*/nothing", 0.5)
        assert (await one.hears("/paintover/error"))[1] == 1
        assert [live.values[f"control_{name}_scale"] for name in ("depth", "normal", "edge")] == [0.5, 1.0, 0.5]


async def test_what_does_not_fit_one_address_of_a_pattern_fits_the_others() -> None:
    async with endpoint() as (_, live, peer):
        program = peer()
        await program.join()
        program.send("/paintover/prompt/[12]/*", "moss")
        await program.settled()
        assert (live.values["prompt_1"], live.values["prompt_2"]) == ("moss", "moss")
        await program.hears("/paintover/error")
        assert {values[0] for values in program.of("/paintover/error")} <= {
            "/paintover/prompt/1/weight", "/paintover/prompt/2/weight",
        }  # fmt: skip


@pytest.mark.parametrize("root", ["/vj/left", ""])
async def test_another_root(root: str) -> None:
    async with endpoint(root=root) as (_, live, peer):
        one = peer()
        one.send(f"{root}/osc/reply", one.port)
        one.send(f"{root}/strength", 0.5)
        one.send(f"{root}/strength", "?")
        assert await one.hears(f"{root}/strength") == [0.5]
        one.send("/paintover/strength", 0.25)
        assert (await one.hears(f"{root}/error"))[:2] == ["/paintover/strength", 1]
        assert live.values["strength"] == 0.5
