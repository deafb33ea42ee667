"""What the OSC endpoint tells by itself: echoes, subscriptions, status, all values."""

from __future__ import annotations

import time

from paintover.bridge.errors import MissingModel
from paintover.bridge.live import LIVE
from paintover.bridge.live_messages import LiveStatus, LiveTrouble
from paintover.bridge.messages import Failure
from paintover.server.live.state import LiveState

from ..waiting import eventually
from .osc_peer import endpoint


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

        def heard_some() -> bool:
            nonlocal number
            number += 1
            one.send("/paintover/guidance", 1 + number / 1000)
            other.listen()
            return len(other.of("/paintover/guidance")) >= 5

        await eventually(heard_some)
        await one.settled()
        await other.hears("/paintover/guidance", live.values["guidance"])
        assert len(other.of("/paintover/guidance")) <= (time.monotonic() - start) * 30 + 2


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


async def test_whoever_sets_what_is_refused_hears_what_stays() -> None:
    async with endpoint(LiveState(lambda model: ("depth",))) as (_, live, peer):
        one, other = peer(), peer()
        await one.join()
        await other.join()
        live.set("control_edge", False, origin=None, now=0)
        one.send("/paintover/control/edge/enable", 1)
        await one.hears("/paintover/control/edge/enable", 0)
        one.send("/paintover/guidance", "much")
        await one.hears("/paintover/guidance", live.values["guidance"])
        live.set("guidance", 1.25, origin=None, now=0)  # nobody's: told to all, after what was told before
        await other.hears("/paintover/guidance", 1.25)
        assert other.of("/paintover/guidance") == [[1.25]], "it was nobody else's mistake"


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


async def test_a_quicker_subscription_counts_at_once() -> None:
    async with endpoint() as (_, live, peer):
        slow, other = peer(), peer()
        await slow.join()
        await other.join()
        slow.send("/paintover/osc/subscribe", "strength", 0.001)  # a message each 1000 seconds
        await slow.hears("/paintover/ack", "osc/subscribe", 1)
        other.send("/paintover/strength", 0.25)
        await slow.hears("/paintover/strength", 0.25)
        slow.send("/paintover/osc/subscribe", "strength", 30)
        await slow.settled()
        other.send("/paintover/strength", 0.75)
        await slow.hears("/paintover/strength", 0.75)
        assert live.values["strength"] == 0.75


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
