"""Jobs that ended while Blender was away: which are offered, and what becomes of them when they are taken over."""

from __future__ import annotations

import dataclasses
from typing import Any

import bpy
import numpy as np
import pytest

from paintover import away, dressing, meshes, uvs
from paintover.bridge.errors import DiskFull, QueueFull
from paintover.bridge.messages import (
    CANCELLED,
    DONE,
    QUEUED,
    Failure,
    Follow,
    Handover,
    ImageResult,
    JobState,
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
from paintover.session import Session
from paintover.takeover_task import TakeOverTask
from paintover.tasks import TaskState

from .scripted import JOB, cube, deliver, offered, prepare, summary
from .scripted import result as texture_of

pytestmark = pytest.mark.usefixtures("registered")

IMAGE = np.full((64, 64, 3), 200, np.uint8)


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


def test_a_scene_that_is_renamed_in_mid_job_gets_its_texture(session: Session) -> None:
    ob = cube()
    task = offered(session)
    bpy.context.scene.name = "Renamed"
    deliver(session, texture_of(task), JobState(task.job, DONE))
    assert ob.material_slots[0].material
    assert away.applied(bpy.context.scene) == [task.job]


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
