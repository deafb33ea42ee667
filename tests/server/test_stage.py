"""The stage as clients see it: a real server and worker with the null stream, real sockets and shared memory."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from paintover.bridge import PROTOCOL, VERSION
from paintover.bridge.errors import BadPasses, SourceReplaced
from paintover.bridge.frames import Frame, FrameReader
from paintover.bridge.live import LIVE_BY_NAME, LiveSettings
from paintover.bridge.live_messages import (
    ERROR,
    FROZEN,
    RUNNING,
    LiveEvent,
    LiveFrame,
    LiveJoin,
    LiveLeave,
    LivePicture,
    LiveStatus,
    LiveTrigger,
    LiveTrouble,
    LiveValues,
)
from paintover.bridge.messages import Generate, Hello, ImageResult, Ping, Pong
from paintover.bridge.parameters import Settings
from paintover.bridge.wire import encode
from paintover.server.fake_engine import color_of

from ..bridge.conftest import make_passes
from ..server_process import TOKEN, ServerProcess, running
from ..waiting import wait_until
from .live_client import LiveClient, color
from .recovery import finish, of_type


def expected(**values: object) -> tuple[int, ...]:
    return tuple(int(value) for value in (color_of(LiveSettings(**values)) * 255).round())  # type: ignore[arg-type]


@pytest.fixture
def live(server: ServerProcess) -> Iterator[LiveClient]:
    with LiveClient(server) as client:
        yield client
        client.set(prompt="", feedback_amount=0.0, play=True, freeze=False, model="mini-turbo")
        client.client.send(Ping(9))
        client.until(Pong)


def test_frames_become_pictures(live: LiveClient) -> None:
    values = live.until(LiveValues).values
    assert set(values) == set(LIVE_BY_NAME)
    assert values["seed"] >= 0, "it says which seed was chosen"
    live.set(prompt="moss", seed=5, output_width=128, output_height=64)
    live.send(7)
    picture = live.picture(lambda picture: picture.number == 7 and picture.seed == 5)
    assert picture.image.shape == (64, 128, 3)
    picture = live.picture() if color(picture) != expected(prompt="moss", seed=5) else picture
    assert color(picture) == expected(prompt="moss", seed=5)
    live.set(seed=6)
    assert live.until(LiveStatus, lambda status: status.latency_ms > 0).state == RUNNING


def test_the_latest_wins(live: LiveClient) -> None:
    """A flood of frames ends with the last one, and most are never painted."""
    numbers = []
    for number in range(500):
        live.send(number)
    while not numbers or numbers[-1] != 499:
        numbers.append(live.picture().number)
    assert numbers == sorted(numbers)
    assert len(numbers) < 400
    assert live.until(LiveStatus, lambda status: status.dropped).dropped


def test_a_change_reaches_a_picture_and_the_others(server: ServerProcess, live: LiveClient) -> None:
    live.send(1)
    with LiveClient(server, source=False) as other:
        other.until(LiveValues)
        live.set(prompt="lava", seed=3, feedback_zoom=9.0)
        echoed: dict[str, object] = {}
        painted = False  # a picture that is painted quickly comes before the echo
        while not painted or set(echoed) < {"prompt", "seed", "feedback_zoom"}:
            message = other.until((LivePicture, LiveValues))
            painted |= isinstance(message, LivePicture) and color(message) == expected(prompt="lava", seed=3)
            echoed |= message.values if isinstance(message, LiveValues) else {}
        assert echoed["feedback_zoom"] == 1.5, "what is effective, not what was sent"
        trouble = live.until(LiveTrouble)
        assert (trouble.address, trouble.failure.code) == ("feedback/zoom", "clamped")


def test_nothing_is_painted_while_nothing_changes(live: LiveClient) -> None:
    live.set(feedback_amount=0.5)
    live.send(1)
    first = live.picture()
    assert live.picture() is not first, "with feedback every frame differs"
    live.set(freeze=True)
    live.until(LiveStatus, lambda status: status.state == FROZEN)
    live.until(LiveStatus, lambda status: status.fps == 0)
    live.set(freeze=False, feedback_amount=0.0)
    live.until(LiveStatus, lambda status: status.state == RUNNING)
    live.until(LiveStatus, lambda status: status.fps == 0)
    live.set(blackout=0.5, tempo_bpm=90.0)
    live.until(LiveValues)
    live.client.send(Ping(1))
    until_pong = []
    while not any(isinstance(message, Pong) for message in until_pong):
        until_pong.append(live.client.receive(60))
    assert not of_type(until_pong, LivePicture), "no frame depends on these"
    live.set(seed=77)
    assert live.picture().seed == 77


def test_a_killed_worker_comes_back_to_the_same_state(server: ServerProcess, live: LiveClient) -> None:
    live.set(prompt="brick", seed=11, steps=3, feedback_amount=0.25)
    live.send(41)
    live.picture(lambda picture: picture.number == 41 and picture.seed == 11)
    live.picture(lambda picture: color(picture) == expected(prompt="brick", seed=11))
    for _ in range(2):
        (worker,) = server.workers()
        told = server.log.read_text().count("takes the jobs")
        worker.kill()
        server.said("takes the jobs", told + 1)
        live.send(41)
        back = live.picture()
        assert (back.number, back.seed) == (41, 11)
        assert color(back) == expected(prompt="brick", seed=11)
        live.until(LiveStatus, lambda status: status.state == RUNNING)
        assert server.worker().pid != worker.pid
    with LiveClient(server, source=False) as other:
        values = other.until(LiveValues).values
        assert (values["steps"], values["feedback_amount"]) == (3, 0.25)


def test_frames_and_pictures_lie_on_boards_whoever_dies(server: ServerProcess) -> None:
    with LiveClient(server, side=256) as live:
        live.set(prompt="slate", seed=3, output_width=256, output_height=256)
        sent = 0
        for _ in range(2):
            before, boards = live.client._decoder.board, 0
            while boards < 3:
                sent += 1
                assert sent < 500, "boards are never used"
                live.send(sent)
                picture = live.picture(lambda picture: picture.number == sent)  # noqa: B023
                boards += live.client._posting is not None and live.client._decoder.board not in (None, before)
            assert color(picture) == expected(prompt="slate", seed=3)
            (worker,) = server.workers()
            told = server.log.read_text().count("takes the jobs")
            worker.kill()
            server.said("takes the jobs", told + 1)


def test_jobs_run_between_frames(live: LiveClient) -> None:
    live.set(feedback_amount=0.5)
    live.send(1)
    live.picture()
    request = Generate(Settings(steps=40, prompt="moss", seed=1), 64, 64)
    messages = finish(live.client, live.client.submit(request))
    assert of_type(messages, ImageResult)
    at = next(index for index, message in enumerate(messages) if isinstance(message, ImageResult))
    assert messages[at]
    assert live.picture(), "and the stream goes on"


def test_the_depth_that_a_picture_was_painted_from_goes_out_beside_it(tmp_path: Path) -> None:
    with (
        running(tmp_path, "fake", "--sink", "shared", "--sink", "depth") as server,
        LiveClient(server, side=64) as live,
    ):
        live.set(output_width=128, output_height=64)
        picture, beside = (FrameReader(f"paintover-{server.port}{name}") for name in ("", "-depth"))
        for number in (1, 2, 3):
            depth = np.full((64, 64), np.inf, np.float32)
            depth[:, : 16 * number] = 3.0
            live.send(number, passes=dataclasses.replace(live.passes, depth=depth))
            live.picture(lambda picture: picture.number == number)  # noqa: B023

            def beside_it(wide: int = 32 * number) -> Frame | None:
                frame = beside.read()
                return frame if frame and int((frame.image[0, :, 3] > 0).sum()) == wide else None

            assert wait_until(beside_it, 20).image.shape == (64, 128, 4)
            shown = picture.read()
            assert shown is not None
            assert shown.image.shape == (64, 128, 3)


@pytest.mark.skipif(sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="there is nothing to share out")
def test_who_paints_and_who_passes_on_keep_off_each_other(server: ServerProcess, live: LiveClient) -> None:
    every = os.sched_getaffinity(0)
    for number in range(100, 200):
        live.send(number)
        live.picture(lambda picture: picture.number == number)  # noqa: B023
        front, worker = (set(one.cpu_affinity()) for one in (psutil.Process(server.process.pid), server.worker()))
        if len(front) == len(worker) == len(every) - 1 and front | worker == every:
            break
    else:
        raise AssertionError(f"front on {front}, worker on {worker}")
    live.client.submit(Generate(Settings(prompt="moss"), 64, 64))
    live.until(ImageResult)
    assert set(server.worker().cpu_affinity()) == every, "jobs use what there is"


def test_a_job_without_end_of_frames_meanwhile(live: LiveClient) -> None:
    """Frames that come while a job runs: only the newest is kept, and painted after it."""
    live.send(1)
    live.picture()
    job = live.client.submit(Generate(Settings(steps=60, seed=1), 64, 64))
    for number in range(2, 40):
        live.send(number)
    live.set(seed=4)
    assert of_type(finish(live.client, job), ImageResult)
    live.set(seed=5)
    assert live.picture(lambda picture: picture.number == 39)


def test_what_goes_wrong_in_a_frame_is_said_and_the_picture_goes_on(live: LiveClient) -> None:
    live.send(1)
    live.picture()
    live.set(prompt="no GPU memory")
    trouble = live.until(LiveTrouble)
    assert trouble.failure.code == "out_of_memory"
    live.until(LiveStatus, lambda status: status.state == ERROR)
    live.set(prompt="moss", seed=8)
    assert live.picture(lambda picture: picture.seed == 8)


def test_a_worker_that_ends_in_a_frame_is_replaced(server: ServerProcess, live: LiveClient) -> None:
    live.send(1)
    live.picture()
    died = server.log.read_text().count("exit code 3")
    live.set(prompt="end")
    server.said("exit code 3", died + 1)
    live.set(prompt="moss", seed=9)
    assert live.picture(lambda picture: picture.seed == 9)


def test_a_stream_that_hangs_is_replaced(server: ServerProcess, live: LiveClient) -> None:
    live.send(1)
    live.picture()
    hung = server.worker()
    live.set(feedback_amount=0.5)
    live.until(LiveStatus, lambda status: status.fps > 0)
    live.set(prompt="deadlock")
    live.until(LiveStatus, lambda status: status.fps == 0)
    live.set(prompt="moss", seed=21)
    server.said(r"painted\s+no\s+frame\s+for\s+20\s+seconds")
    assert live.picture(lambda picture: picture.seed == 21)
    assert server.worker().pid != hung.pid


def test_a_model_that_is_not_there_changes_nothing(live: LiveClient) -> None:
    live.send(1)
    live.set(seed=3)
    live.picture(lambda picture: picture.seed == 3)
    live.set(model="nobody's", seed=4)
    trouble = live.until(LiveTrouble)
    assert (trouble.address, trouble.failure.code) == ("model", "missing_model")
    assert live.picture(lambda picture: picture.seed == 4)


def test_a_model_that_does_not_load_leaves_the_running_one(tmp_path: Path) -> None:
    entry = {"family": "sd15", "path": "/nowhere", "defaults": {"steps": 9}}
    (tmp_path / "models.json").write_text(json.dumps({"models": {"broken": entry}, "controls": {}}))
    with running(tmp_path) as server, LiveClient(server) as live:
        live.set(steps=4, seed=1)
        live.send(1)
        live.picture(lambda picture: picture.seed == 1)
        live.set(model="broken")
        assert live.until(LiveTrouble).failure.code == "missing_model"
        live.set(seed=2)
        live.picture(lambda picture: picture.seed == 2)
        with LiveClient(server, source=False) as other:
            values = other.until(LiveValues).values
        assert (values["model"], values["steps"]) == ("mini-turbo", 4), "as it was before"


def test_a_model_brings_what_suits_it(live: LiveClient) -> None:
    live.set(steps=3, model="mini")
    values = live.until(LiveValues).values
    while (values["guidance"], values["model"]) != (3.0, "mini"):
        values |= live.until(LiveValues).values
    assert values["steps"] == 3, "but what is set with it stays"


def test_bad_frames_are_reported(live: LiveClient) -> None:
    live.send(1)
    live.picture(lambda picture: picture.number == 1)
    for array, bad in (("depth", np.nan), ("depth", -np.inf), ("normal", np.inf)):
        values = getattr(live.passes, array).copy()
        values.reshape(-1)[-1] = bad
        live.send(2, passes=dataclasses.replace(live.passes, **{array: values}))
        assert isinstance(live.until(LiveTrouble).failure.error(), BadPasses)
    live.send(3)
    assert live.picture(lambda picture: picture.number != 1).number == 3


def test_a_frame_of_the_wrong_shape_is_reported(live: LiveClient) -> None:
    frame = LiveFrame(1, live.passes)
    object.__setattr__(frame.passes, "edge", np.zeros((3, 3), np.uint8))
    live.client.send(frame)
    assert "edge" in live.until(LiveTrouble).failure.message
    live.send(2, passes=make_passes(1, 1))
    assert live.picture(lambda picture: picture.number == 2), "a viewport of one pixel is no trouble"
    live.send(3, passes=make_passes(4104, 8))
    assert live.until(LiveTrouble).failure.code == "bad_size"


def test_the_newest_source_wins(server: ServerProcess, live: LiveClient) -> None:
    live.send(1)
    live.picture(lambda picture: picture.number == 1)
    with LiveClient(server) as other:
        assert isinstance(live.until(LiveTrouble).failure.error(), SourceReplaced)
        live.send(2)
        other.send(1)
        live.set(seed=6)
        assert other.picture(lambda picture: picture.number == 1)
        assert live.picture(lambda picture: picture.seed == 6).number == -1, "not from a frame of this client's"
        other.client.send(LiveTrigger("texture/run"))
        assert other.until(LiveEvent) == LiveEvent("texture/run")
        other.client.send(LiveLeave())
        other.client.send(LiveTrigger("texture/run"))
        live.client.send(LiveJoin(source=True, pictures=True))
        live.send(3)
        assert live.picture(lambda picture: picture.number == 3)


@pytest.mark.parametrize("how", ["leaves", "is gone", "only looks on"])
def test_the_older_source_goes_on_where_the_newer_one_ends(server: ServerProcess, live: LiveClient, how: str) -> None:
    """By itself, with its newest frame, as Blender sends them: two that are not answered, and then no more."""
    live.send(1)
    live.picture(lambda picture: picture.number == 1)
    with LiveClient(server) as other:
        live.until(LiveTrouble)
        other.send(1)
        assert other.picture(lambda picture: picture.number == 1)
        for number in (2, 3):
            live.send(number)
        live.client.send(Ping(1))
        live.until(Pong)
        if how == "leaves":
            other.client.send(LiveLeave())
        elif how == "only looks on":
            other.client.send(LiveJoin(pictures=True))
        else:
            other.client.close()
        assert live.picture(lambda picture: picture.number == 3)
        live.send(4)
        assert live.picture(lambda picture: picture.number == 4)
        live.client.send(LiveTrigger("texture/run"))
        assert live.until(LiveEvent) == LiveEvent("texture/run")


def test_the_older_source_goes_on_with_a_scene_that_stands_still(server: ServerProcess, live: LiveClient) -> None:
    live.send(1)
    live.picture(lambda picture: picture.number == 1)
    with LiveClient(server) as middle, LiveClient(server) as other:
        middle.until(LiveTrouble)
        other.send(5)
        other.picture(lambda picture: picture.number == 5)
        middle.client.send(LiveLeave())
        live.client.send(Ping(1))
        live.until(Pong)
        live.set(seed=606)
        assert other.picture(lambda picture: picture.seed == 606).number == 5, "who has left was not the newest"
        other.client.send(LiveLeave())
        assert live.picture(lambda picture: picture.number == 1)


def test_a_client_that_stops_reading_is_let_go(tmp_path: Path) -> None:
    # A server of its own: the log of one with many clients leaves lines out.
    with (
        running(tmp_path) as server,
        LiveClient(server) as live,
        socket.create_connection(("127.0.0.1", server.port)) as deaf,
    ):
        for message in (Hello(PROTOCOL, TOKEN, "deaf", VERSION), LiveJoin(pictures=True)):
            deaf.sendall(b"".join(encode(message)))
        live.set(feedback_amount=0.5, output_width=512, output_height=512)
        live.send(1)
        server.said(r"does not read its\s+answers")
        live.set(seed=19)
        assert live.picture(lambda picture: picture.seed == 19)


def test_unread_pictures_do_not_add_up(server: ServerProcess) -> None:
    """A client that was away finds the newest picture."""
    with LiveClient(server) as slow, LiveClient(server, source=False) as other:
        slow.send(1)
        slow.set(feedback_amount=0.5, seed=1)
        for _ in range(50):
            other.picture()
        slow.set(seed=2)
        other.picture(lambda picture: picture.seed == 2)
        slow.client.send(Ping(5))
        seen = []
        while not any(isinstance(message, Pong) for message in seen):
            seen.append(slow.client.receive(60))
        assert len(of_type(seen, LivePicture)) <= 3
        slow.set(feedback_amount=0.0)


def test_bytes_that_are_no_frame_cost_only_their_sender(server: ServerProcess, live: LiveClient) -> None:
    with server.client() as other:
        data = b"".join(encode(LiveFrame(1, make_passes(8, 8))))
        other._socket.sendall(data[:-10] + b"rubbish at the end")
        live.send(5)
        assert live.picture(lambda picture: picture.number == 5)
