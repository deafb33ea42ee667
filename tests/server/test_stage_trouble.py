"""The stage when models, presets and troubles get into each other: a real server and worker with the null stream."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from paintover.bridge.aio import Channel
from paintover.bridge.frames import FrameReader
from paintover.bridge.live_messages import (
    FROZEN,
    RUNNING,
    LiveFrame,
    LiveJoin,
    LiveSet,
    LiveStatus,
    LiveTrigger,
    LiveTrouble,
    LiveValues,
)
from paintover.bridge.messages import Failure, Ping, Pong
from paintover.server.live.stage import Stage
from paintover.server.live.state import LiveState
from paintover.server.supervisor import Supervisor
from paintover.server.worker_messages import StreamPicture, StreamState

from ..bridge.conftest import make_passes
from ..server_process import ServerProcess, running
from ..waiting import wait_until
from .live_client import LiveClient, color
from .recovery import of_type
from .test_stage import expected


@pytest.fixture
def live(server: ServerProcess) -> Iterator[LiveClient]:
    with LiveClient(server) as client:
        yield client
        client.set(prompt="", play=True, freeze=False)
        client.client.send(Ping(9))
        client.until(Pong)


def many_values(server: ServerProcess) -> dict[str, object]:
    """All values, as a newcomer hears them."""
    with LiveClient(server, source=False, pictures=False) as other:
        values: dict[str, object] = dict(other.until(LiveValues).values)
        return values


def until_values(server: ServerProcess, **wanted: object) -> dict[str, object]:
    def found() -> dict[str, object] | None:
        values = many_values(server)
        return values if wanted.items() <= values.items() else None

    values: dict[str, object] = wait_until(found, 20, lambda: many_values(server))
    return values


@pytest.mark.parametrize(("seconds", "quantize"), [(0.0, 0), (0.3, 0), (0.0, 1), (0.3, 4)])
def test_a_preset_of_another_model_has_its_own_values_in_the_end(
    tmp_path: Path, seconds: float, quantize: int
) -> None:
    """A model brings values that suit it, but a preset's own come after them."""
    with running(tmp_path) as server, LiveClient(server) as live:
        live.set(model="mini")
        live.set(steps=7, guidance=2.5, tempo_bpm=999)
        live.client.send(LiveTrigger("preset/store", (1.0,)))
        live.set(model="mini-turbo", steps=3, guidance=1.5)
        live.set(tempo_quantize=quantize)
        live.client.send(LiveTrigger("preset/recall", (1.0, seconds)))
        until_values(server, model="mini")
        until_values(server, steps=7, guidance=2.5)
        # A change that waits for the beat after the next one: nothing else was waiting behind the preset.
        live.set(feedback_zoom=1.25)
        values = until_values(server, feedback_zoom=1.25)
        assert (values["model"], values["steps"], values["guidance"]) == ("mini", 7, 2.5)


@pytest.mark.parametrize("quantize", [0, 1])
def test_a_preset_whose_model_is_gone_changes_all_else_and_the_show_goes_on(tmp_path: Path, quantize: int) -> None:
    listed = {"models": {"own": {"family": "sd15", "path": str(tmp_path)}}, "controls": {}}
    (tmp_path / "models.json").write_text(json.dumps(listed))
    with running(tmp_path) as server, LiveClient(server) as live:
        live.set(model="own")
        live.set(prompt="lava", steps=7, tempo_bpm=999)
        live.client.send(LiveTrigger("preset/store", (1.0,)))
        live.set(model="mini-turbo", prompt="ice", steps=3)
        live.set(tempo_quantize=quantize)
        live.send(1)
        live.picture(lambda picture: color(picture) == expected(prompt="ice", seed=picture.seed))
        (tmp_path / "models.json").write_text(json.dumps({"models": {}, "controls": {}}))
        live.client.send(LiveTrigger("preset/recall", (1.0,)))
        assert live.until(LiveTrouble).failure.code == "missing_model"
        until_values(server, model="mini-turbo", prompt="lava", steps=7)
        live.picture(lambda picture: color(picture) == expected(prompt="lava", seed=picture.seed))
        live.set(seed=5)
        assert live.picture(lambda picture: picture.seed == 5)


