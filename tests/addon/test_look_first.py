"""Look First: the contact sheet, and what it says of the shot."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import bpy
import pytest

from paintover import properties
from paintover.animate import look_first
from paintover.animate.estimate import Sample, estimate
from paintover.animate.look_first import IMAGE, LookTask, stretch
from paintover.bridge.errors import SenderGone
from paintover.bridge.messages import FAILED, Failure, JobState
from paintover.bridge.shot import ShotFrame, plan
from paintover.session import Session
from paintover.tasks import TaskState

from .shots import Server, film, render

pytestmark = pytest.mark.usefixtures("registered")

PLACES = list(plan(range(1, 25), 8))  # keyframes 1, 9, 17 and 24


def sample(number: int, **seconds: float) -> Sample:
    return Sample(next(place for place in PLACES if place.number == number), seconds)


def test_the_estimate() -> None:
    samples = [
        sample(1, load=40, encode=0.1, denoise=2, decode=0.2, total=42.5),
        sample(9, load=0, encode=0.1, denoise=1, decode=0.2, total=1.5),
        sample(2, total=0.1),
        sample(3, load=0, encode=0, denoise=0.2, decode=0, total=0.4),
    ]
    # 2.5 s for the first frame, of which denoising takes two; three times the steps take four more, …
    assert estimate(samples, 3, PLACES) == pytest.approx((2.5 + 4) + 3 * (1.5 + 2) + 20 * (0.1 + 0.4 + 0.4) / 2)
    assert estimate(samples, 1, PLACES) == pytest.approx(2.5 + 3 * 1.5 + 20 * 0.25)
    cut = [*plan(range(1, 9), 8), *plan(range(9, 25), 8)]
    assert estimate(samples, 1, cut) == pytest.approx(2 * 2.5 + 3 * 1.5 + 19 * 0.25), "a cut begins anew"


def test_the_estimate_where_blender_is_slower_than_the_server() -> None:
    samples = [sample(1, total=1), sample(9, total=1), sample(2, total=0.1)]
    assert estimate(samples, 1, PLACES, pace=30) == 24 * 30
    assert estimate(samples, 1, PLACES, pace=0.1) == pytest.approx(4 + 20 * 0.1)


def test_the_estimate_from_what_little_there_is() -> None:
    assert estimate([sample(1, total=2)], 1, PLACES[:1]) == 2
    assert estimate([sample(1, denoise=2, decode=1)], 2, list(plan([1, 2], 1))) == 10, "a motion adapter's stages"


def test_the_stretch_lies_in_the_middle_of_the_longest_part() -> None:
    assert list(stretch([(1, 2), tuple(range(10, 40)), (50,)], 8)) == list(range(20, 29))
    assert list(stretch([(5, 4, 3)], 8)) == [5, 4, 3]


def test_a_look_at_every_nth_frame_first(
    session: Session, scene: bpy.types.Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look_first, "time", SimpleNamespace(monotonic=lambda: 1.0))  # a Blender that takes no time
    film(scene, tmp_path / "frames", frames=10)
    settings = scene.paintover
    settings.look_every, settings.steps, settings.size, settings.seed = 4, 40, 512, -1
    task, server = LookTask(properties.snapshot(scene), scene), Server(session)

    def seconds(frame: ShotFrame) -> dict[str, float]:
        if frame.passes.camera.width < 512:  # the first one with what a warm-up takes
            return {"total": 99.0}
        return {"denoise": 1.0, "total": 1.2} if frame.key else {"total": 0.1}

    server.seconds = seconds
    session.start(task)
    server.run(task)
    assert task.state is TaskState.DONE, task.error
    small, large = server.shots.values()
    assert (small.numbers, small.settings.size, small.settings.animate_interval) == ((1, 5, 9), 256, 1)
    assert (large.numbers, large.settings.size, large.settings.animate_interval) == ((4, 5, 6, 7), 512, 3)
    assert (large.width, large.height) == (512, 344)
    assert {frame.settings.steps for frame in server.frames} == {8}
    assert [frame.number for frame in server.frames] == [1, 5, 9, 4, 7, 5, 6]
    assert not (tmp_path / "frames").exists()
    assert task.sheet is not None
    image = bpy.data.images[IMAGE]
    assert tuple(image.size) == task.sheet.shape[1::-1]
    assert task.sheet.shape[1] < 512 * 2, "thumbnails alone"
    # 4 keyframes with five times the steps, and 6 others.
    assert task.seconds == pytest.approx(4 * (1.2 + 4) + 6 * 0.1)
    assert "take roughly 21 s" in task.notes[-1]


def test_a_shot_becomes_what_was_looked_at(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    """With a seed of −1, too, which is chosen once: for the look or, where there are frames already, for these."""

    def look() -> int:
        task, server = LookTask(properties.snapshot(scene), scene), Server(session)
        session.start(task)
        server.run(task)
        assert task.state is TaskState.DONE, task.error
        return task.settings.seed

    film(scene, tmp_path, frames=4)
    scene.paintover.seed = -1
    assert look() != (seed := look()), "another one at each look"
    assert render(session)[0].settings.seed == seed
    assert look() == seed, "as long as there are frames"
    assert render(session, again=True)[0].settings.seed != seed


def test_a_look_says_how_far_it_is(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    film(scene, tmp_path, frames=10)
    scene.paintover.look_every = 4
    task, server = LookTask(properties.snapshot(scene), scene), Server(session)
    session.start(task)
    said: list[str] = []
    server.run(task, until=lambda: said.append(task.stage))
    assert task.state is TaskState.DONE, task.error
    assert "Thumbnail 3 of 3" in said
    assert [words for words in said if words.startswith("Timing the shot: frame ") and words.endswith(" of 4")]
    assert not [words for words in said if "of 7" in words], "which is no number of frames that anybody knows"


def test_a_look_goes_on_where_the_server_gave_it_up(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    """A Blender that slept for a while is taken for gone."""
    film(scene, tmp_path, frames=10)
    scene.paintover.look_every = 2
    task, server = LookTask(properties.snapshot(scene), scene), Server(session)
    session.start(task)
    server.run(task, until=lambda: len(server.kept) >= 2)
    server.say(JobState(task.job, FAILED, failure=Failure.of(SenderGone())))
    server.run(task)
    assert task.state is TaskState.DONE, task.error
    assert sorted(task._thumbnails) == [1, 3, 5, 7, 9]
