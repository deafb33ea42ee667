"""A shot that a motion module paints: its frames in clips, cuts, borders, and the whole of it as a job."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")


from paintover.bridge.errors import BadParameter, BadPasses, Cancelled
from paintover.bridge.messages import FramePainted, FrameWanted, JobState, Progress, Resume
from paintover.bridge.parameters import Settings
from paintover.bridge.shot import ShotFrame
from paintover.server import models
from paintover.server.animation.clip import animate_clip
from paintover.server.animation.job import Painted
from paintover.server.fake_engine import FakeEngine
from paintover.server.pipelines.engine import DiffusersEngine
from paintover.server.pipelines.motion import OVERLAP, WINDOW
from paintover.server.worker_messages import State

from ..server_process import running
from .shot_client import Artist, same, shot
from .tiny_models import Recorder, write_model, write_motion
from .wall_and_post import shot as frames

FREE = WINDOW - OVERLAP
LOOK = Settings(prompt="moss", model="tiny", seed=3, steps=2, guidance=1.0, control_depth=False, animate_motion="sway")


@pytest.fixture(scope="module", autouse=True)
def registry(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Iterator[Path]:
    patch, data = pytest.MonkeyPatch(), tmp_path_factory.mktemp("data")
    patch.setenv("PAINTOVER_DATA", str(data))
    models.add(write_model(data / "tiny", "sd15"), name="tiny")
    models.add(write_motion(data / "sway"), kind="motion")
    yield data
    patch.undo()


@pytest.fixture(scope="module")
def engine() -> DiffusersEngine:
    return DiffusersEngine("cpu")


def given(count: int, *cuts: int) -> list[ShotFrame]:
    return list(frames(count, lambda _: LOOK, 1, frozenset(cuts)))


def painted(engine: DiffusersEngine, shown: list[ShotFrame], state: State | None = None) -> list[Painted]:
    return list(animate_clip(engine, iter(shown), Recorder(), state))


def test_frames_come_in_order_and_windows_say_where_to_go_on(engine: DiffusersEngine) -> None:
    found = painted(engine, given(30))
    assert [one.number for one in found] == list(range(1, 31))
    assert [one.number for one in found if one.state] == [FREE, 2 * FREE]
    assert all(one.fresh == 1 for one in found)


def test_it_goes_on_the_same_from_any_border(engine: DiffusersEngine) -> None:
    shown = given(40, 20)
    whole = painted(engine, shown)
    borders = [one for one in whole if one.state]
    assert [one.number for one in borders] == [12, 31]
    for border in borders:
        again = painted(engine, shown[border.number :], border.state)
        assert [one.number for one in again] == list(range(border.number + 1, 41))
        for one, other in zip(again, whole[border.number :], strict=True):
            np.testing.assert_array_equal(one.image, other.image)


def test_a_cut_begins_a_clip_of_its_own(engine: DiffusersEngine) -> None:
    shown = given(9, 5)
    whole, first, second = painted(engine, shown), painted(engine, shown[:4]), painted(engine, shown[4:])
    for one, other in zip(whole, first + second, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
    uncut = painted(engine, given(9))
    assert any((one.image != other.image).any() for one, other in zip(whole, uncut, strict=True))


def test_damaged_passes_and_cancelling(engine: DiffusersEngine) -> None:
    shown = given(3)
    depth = np.full_like(shown[1].passes.depth, np.nan)
    shown[1] = dataclasses.replace(shown[1], passes=dataclasses.replace(shown[1].passes, depth=depth))
    with pytest.raises(BadPasses):
        painted(engine, shown)
    with pytest.raises(Cancelled):
        list(animate_clip(engine, iter(given(20)), Recorder(stop_at=4)))


def test_no_more_frames_are_held_than_a_window_has(engine: DiffusersEngine) -> None:
    taken = 0

    def counted() -> Iterator[ShotFrame]:
        nonlocal taken
        for frame in frames(60, lambda _: LOOK, 1):
            taken += 1
            yield frame

    ahead = [taken - number for number, _ in enumerate(animate_clip(engine, counted(), Recorder()))]
    assert max(ahead) == WINDOW
    assert len(ahead) == 60


def test_every_engine_can_be_asked() -> None:
    found = list(animate_clip(FakeEngine(), iter(given(5, 3)), Recorder()))  # type: ignore[arg-type]
    assert [one.number for one in found] == [1, 2, 3, 4, 5]


# ---------------------------------------------------------------- the whole server


def test_as_a_job_it_comes_out_bit_for_bit(registry: Path) -> None:
    """Through a cancel, the worker's death and the server's."""
    settings = dataclasses.replace(LOOK, animate_interval=4)
    asked = shot(30, settings=settings)
    with running(registry, "diffusers", "--no-standby") as server, server.client() as client:
        first = Artist(client, asked)
        undisturbed = first.finish()
        assert [message.number for message in first.of(FramePainted)] == list(range(1, 31))
        told = [message for message in first.of(Progress) if "together" in message.stage]
        assert told[0].stage.startswith("Frames 1 to 16 together, step 1 of ")
        shares = [message.fraction for message in first.of(Progress)]
        assert shares == sorted(shares)
        artist = Artist(client, asked)
        artist.keeps = False
        artist.painted(5)
        server.worker().kill()
        artist.painted(13)
        client.cancel(artist.job)
        with pytest.raises(Cancelled):
            artist.finish()
        before = len(artist.heard)
        artist.keeps = True  # else, if the whole window was painted by then, no more frames would be asked for
        client.send(Resume(artist.job))
        artist.until(lambda message: isinstance(message, FrameWanted))
        assert artist.of(FrameWanted)[-1].place == FREE, "behind the first window"
        assert not [message for message in artist.heard[before:] if isinstance(message, JobState) and message.failure]
        server.process.kill()
        server.process.wait(20)
    with running(registry, "diffusers", "--no-standby") as server, server.client() as client:
        client.send(Resume(artist.job))
        pictures = Artist(client, asked, artist.job).finish()
    assert same({**artist.pictures, **pictures}, undisturbed)
    assert len({picture.tobytes() for picture in undisturbed.values()}) == 30


def test_a_model_without_motion_modules_says_so(registry: Path) -> None:
    models.add(write_model(registry / "xl", "sdxl"), name="xl")
    with running(registry, "diffusers", "--no-standby") as server, server.client() as client:
        for model, word in (("xl", "sdxl"), ("mini", "built otherwise")):
            with pytest.raises(BadParameter, match=word) as caught:
                Artist(client, shot(3, settings=dataclasses.replace(LOOK, model=model))).finish()
            assert "sd15" in caught.value.hint
