"""Which jobs that ended while Blender was away are offered, in which file."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bpy
import pytest

from paintover import away, pump
from paintover.bridge.messages import (
    CANCELLED,
    DONE,
    FAILED,
    RUNNING,
    Failure,
    Forget,
    Forgotten,
    Jobs,
    JobState,
    JobSummary,
    ListJobs,
)
from paintover.bridge.origin import Target
from paintover.panels import sidebar
from paintover.session import Session

from .scenes import Drawn
from .scripted import JOB, cube, deliver, offered, summary

pytestmark = pytest.mark.usefixtures("registered")


def summary_of(state: str) -> JobSummary:
    return JobSummary(JOB, "texture", state, "old red brick", views=8, painted=3)


def test_only_what_is_of_this_file_and_not_here_yet_is_offered() -> None:
    scene = bpy.context.scene
    names = [f"{number:032x}" for number in range(11)]
    jobs = (
        summary(names[0]),
        summary(names[1], place="another file's"),
        summary(names[2], scene="Other"),
        summary(names[3], place=""),
        summary(names[4], RUNNING),
        summary(names[5], RUNNING, followed=True),
        summary(names[6], CANCELLED, painted=2),
        summary(names[7], CANCELLED, painted=0),
        summary(names[8], FAILED, painted=2, resumable=False),
        summary(names[9]),
        summary(names[10]),
    )
    away.mark(scene, names[9])
    found = [job.job for job in away.offers(jobs, scene, [names[10]])]
    assert found == [names[6], names[4], names[0]], "the newest first"


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch, session: Session) -> Iterator[None]:
    """What the extension does when files are opened and saved."""
    monkeypatch.setattr(pump, "session", session)
    bpy.app.handlers.load_post.append(pump.file_opened)
    bpy.app.handlers.save_pre.append(pump.file_is_saved)
    yield
    bpy.app.handlers.load_post.remove(pump.file_opened)
    bpy.app.handlers.save_pre.remove(pump.file_is_saved)


def save(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    bpy.ops.wm.save_as_mainfile(filepath=str(path))


def offered_in(path: Path, *jobs: JobSummary) -> list[JobSummary]:
    bpy.ops.wm.open_mainfile(filepath=str(path))
    return away.offers(jobs, bpy.context.scene, ())


def painted_here(session: Session) -> JobSummary:
    """The server's word on a job that was just sent from the open file."""
    (bpy.context.scene.objects.get("Cube") or cube()).select_set(True)
    task = offered(session)
    sent = session.link.sent[-1].origin
    assert sent.identity
    return summary(task.job, RUNNING, identity=sent.identity)


@pytest.mark.usefixtures("handlers")
def test_a_scene_finds_its_jobs_under_another_name_and_in_another_file(session: Session, tmp_path: Path) -> None:
    save(tmp_path / "kitchen.blend")
    job = painted_here(session)
    bpy.context.scene.name = "Renamed"
    save(tmp_path / "other" / "kitchen.blend")
    assert offered_in(tmp_path / "other" / "kitchen.blend", job, dataclasses.replace(job, identity="")) == [job]
    assert offered_in(tmp_path / "kitchen.blend", job) == [job]


@pytest.mark.usefixtures("handlers")
def test_files_of_one_name_are_not_offered_each_others_jobs(session: Session, tmp_path: Path) -> None:
    kitchens = tmp_path / "one" / "kitchen.blend", tmp_path / "two" / "kitchen.blend"
    jobs = []
    for path in kitchens:
        bpy.ops.wm.read_factory_settings(use_empty=True)
        save(path)
        jobs.append(painted_here(session))
    for path, job in zip(kitchens, jobs, strict=True):
        assert offered_in(path, *jobs) == [job]
    assert {jobs[0].file, jobs[1].file} == {"kitchen.blend"}
    said = repr(session.link.sent)
    assert str(tmp_path) not in said
    assert tmp_path.name not in said, "no path leaves Blender"


@pytest.mark.usefixtures("handlers")
def test_copies_of_a_file_have_its_jobs_but_not_each_others(session: Session, tmp_path: Path) -> None:
    template, copies = tmp_path / "shot.blend", [tmp_path / "a" / "shot.blend", tmp_path / "b" / "shot.blend"]
    save(template)
    old = painted_here(session)
    save(template)
    jobs = []
    for path in copies:
        path.parent.mkdir()
        shutil.copy(template, path)
        assert offered_in(path, old) == [old]
        jobs.append(painted_here(session))
    assert len({job.identity for job in (old, *jobs)}) == 1
    for path, job in zip(copies, jobs, strict=True):
        assert offered_in(path, old, *jobs) == [job, old], "the newest first"
    assert offered_in(template, old, *jobs) == [old]


