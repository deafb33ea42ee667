"""The paced output on a stand-in of the stage: what it sends, when nothing new comes, and when a sink fails."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from paintover.bridge.errors import SinkMissing
from paintover.bridge.frames import FrameReader
from paintover.server.live import output as output_module
from paintover.server.live.output import Output, darkened
from paintover.server.live.sinks import OutputFrame
from paintover.server.live.sinks.shared import SharedSink

from ..waiting import wait_until


@dataclass
class Painted:
    image: np.ndarray
    arrived: float = field(default_factory=time.monotonic)
    depth: np.ndarray | None = None


class Stage:
    """A stand-in: has the newest picture, or none."""

    def __init__(self) -> None:
        self.picture: Painted | None = None
        self.down = False

    def paint(self, value: int) -> None:
        self.picture = Painted(np.full((64, 96, 3), value, np.uint8))


class Sink:
    """Keeps what it gets."""

    def __init__(self, name: str = "test", fails: bool = False) -> None:
        self.name = name
        self.frames: list[OutputFrame] = []
        self.fails = fails
        self.tried = 0
        self.missing = False
        self.closed = False

    def start(self) -> None:
        if self.missing:
            raise SinkMissing(name=self.name, reason="for a test", next="")

    def send(self, frame: OutputFrame) -> None:
        self.tried += 1
        if self.fails:
            raise RuntimeError("broken")
        self.frames.append(frame)

    def close(self) -> None:
        self.closed = True

    def shows(self) -> tuple[int, ...]:
        """The colour of the newest frame's first pixel."""
        return tuple(int(value) for value in self.frames[-1].image[0, 0])


def values(**changes: Any) -> dict[str, Any]:
    return {
        "output_fps": 100.0, "output_width": 128, "output_height": 64, "blackout": 0.0, "freeze": False, **changes
    }  # fmt: skip


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def settings() -> dict[str, Any]:
    return values()


@pytest.fixture
def output(stage: Stage, sink: Sink, settings: dict[str, Any]) -> Iterator[Output]:
    made = Output(stage, settings, [sink])
    made.start()
    yield made
    made.close()
    assert sink.closed


def test_it_sends_black_of_the_output_size_before_the_first_picture(output: Output, sink: Sink) -> None:
    wait_until(lambda: len(sink.frames) > 3)
    assert sink.frames[0].image.shape == (64, 128, 3)
    assert not sink.frames[0].image.any()
    assert [frame.fresh for frame in sink.frames[:3]] == [True, False, False]
    assert [frame.number for frame in sink.frames[:3]] == [1, 2, 3]


def test_the_newest_picture_goes_out_and_is_repeated(output: Output, stage: Stage, sink: Sink) -> None:
    for value in (10, 20):
        stage.paint(value)
        wait_until(lambda value=value: sink.frames and sink.shows()[0] == value)  # type: ignore[misc]
    count = len(sink.frames)
    wait_until(lambda: len(sink.frames) > count + 5)
    assert all(not frame.fresh for frame in sink.frames[count + 1 :])
    assert sink.frames[-1].image.shape == (64, 96, 3), "a picture goes out in its own size"
    assert not sink.frames[-1].image.flags.writeable


def test_freeze_holds_what_is_shown(output: Output, stage: Stage, sink: Sink, settings: dict[str, Any]) -> None:
    stage.paint(10)
    wait_until(lambda: bool(sink.frames) and sink.shows()[0] == 10)
    settings["freeze"] = True
    count = len(sink.frames)
    wait_until(lambda: len(sink.frames) > count + 1)
    stage.paint(20)
    count = len(sink.frames)
    wait_until(lambda: len(sink.frames) > count + 5)
    assert {int(frame.image[0, 0, 0]) for frame in sink.frames[count:]} == {10}
    settings["freeze"] = False
    wait_until(lambda: sink.shows()[0] == 20)


def test_blackout_fades(output: Output, stage: Stage, sink: Sink, settings: dict[str, Any]) -> None:
    stage.paint(200)
    wait_until(lambda: bool(sink.frames) and sink.shows()[0] == 200)
    settings["blackout"] = 0.5
    wait_until(lambda: sink.shows()[0] == 100)
    settings["blackout"] = 1.0
    wait_until(lambda: sink.shows()[0] == 0)
    settings["blackout"] = 0.0
    wait_until(lambda: sink.shows()[0] == 200)


