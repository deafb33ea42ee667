"""Jobs that ended while Blender was away: which are offered, and what becomes of them when they are taken over."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest

from paintover import away, dressing, meshes, pump, uvs
from paintover.bridge.errors import DiskFull, QueueFull
from paintover.bridge.messages import (
    CANCELLED,
    DONE,
    FAILED,
    QUEUED,
    RUNNING,
    Failure,
    Follow,
    Forget,
    Forgotten,
    Handover,
    ImageResult,
    Jobs,
    JobState,
    JobSummary,
    ListJobs,
    Notice,
    PaintedUVs,
    Resume,
    TakeOver,
    TextureResult,
    Trouble,
    ViewPainted,
)
from paintover.bridge.origin import Origin, Target
from paintover.bridge.parameters import Settings
from paintover.panels import sidebar
from paintover.session import Session
from paintover.takeover_task import TakeOverTask
from paintover.tasks import TaskState

from .scenes import Drawn
from .test_session import ScriptedLink, cube, deliver, offered, prepare
from .test_session import result as texture_of

pytestmark = pytest.mark.usefixtures("registered")

JOB = "5" * 32
IMAGE = np.full((64, 64, 3), 200, np.uint8)


@pytest.fixture
def session() -> Session:
    made = Session()
    made.link = ScriptedLink()
    return made


def summary(job: str = JOB, state: str = DONE, **fields: Any) -> JobSummary:
    ours = away.origin(bpy.context.scene)
    plain = {"file": ours.file, "scene": ours.scene, "place": ours.place, "views": 4, "resumable": state != DONE}
    return JobSummary(job, "texture", state, "moss", **{**plain, **fields})


def summary_of(state: str) -> JobSummary:
    return JobSummary(JOB, "texture", state, "old red brick", views=8, painted=3)


def painted_uvs(ob: Any, layer: str) -> PaintedUVs:
    """What the lost session had sent to be painted."""
    (mesh,) = meshes.collect(bpy.context.scene, [ob], {ob.name: layer})
    return PaintedUVs(JOB, mesh.object_id, mesh.name, mesh.uvs)


def take_over(session: Session, sent: PaintedUVs, target: Target, *, resume: bool = False) -> TakeOverTask:
    task = TakeOverTask(summary(), bpy.context.scene, resume=resume)
    session.start(task)
    prepare(session, task)
    assert session.link.sent[-1] == (Resume(JOB) if resume else TakeOver(JOB))
    handover = Handover(JOB, Settings(prompt="moss"), Origin(targets=(target,)))
    result = TextureResult(JOB, sent.object_id, sent.name, IMAGE, 0.9, 0.8, 0.0, Settings())
    deliver(session, handover, sent, ViewPainted(JOB, "view 1", IMAGE), result, JobState(JOB, DONE))
    return task


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


def test_a_scene_that_is_renamed_in_mid_job_gets_its_texture(session: Session) -> None:
    ob = cube()
    task = offered(session)
    bpy.context.scene.name = "Renamed"
    deliver(session, texture_of(task), JobState(task.job, DONE))
    assert ob.material_slots[0].material
    assert away.applied(bpy.context.scene) == [task.job]


def test_what_a_file_got_is_remembered_in_it_and_bounded(tmp_path: Any) -> None:
    for number in range(100):
        away.mark(bpy.context.scene, f"{number:032x}")
    away.mark(bpy.context.scene, f"{70:032x}")
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "kitchen.blend"))
    assert away.origin(bpy.context.scene).file == "kitchen.blend"
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "kitchen.blend"))
    names = away.applied(bpy.context.scene)
    assert (len(names), names[-1], names[0]) == (64, f"{70:032x}", f"{36:032x}")


def test_a_job_is_taken_over_by_name(session: Session) -> None:
    ob = cube()
    sent = painted_uvs(ob, "UVMap")
    ob.location.x = 5
    bpy.context.view_layer.update()
    task = take_over(session, sent, Target("Cube", "UVMap"))
    assert (task.state, task.error, task.notes) == (TaskState.DONE, None, [])
    assert ob.material_slots[0].material.name == "Paintover Cube"
    assert task.settings.prompt == "moss"
    assert JOB in away.applied(bpy.context.scene)
    session.jobs = (summary(),)
    assert session.offers(bpy.context.scene) == []
    assert task._uvs == {}, "it lets go of what is large"


@pytest.mark.parametrize("change", ["none", "mirrored", "array", "subdivided"])
def test_uvs_that_the_lost_session_made_are_made_again(session: Session, change: str) -> None:
    ob = cube()
    if change == "mirrored":
        ob.scale.x = -1
    if change == "array":
        ob.modifiers.new("Array", "ARRAY").count = 3
    if change == "subdivided":
        ob.modifiers.new("Subdivision", "SUBSURF")
    bpy.context.view_layer.update()
    ob.data.uv_layers.remove(ob.data.uv_layers[0])
    uvs.make(ob)
    sent = painted_uvs(ob, "Paintover")
    uvs.remove(ob.data)
    assert not ob.data.uv_layers
    task = take_over(session, sent, Target("Cube", "Paintover", made_uvs=True))
    assert task.error is None
    assert [layer.name for layer in ob.data.uv_layers] == ["Paintover"]
    assert np.allclose(painted_uvs(ob, "Paintover").uvs, sent.uvs, atol=1e-5)
    assert ob.material_slots[0].material.name == "Paintover Cube"
    assert "made again" in task.notes[0]
    assert uvs.remove(ob.data), "Revert knows the layer as its own"


@pytest.mark.parametrize("scale", [1, -1])
def test_stored_uvs_find_their_corners(scale: int) -> None:
    ob = cube()
    ob.scale.x = scale
    bpy.context.view_layer.update()
    change_uvs(ob)
    flat = np.empty(len(ob.data.loops) * 2, np.float32)
    ob.data.uv_layers[0].uv.foreach_get("vector", flat)
    assert np.array_equal(dressing._of_corners(ob, painted_uvs(ob, "UVMap")), flat)
    ob.modifiers.new("Subdivision", "SUBSURF").render_levels = 1
    grown = painted_uvs(ob, "UVMap")
    assert dressing._of_corners(ob, dataclasses.replace(grown, uvs=grown.uvs[:-1])) is None


def change_uvs(ob: Any) -> None:
    uv = ob.data.uv_layers[0].uv
    uv.foreach_set("vector", np.random.default_rng(0).random(len(ob.data.loops) * 2).astype(np.float32))


def subdivide(ob: Any) -> None:
    ob.modifiers.new("Subdivision", "SUBSURF")


def remove(ob: Any) -> None:
    bpy.data.objects.remove(ob)


def replace_by_light(ob: Any) -> None:
    remove(ob)
    light = bpy.data.objects.new("Cube", bpy.data.lights.new("Cube", "POINT"))
    bpy.context.scene.collection.objects.link(light)


def hide(ob: Any) -> None:
    ob.hide_render = True


def drop_layer(ob: Any) -> None:
    ob.data.uv_layers.remove(ob.data.uv_layers[0])


@pytest.mark.parametrize("change", [change_uvs, subdivide, remove, replace_by_light, hide, drop_layer])
def test_what_fits_no_object_any_more_is_kept_as_an_image(session: Session, change: Any) -> None:
    ob = cube()
    sent = painted_uvs(ob, "UVMap")
    change(ob)
    task = take_over(session, sent, Target("Cube", "UVMap"))
    assert task.state is TaskState.DONE
    assert "kept as the image “Paintover Cube”" in task.notes[0]
    assert tuple(bpy.data.images["Paintover Cube"].size) == (64, 64)
    assert not any(slot.material for one in bpy.data.objects for slot in one.material_slots)


def test_made_uvs_that_fit_no_more_leave_the_mesh_as_it_is(session: Session) -> None:
    ob = cube()
    ob.data.uv_layers.remove(ob.data.uv_layers[0])
    uvs.make(ob)
    sent = painted_uvs(ob, "Paintover")
    uvs.remove(ob.data)
    subdivide(ob)
    task = take_over(session, sent, Target("Cube", "Paintover", made_uvs=True))
    assert "kept as the image" in task.notes[0]
    assert not ob.data.uv_layers


def test_what_was_on_its_way_to_a_closed_file_is_not_taken_for_the_handover(session: Session) -> None:
    task = TakeOverTask(dataclasses.replace(summary(), kind="image"), bpy.context.scene)
    session.start(task)
    prepare(session, task)
    deliver(session, ImageResult(JOB, IMAGE, Settings()), JobState(JOB, DONE))
    assert not task.ended
    assert away.applied(bpy.context.scene) == []
    deliver(
        session,
        Handover(JOB, Settings(), Origin(camera="Close-up")),
        ImageResult(JOB, IMAGE, Settings()),
        JobState(JOB, DONE),
    )
    assert task.state is TaskState.DONE
    assert "Paintover Close-up" in bpy.data.images


def test_an_image_is_taken_over(session: Session) -> None:
    task = TakeOverTask(dataclasses.replace(summary(), kind="image"), bpy.context.scene)
    session.start(task)
    prepare(session, task)
    deliver(
        session,
        Handover(JOB, Settings(), Origin(camera="Close-up")),
        ImageResult(JOB, IMAGE, Settings()),
        JobState(JOB, DONE),
    )
    assert tuple(bpy.data.images["Paintover Close-up"].size) == (64, 64)


def test_a_resumed_job_goes_on_live_and_is_taken_up_again(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    task = TakeOverTask(summary(state=CANCELLED, painted=2), bpy.context.scene, resume=True)
    session.start(task)
    prepare(session, task)
    deliver(session, Handover(JOB, Settings(), Origin()), ViewPainted(JOB, "a", IMAGE), JobState(JOB, QUEUED))
    assert (task.state, task.finished, task.label) == (TaskState.WAITING, 1, "Resume")
    assert task.preview is IMAGE
    deliver(session, ViewPainted(JOB, "a", IMAGE), ViewPainted(JOB, "b", IMAGE))
    assert task.finished == 2, "the one that came twice counts once"
    task.take_up(session.link)
    assert session.link.sent[-1] == TakeOver(JOB)
    assert Follow(JOB) not in session.link.sent
    deliver(session, Trouble(Failure.of(QueueFull(limit=9)), JOB))
    assert task.state is TaskState.FAILED
    assert "9 jobs" in task.error.message
    assert session.error is None, "the task says it"


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


def test_an_ended_task_lets_go_of_what_is_large(session: Session) -> None:
    cube()
    done, failed = offered(session), offered(session)
    for task in (done, failed):
        assert task.views
        assert task._meshes
    deliver(session, ViewPainted(done.job, "a", IMAGE), JobState(done.job, DONE))
    failed.fail(QueueFull(limit=1))
    for task in (done, failed):
        assert (task.views, task._meshes, task.painted) == ([], {}, {})
    assert done.finished == 1


def test_a_full_disk_is_said_and_stops_nothing(session: Session) -> None:
    cube()
    task = offered(session)
    deliver(session, Notice(Failure.of(DiskFull(what="a job", folder="/data"))))
    assert isinstance(session.error, DiskFull)
    assert task.state is TaskState.WAITING


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