@pytest.mark.usefixtures("handlers")
def test_a_file_that_was_never_saved_finds_its_jobs_once_it_was(session: Session, tmp_path: Path) -> None:
    bpy.ops.wm.read_homefile(use_empty=True)
    job = painted_here(session)
    bpy.context.scene.name = "Renamed"
    save(tmp_path / "first.blend")
    save(tmp_path / "second.blend")
    moved = tmp_path / "moved.blend"
    (tmp_path / "second.blend").rename(moved)
    for path in (tmp_path / "first.blend", moved):
        assert offered_in(path, job) == [job]
    bpy.ops.wm.read_homefile(use_empty=True)
    bpy.context.scene.name = "Renamed"
    assert away.offers([job], bpy.context.scene, ()) == [], "a new file is another one"


def test_a_file_without_an_identity_finds_its_jobs_by_their_names(session: Session, tmp_path: Path) -> None:
    save(tmp_path / "kitchen.blend")
    job = painted_here(session)
    assert offered_in(tmp_path / "kitchen.blend", job) == [job]
    assert bpy.context.scene.paintover.identity == "", "it was not saved with it"


def test_copies_and_new_files_have_identities_of_their_own(tmp_path: Path) -> None:
    scene = bpy.context.scene
    away.identify(scene)
    before = scene.paintover.identity
    copy = scene.copy()
    away.identify(copy)
    assert len(copy.paintover.identity) == 32
    assert copy.paintover.identity != scene.paintover.identity == before
    away.identify_all()
    assert scene.paintover.identity == before, "as it is about to be saved for the first time"
    away.identify_all(opened=True)
    assert scene.paintover.identity != before, "a file that was never saved has what the start-up file has"


def test_what_a_file_got_is_remembered_in_it_and_bounded(tmp_path: Any) -> None:
    for number in range(100):
        away.mark(bpy.context.scene, f"{number:032x}")
    away.mark(bpy.context.scene, f"{70:032x}")
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "kitchen.blend"))
    assert away.origin(bpy.context.scene).file == "kitchen.blend"
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "kitchen.blend"))
    names = away.applied(bpy.context.scene)
    assert (len(names), names[-1], names[0]) == (64, f"{70:032x}", f"{36:032x}")


def test_dismiss_asks_nothing_of_the_file(session: Session) -> None:
    session.jobs = (summary(),)
    assert len(session.offers(bpy.context.scene)) == 1
    session.dismiss(JOB)
    assert session.link.sent == [Forget(JOB)]
    assert session.offers(bpy.context.scene) == []
    deliver(session, Jobs((summary(),)), Forgotten(JOB))
    assert session.offers(bpy.context.scene) == []
    assert away.applied(bpy.context.scene) == []


def test_the_list_is_asked_for_anew_when_a_job_ends(session: Session) -> None:
    cube()
    task = offered(session)
    asked = session.link.sent.count(ListJobs())
    deliver(session, JobState(task.job, CANCELLED, 0, Failure("cancelled", "Cancelled.", "")))
    assert session.link.sent.count(ListJobs()) == asked + 1
    deliver(session, Jobs((summary(task.job, CANCELLED, painted=1),)))
    assert [offer.job for offer in session.offers(bpy.context.scene)] == [task.job]


def test_a_submitted_job_says_where_it_comes_from(session: Session) -> None:
    ob = cube()
    ob.data.uv_layers.remove(ob.data.uv_layers[0])
    offered(session)
    origin = session.link.sent[-1].origin
    assert origin.targets == (Target("Cube", "Paintover", True),)
    assert (origin.scene, origin.file) == ("Scene", "")
    assert "@" in origin.client


@pytest.mark.parametrize(
    ("offer", "words", "buttons"),
    [
        (summary_of(DONE), "Finished while you were away:", ["paintover.take_over", "paintover.dismiss"]),
        (summary_of(RUNNING), "Being painted for this scene:", ["paintover.take_over"]),
        (summary_of(CANCELLED), "Stopped with 3 of 8 views finished:", ["paintover.resume", "paintover.dismiss"]),
        (summary_of(FAILED), "Failed with 3 of 8 views finished:", ["paintover.resume", "paintover.dismiss"]),
    ],
)
def test_the_panel_says_what_became_of_a_job_and_what_can_be_done(
    offer: JobSummary, words: str, buttons: list[str]
) -> None:
    drawn = Drawn()
    sidebar.draw_offer(drawn, offer)
    assert " ".join(drawn.words) == f"{words} old red brick"
    assert [button.name for button in drawn.buttons] == buttons
    assert {button.job for button in drawn.buttons} == {JOB}