def test_a_model_without_a_controlnet_switches_it_off_and_says_so_to_who_wants_it(tmp_path: Path) -> None:
    listed = {"models": {"bare": {"family": "sd15", "path": str(tmp_path)}}, "controls": {}}
    (tmp_path / "models.json").write_text(json.dumps(listed))
    with running(tmp_path) as server, LiveClient(server) as live:
        live.set(control_edge=True)
        live.set(model="bare")
        until_values(server, model="bare", control_normal=False, control_edge=False)
        live.set(control_edge=True)
        trouble = live.until(LiveTrouble)
        assert (trouble.address, trouble.failure.code) == ("control/edge/enable", "unsupported_control")
        live.until(LiveValues, lambda message: message.values == {"control_edge": False})  # what it is to show
        live.send(1)
        live.picture(lambda picture: picture.number == 1)
        live.set(model="mini-turbo")
        until_values(server, control_normal=True, control_edge=True)


async def test_a_controlnet_that_cannot_be_loaded_is_switched_off() -> None:
    state = LiveState()
    stage, failure = Stage(state, Supervisor("fake"), lambda model: {}), Failure("bad_model_file", "It is broken.", "")
    stage._hear(StreamState(RUNNING, failure=failure, refused="another", control="normal"))
    assert state.values["control_normal"]
    stage._hear(StreamState(RUNNING, failure=failure, refused=str(state.values["model"]), control="normal"))
    assert not state.values["control_normal"]


def test_a_model_whose_loading_kills_is_taken_back(tmp_path: Path) -> None:
    listed = {"models": {"deadly": {"family": "sd15", "path": str(tmp_path)}}, "controls": {}}
    (tmp_path / "models.json").write_text(json.dumps(listed))
    with running(tmp_path) as server, LiveClient(server) as live:
        live.set(prompt="lava", steps=3)
        live.send(1)
        live.picture(lambda picture: picture.number == 1)
        live.set(model="deadly")
        trouble = live.until(LiveTrouble).failure
        assert trouble.code == "worker_died"
        assert "with deadly" in trouble.message
        assert "back at mini-turbo" in trouble.hint
        live.send(2)
        again = live.picture(lambda picture: picture.number == 2)
        assert color(again) == expected(prompt="lava", seed=again.seed)
        until_values(server, model="mini-turbo", prompt="lava", steps=3)


async def test_workers_that_are_killed_between_frames_cost_no_model() -> None:
    state, supervisor = LiveState(), Supervisor("fake")
    stage = Stage(state, supervisor, lambda model: {})
    stage.start()
    state.set("model", "mini", origin=None, now=0.0)
    for number in range(10):
        stage._worker(False)
        stage._worker(True)
        stage._worker(False)
        stage._worker(True)
        stage._hear(StreamPicture(-1, number, np.zeros((8, 8, 3), np.uint8), 0, {}))
    state.set("freeze", True, origin=None, now=0.0)  # nothing is painted
    for _ in range(5):
        stage._worker(False)
        stage._worker(True)
    assert state.values["model"] == "mini"
    state.set("freeze", False, origin=None, now=0.0)
    for _ in range(3):
        stage._worker(False)
    assert state.values["model"] == "mini-turbo"
    await supervisor.close()


async def test_two_models_that_are_refused_do_not_take_turns() -> None:
    state = LiveState()
    stage, failure = Stage(state, Supervisor("fake"), lambda model: {}), Failure("bad_model_file", "It is broken.", "")
    state.set("model", "mini", origin=None, now=0.0)
    for model in ("mini", "mini-turbo", "mini-turbo"):
        stage._hear(StreamState(RUNNING, failure=failure, refused=model))
        assert state.values["model"] == "mini-turbo"


