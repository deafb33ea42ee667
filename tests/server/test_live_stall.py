"""A worker whose stream hangs is noticed, one that works or rests is left alone: the rule, and a real server."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from paintover.bridge.live_messages import FROZEN, LiveStatus
from paintover.server.live.stall import ENDLESS, STALLED, TIMES, Stall

from ..server_process import ServerProcess
from ..waiting import wait_until
from .live_client import LiveClient, color
from .test_stage import expected


def seconds_until_it_hangs(stall: Stall, *, share: float = 0.0, rests: bool = False, given: bool = False) -> float:
    """Asked as the stage asks, five times a second for ten minutes, of a worker that says once a second which share of
    a processor it has used; `given`: more and more comes for it."""
    for look in range(3000):
        if given:
            stall.given()
        if stall.hangs(look / 5, share * (look // 5), rests):
            return look / 5
    return float("inf")


def test_it_hangs_however_much_comes_for_it() -> None:
    for given in (False, True):
        stall = Stall()
        stall.heard(0.0)
        stall.given()
        assert STALLED < seconds_until_it_hangs(stall, given=given) < STALLED + 1


def test_a_long_frame_that_is_worked_at_is_none() -> None:
    stall = Stall()
    stall.heard(0.0)
    stall.given()
    assert seconds_until_it_hangs(stall, share=1.0) == float("inf")
    stall = Stall()
    stall.heard(0.0)
    stall.given()
    assert seconds_until_it_hangs(stall, share=0.01) < 2 * STALLED, "what a heartbeat takes is no work"


def test_one_that_never_ends_is_told_from_a_long_frame() -> None:
    for longest, limit in ((0.05, ENDLESS), (4.0, TIMES * 4.0), (60.0, float("inf"))):
        stall = Stall()
        stall.heard(0.0, longest)
        stall.heard(0.0, 0.01)
        stall.given()
        assert limit <= (found := seconds_until_it_hangs(stall, share=1.0, given=True))
        assert found < limit + 1 or found == limit
    stall = Stall()
    stall.heard(0.0, 0.05)
    stall.given()
    assert seconds_until_it_hangs(stall, share=1.0, rests=True) == float("inf")


def test_work_is_seen_of_a_worker_that_follows_an_older_one() -> None:
    stall = Stall()
    stall.heard(0.0)
    stall.given()
    assert not stall.hangs(0.0, 36_000.0, rests=False)
    stall.heard(0.0)
    stall.given()
    assert seconds_until_it_hangs(stall, share=1.0) == float("inf")


def test_who_rests_or_has_said_all_does_not_hang() -> None:
    stall = Stall()
    assert seconds_until_it_hangs(stall, rests=True, given=True) == float("inf")
    stall.heard(0.0)
    assert seconds_until_it_hangs(stall) == float("inf")


class Impatient(ServerProcess):
    PROGRAM: ClassVar[tuple[str, ...]] = (
        "-c",
        "from paintover.server.live import stall; stall.STALLED, stall.ENDLESS = 3.0, 6.0\n"
        "from paintover.server import cli; cli.main()",
    )


@pytest.mark.parametrize(("accident", "seconds"), [("deadlock", 3), ("spin", 6)])
def test_it_is_replaced_while_frames_come_and_so_is_the_next_one_that_hangs(
    tmp_path: Path, accident: str, seconds: int
) -> None:
    server = Impatient(tmp_path)
    try:
        with LiveClient(server) as live:
            live.send(1)
            live.picture()
            live.set(prompt=accident)
            sent = 1

            def replaced_twice() -> bool:
                nonlocal sent
                sent += 1
                live.send(sent)  # the artist orbits
                return server.log.read_text().count(f"it painted no frame for {seconds} seconds") >= 2

            wait_until(replaced_twice, 60, server.log.read_text)
            live.set(prompt="moss", seed=21)
            live.picture(lambda picture: color(picture) == expected(prompt="moss", seed=21))
    finally:
        server.stop()


def test_a_worker_that_dies_while_the_picture_is_held_leaves_it_held(tmp_path: Path) -> None:
    server = Impatient(tmp_path)
    try:
        with LiveClient(server) as live:
            live.send(1)
            live.picture()
            live.set(freeze=True)
            live.until(LiveStatus, lambda status: status.state == FROZEN)
            told = server.log.read_text().count("takes the jobs")
            server.worker().kill()
            server.said("takes the jobs", told + 1)
            live.until(LiveStatus, lambda status: status.state == FROZEN)
            for number in range(2, 27):  # a status each 0.2 s: longer than one may hang
                live.send(number)
                assert live.until(LiveStatus).state == FROZEN
            assert "painted no frame" not in server.log.read_text()
            live.set(freeze=False, seed=5)
            live.picture(lambda picture: picture.seed == 5)
    finally:
        server.stop()