def test_darkened_rounds_down_to_black_only_at_the_end() -> None:
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    assert darkened(image, 0.0) is image
    half = darkened(image, 0.5)
    assert half.dtype == np.uint8
    assert np.array_equal(half, image // 2)
    assert not darkened(image, 1.0).any()


def test_a_chosen_fallback_holds_while_the_stage_is_down(stage: Stage, sink: Sink) -> None:
    output = Output(stage, values(), [sink], fallback=np.full((8, 8, 3), 77, np.uint8))
    output.start()
    try:
        wait_until(lambda: bool(sink.frames) and sink.shows()[0] == 77)
        stage.paint(10)
        wait_until(lambda: sink.shows()[0] == 10)
        stage.down = True
        wait_until(lambda: sink.shows()[0] == 77)
        stage.down = False
        wait_until(lambda: sink.shows()[0] == 10)
    finally:
        output.close()


def test_freeze_holds_the_picture_although_the_stage_is_down(stage: Stage, sink: Sink) -> None:
    settings = values()
    output = Output(stage, settings, [sink], fallback=np.full((8, 8, 3), 77, np.uint8))
    stage.paint(10)
    output.start()
    try:
        wait_until(lambda: bool(sink.frames) and sink.shows()[0] == 10)
        settings["freeze"] = True
        stage.down = True
        count = len(sink.frames)
        wait_until(lambda: len(sink.frames) > count + 5)
        assert {int(frame.image[0, 0, 0]) for frame in sink.frames[count:]} == {10}
        settings["freeze"] = False
        wait_until(lambda: sink.shows()[0] == 77)
    finally:
        output.close()


def test_a_frame_that_cannot_be_made_costs_no_later_one(
    output: Output, stage: Stage, sink: Sink, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(image: np.ndarray, dark: float) -> np.ndarray:
        raise MemoryError("no room for it")

    stage.paint(200)
    wait_until(lambda: bool(sink.frames) and sink.shows()[0] == 200)
    with monkeypatch.context() as change:
        change.setattr(output_module, "darkened", broken)
        settings["blackout"] = 0.5
        count = len(sink.frames)
        wait_until(lambda: len(sink.frames) > count + 5)
        assert sink.shows()[0] == 200, "the last one goes out meanwhile"
    wait_until(lambda: sink.shows()[0] == 100)


def test_without_a_fallback_the_last_picture_holds(output: Output, stage: Stage, sink: Sink) -> None:
    stage.paint(10)
    wait_until(lambda: bool(sink.frames) and sink.shows()[0] == 10)
    stage.picture, stage.down = None, True
    count = len(sink.frames)
    wait_until(lambda: len(sink.frames) > count + 5)
    assert sink.shows()[0] == 10


class Clock:
    """Stands in for the module `time`: it goes on only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now

    time = monotonic = perf_counter

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def when_sent(
    stage: Stage, settings: dict[str, Any], count: int, monkeypatch: pytest.MonkeyPatch, clock: Clock,
    hold: Callable[[int], None] = lambda number: None,
) -> list[float]:  # fmt: skip
    """Seconds at which so many frames go out, by that clock. `hold` is called with each number while it is sent."""
    times: list[float] = []

    class Timed(Sink):
        def send(self, frame: OutputFrame) -> None:
            times.append(clock.now - 100)
            output._closing = frame.number == count
            hold(frame.number)

    output = Output(stage, settings, [Timed()])
    monkeypatch.setattr(output_module, "time", clock)
    monkeypatch.setattr(output_module, "_hurry", lambda: None)
    output._run()
    return times


def test_a_new_rate_is_taken_at_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = values(output_fps=1.0)

    class Turned(Clock):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            if self.now > 101.4:  # while the third frame is waited for
                settings["output_fps"] = 100.0

    times = when_sent(stage, settings, 5, monkeypatch, Turned())
    assert times[:2] == pytest.approx([0.0, 1.0])
    assert times[2] == pytest.approx(1.4, abs=2 * output_module.NAP)
    assert times[4] - times[3] == pytest.approx(0.01)


def test_ticks_that_were_missed_are_left_out(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sink that holds everything up once: what follows comes at its own pace, not in a burst."""

    clock = Clock()

    def hold(number: int) -> None:
        if number == 3:
            clock.now += 0.52

    times = when_sent(stage, values(output_fps=20.0), 7, monkeypatch, clock, hold)
    assert times == pytest.approx([0.0, 0.05, 0.1, 0.65, 0.7, 0.75, 0.8])


def test_a_sink_that_fails_takes_no_other_along(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    bad, good = Sink("bad", fails=True), Sink("good")
    output = Output(stage, values(), [bad, good])
    output.start()
    try:
        wait_until(lambda: len(good.frames) > 5)
        assert bad.tried > 4
        bad.fails = False
        wait_until(lambda: len(bad.frames) > 2)
    finally:
        output.close()
    assert sum("output bad failed" in record.getMessage() for record in caplog.records) == 1, "said once"


def test_a_sink_that_cannot_be_opened_says_so_and_closes_the_others(stage: Stage) -> None:
    first, second = Sink("first"), Sink("second")
    second.missing = True
    with pytest.raises(SinkMissing):
        Output(stage, values(), [first, second]).start()
    assert first.closed


def test_pace_is_measured(output: Output, stage: Stage, sink: Sink) -> None:
    stage.paint(1)
    wait_until(lambda: len(sink.frames) > 50)
    pace = output.pace()
    assert 0 < pace.fps < 110
    assert pace.largest_gap >= 1
    assert pace.jitter_ms > 0
    assert pace.frame_age_ms > 0


def test_frames_reach_another_program_through_shared_memory(stage: Stage) -> None:
    name = f"paintover-test-{uuid.uuid4().hex[:12]}"
    output = Output(stage, values(), [SharedSink(name)])
    output.start()
    try:
        reader = FrameReader(name)
        stage.paint(42)
        wait_until(lambda: (frame := reader.read()) is not None and int(frame.image[0, 0, 0]) == 42)
        frame = reader.read()
        assert frame is not None
        assert frame.image.shape == (64, 96, 3)
        assert abs(frame.time - time.time()) < 20
        with pytest.raises(SinkMissing, match="another program sends frames"):
            SharedSink(name).start()
    finally:
        output.close()
    assert reader.read() is None


def test_a_larger_frame_gets_new_memory_under_the_same_name() -> None:
    name = f"paintover-test-{uuid.uuid4().hex[:12]}"
    sink, reader = SharedSink(name), FrameReader(name)
    sink.start()
    for side in (256, 2048, 512):
        sink.send(OutputFrame(1, 0.0, np.full((side, side, 3), side // 16, np.uint8)))
        wait_until(lambda side=side: (frame := reader.read()) is not None and frame.image.shape[0] == side)  # type: ignore[misc]
    sink.close()
    assert reader.read() is None