def test_what_came_while_it_was_frozen_is_dropped_but_the_newest(live: LiveClient) -> None:
    live.send(1)
    live.picture()
    before = live.until(LiveStatus).dropped
    live.set(freeze=True)
    live.until(LiveStatus, lambda status: status.state == FROZEN)
    for number in range(300):
        live.send(number)
        live.client.send(Ping(number))
        live.until(Pong)
    live.set(freeze=False)
    assert live.picture(lambda picture: picture.number == 299)
    assert live.until(LiveStatus, lambda status: status.dropped > before + 200)


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_frozen_picture_is_there_after_a_restart_of_the_server(tmp_path: Path, how: str) -> None:
    kept = tmp_path / "live-0-frozen.png"
    with running(tmp_path) as server, LiveClient(server) as live:
        live.set(prompt="moss", seed=5)
        live.send(1)
        live.picture(lambda picture: color(picture) == expected(prompt="moss", seed=5))
        reader = FrameReader(f"paintover-{server.port}")
        wait_until(lambda: (frame := reader.read()) and tuple(frame.image[9, 9]) == expected(prompt="moss", seed=5), 20)
        live.set(freeze=True)
        live.set(prompt="lava")
        if how == "killed":
            wait_until(kept.exists, 20)
            server.process.kill()
        else:
            server.stop()
    for _ in range(2):
        with running(tmp_path) as server, LiveClient(server) as live:
            reader = FrameReader(f"paintover-{server.port}")
            frame = wait_until(reader.read, 20)
            assert tuple(frame.image[9, 9]) == expected(prompt="moss", seed=5), "from the first frame on"
            assert color(live.picture()) == expected(prompt="moss", seed=5), "and who joins sees it"
            assert live.until(LiveStatus, lambda status: status.state in (FROZEN, RUNNING)).state == FROZEN
    with running(tmp_path) as server, LiveClient(server) as live:
        live.set(freeze=False)
        live.picture(lambda picture: color(picture) == expected(prompt="lava", seed=5))
        wait_until(lambda: not kept.exists(), 20)


def test_trouble_that_comes_with_every_frame_is_told_now_and_then(server: ServerProcess, live: LiveClient) -> None:
    said = server.log.read_text().count("The stream:")
    live.set(prompt="no memory")
    assert live.until(LiveTrouble).failure.code == "out_of_memory"
    begun, seen = time.monotonic(), []
    for number in range(200):
        live.send(number)
        live.client.send(Ping(number))
        while not isinstance(message := live.client.receive(60), Pong):
            seen.append(message)
        if not number % 20:
            live.set(seed=number)
            live.until(LiveValues)
    often = 1 + (time.monotonic() - begun) / 2
    assert len(of_type(seen, LiveTrouble)) <= often
    assert server.log.read_text().count("The stream:") - said <= often + 1


def test_a_flood_of_names_is_said_once_and_holds_nobody_up(server: ServerProcess, live: LiveClient) -> None:
    live.set(**{f"nothing {number}": 1 for number in range(20_000)})
    assert live.until(LiveTrouble).failure.code == "bad_parameter"
    live.client.send(Ping(1))
    seen: list[object] = []
    while Pong(1) not in seen:
        seen.append(live.client.receive(60))
    assert not of_type(seen, LiveTrouble)


@pytest.mark.parametrize("what", ["bad frames", "another source", "it leaves"])
async def test_the_frame_that_is_painted_from_stays_whatever_its_source_writes_then(what: str) -> None:
    """It lies where its source writes its frames, round and round: also those that are not painted from."""
    stage, source, passes = Stage(LiveState(), Supervisor("fake"), lambda model: {}), Channel(), make_passes(8, 8)
    stage.join(source, LiveJoin(source=True))
    stage.frame(source, LiveFrame(1, passes, np.full((8, 8, 3), 9, np.uint8)))
    before = passes.depth.copy()
    if what == "bad frames":
        stage.frame(source, LiveFrame(2, dataclasses.replace(passes, depth=np.full_like(passes.depth, np.nan))))
    elif what == "another source":
        stage.join(Channel(), LiveJoin(source=True))
    else:
        stage.leave(source)
    passes.depth[:] = np.nan
    control = stage.controls.newest
    assert control is not None
    assert control.passes is not None
    assert np.array_equal(control.passes.depth, before)
    assert (control.image == 9).all()


async def test_a_change_leaves_for_the_worker_at_once_and_before_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, client, left = Stage(LiveState(), Supervisor("fake"), lambda model: {}), Channel(), list[str]()
    monkeypatch.setattr(stage._supervisor, "stream", lambda message: left.append(type(message).__name__))
    monkeypatch.setattr(client, "send", lambda message: left.append(type(message).__name__))
    stage.set(client, LiveSet({"prompt": "moss", "seed": 7}))
    await asyncio.sleep(0)  # one turn of the loop
    assert [name for name in left if name in ("StreamSettings", "LiveValues")] == ["StreamSettings", "LiveValues"]
    assert stage._settings is not None
    assert (stage._settings.settings.prompt, stage._settings.settings.seed) == ("moss", 7)
