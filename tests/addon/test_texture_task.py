"""A texture job inside Blender: what is rendered for it, and what it leaves, when the scene changes meanwhile."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import bpy
import numpy as np
import pytest

from paintover import textures
from paintover.bridge.errors import Cancelled, SceneError
from paintover.bridge.messages import (
    CANCELLED,
    DONE,
    RUNNING,
    Failure,
    JobState,
    MeshesMissing,
    MeshQuery,
    MeshUpload,
    Progress,
    Submit,
)
from paintover.passes import offstage
from paintover.session import Session
from paintover.tasks import TaskState
from paintover.texture_task import TextureTask

from .scenes import glow
from .scripted import cube, deliver, offered, prepare, result, start, until

pytestmark = pytest.mark.usefixtures("registered")


def places(task: TextureTask) -> list[float]:
    """How far right in the world the cube is by each view: the middle of what is seen of it."""
    found = []
    for view in task.views:
        origins, directions = view.camera.rays()
        world = (origins + np.where(np.isfinite(view.depth), view.depth, 0)[..., None] * directions).reshape(-1, 3)
        to_world = np.linalg.inv(view.camera.view)
        x = (world @ to_world[:3, :3].T + to_world[:3, 3])[view.object_id.ravel() > 0, 0]
        found.append(float((x.min() + x.max()) / 2))
    return found


def move(ob: Any) -> None:
    ob.location.x = 4.0


def edit(ob: Any) -> None:
    for vertex in ob.data.vertices:
        vertex.co.x += 4.0


def modify(ob: Any) -> None:
    modifier = ob.modifiers.new("Array", "ARRAY")
    modifier.count, modifier.use_relative_offset, modifier.use_constant_offset = 2, False, True
    modifier.constant_offset_displace = (8, 0, 0)


@pytest.mark.parametrize(("stage", "ticks"), [("Placing cameras", 2), ("view 1 of 2", 0), ("view 2 of 2", 0)])
@pytest.mark.parametrize("change", [move, edit, modify])
def test_what_changes_while_passes_are_rendered_is_rendered_anew(
    session: Session, stage: str, ticks: int, change: Any
) -> None:
    ob, task = cube(), start(session)
    until(session, task, stage)
    for _ in range(ticks):
        session.tick()
    change(ob)
    prepare(session, task)
    assert task.error is None
    (mesh,) = task._meshes.values()
    low, high = mesh.positions[:, 0].min(), mesh.positions[:, 0].max()
    assert (low + high) / 2 == pytest.approx(4, abs=0.01)
    assert places(task) == pytest.approx([4, 4], abs=0.3), "all views show it where it is in the end"


def test_what_changes_again_and_again_is_said(session: Session) -> None:
    ob, task = cube(), start(session)
    for _ in range(2):
        until(session, task, "view 2 of 2")
        ob.location.x += 1
        session.tick()
    assert task.state is TaskState.FAILED
    assert "moved, changed or renamed" in task.error.message
    assert "run it again" in task.error.hint


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_scrubbing_while_passes_are_rendered_changes_nothing(session: Session, strength: float) -> None:
    scene, ob = bpy.context.scene, cube()
    ob.data.materials.append(glow())
    for frame, x in ((1, 0.0), (10, 9.0)):
        ob.location.x = x
        ob.keyframe_insert("location", frame=frame)
    scene.frame_set(4)
    before = ob.matrix_world.translation.x
    task = start(session, strength=strength)
    until(session, task, "view 2 of 2")
    scene.frame_set(10)
    prepare(session, task)
    assert task.error is None
    assert places(task) == pytest.approx([before, before], abs=0.1)
    assert scene.frame_current == 10
    if strength < 1:
        for view in task.views:
            inside = view.object_id > 0
            assert view.color[inside][:, :3].mean() > 150, "the colours show it there too"
            assert view.color[~inside][:, :3].mean() < 20
    else:
        assert task.views[0].color is None


@pytest.mark.parametrize("stage", ["Placing cameras", "view 1 of 2", "view 2 of 2"])
def test_a_target_that_is_renamed_meanwhile_is_painted(session: Session, stage: str) -> None:
    ob, task = cube(), start(session)
    until(session, task, stage)
    ob.name = "Renamed"
    prepare(session, task)
    deliver(session, MeshesMissing(()))
    assert [target.name for target in session.link.sent[-1].origin.targets] == ["Renamed"]
    deliver(session, result(task))
    assert (task.error, task.notes) == (None, [])
    assert ob.material_slots[0].material.name == "Paintover Renamed"


def test_from_scene_to_material_one_view_a_tick(session: Session) -> None:
    ob, task = cube(), start(session)
    assert prepare(session, task) >= 5, "checks, meshes, cameras and each view are ticks of their own"
    (query,) = session.link.sent
    assert isinstance(query, MeshQuery)
    deliver(session, MeshesMissing(query.hashes))
    upload, submit = session.link.sent[1:]
    assert isinstance(upload, MeshUpload)
    assert isinstance(submit, Submit)
    assert submit.request.meshes == query.hashes == (upload.mesh.content_hash(),)
    assert len(submit.request.views) == 2
    deliver(session, JobState(task.job, RUNNING), Progress(task.job, "Painting", 0.5))
    assert (task.state, task.stage, task.fraction) == (TaskState.RUNNING, "Painting", 0.5)
    deliver(session, result(task), JobState(task.job, DONE))
    assert task.state is TaskState.DONE
    assert ob.material_slots[0].material.name == "Paintover Cube"
    assert task.coverage == {"Cube": 0.9}


def test_a_renamed_object_is_still_found(session: Session) -> None:
    ob = cube()
    task = offered(session)
    ob.name = "Renamed"
    deliver(session, result(task))
    assert task.error is None
    assert ob.material_slots[0].material


def test_the_texture_of_a_deleted_object_is_kept(session: Session) -> None:
    ob = cube()
    task = offered(session)
    bpy.data.objects.remove(ob)
    deliver(session, result(task))
    assert task.error is None
    assert bpy.data.images["Paintover Cube"].size[0] == 64
    assert "is gone" in task.notes[-1]


def test_a_texture_that_arrives_in_edit_mode_is_kept(session: Session) -> None:
    cube()
    task = offered(session)
    bpy.ops.object.mode_set(mode="EDIT")
    deliver(session, result(task), JobState(task.job, DONE))
    bpy.ops.object.mode_set(mode="OBJECT")
    assert task.state is TaskState.DONE
    assert "Paintover Cube" in bpy.data.images
    assert "Edit Mode" in task.notes[-1]


def test_cameras_are_placed_by_what_renders_if_the_viewport_shows_something_else(session: Session) -> None:
    ob = cube()
    modifier = ob.modifiers.new("Array", "ARRAY")
    modifier.count, modifier.show_viewport = 5, False
    task = start(session)
    prepare(session, task)
    (mesh,) = task._meshes.values()
    assert len(mesh.triangles) == 5 * 12
    for view in task.views:
        pixels, _ = view.camera.project(mesh.positions)
        assert (pixels > 0).all(), "all copies are in the picture"
        assert (pixels < 64).all()


def bare_cube() -> Any:
    """A cube with no UVs, so that painting it makes some."""
    ob = cube()
    ob.data.uv_layers.remove(ob.data.uv_layers[0])
    return ob


def layers(ob: Any) -> list[str]:
    return [layer.name for layer in ob.data.uv_layers]


def test_a_cancelled_job_leaves_the_uvs_that_a_painted_twin_wears(session: Session) -> None:
    ob = bare_cube()
    twin = ob.copy()
    twin.location.x += 3  # in one place, cameras would see only one of the two
    bpy.context.scene.collection.objects.link(twin)
    twin.select_set(False)
    painted = offered(session)
    deliver(session, result(painted), JobState(painted.job, DONE))
    ob.select_set(False)
    twin.select_set(True)
    task = offered(session)
    session.cancel()
    deliver(session, JobState(task.job, CANCELLED, 0, Failure("cancelled", "Cancelled.", "")))
    assert layers(ob) == ["Paintover"]
    textures.revert(ob)
    assert layers(ob) == []


def test_a_cancelled_job_leaves_the_uvs_that_another_one_needs(session: Session) -> None:
    ob = bare_cube()
    first, second = offered(session), offered(session)
    first.fail(Cancelled())
    assert layers(ob) == ["Paintover"]
    second.fail(Cancelled())
    assert layers(ob) == [], "the last one takes them away"


def test_revert_leaves_the_uvs_that_a_job_under_way_needs(session: Session) -> None:
    ob = bare_cube()
    painted, task = offered(session), offered(session)
    deliver(session, result(painted), JobState(painted.job, DONE))
    textures.revert(ob)
    assert layers(ob) == ["Paintover"]
    deliver(session, result(task), JobState(task.job, DONE))
    assert textures.is_painted(ob)
    textures.revert(ob)
    assert layers(ob) == []


@pytest.mark.parametrize("sent", [True, False])
def test_undo_in_mid_job_costs_no_texture(session: Session, sent: bool) -> None:
    bare_cube()
    bpy.ops.ed.undo_push(message="Bare cube")
    bpy.ops.ed.undo_push(message="Something else")
    task = start(session)
    if sent:
        prepare(session, task)
        deliver(session, MeshesMissing(()))
    else:
        until(session, task, "view 1 of 2")
    assert layers(bpy.context.object) == ["Paintover"]
    bpy.ops.ed.undo()
    ob = bpy.context.object
    assert layers(ob) == [], "the job's UVs were undone with the rest"
    prepare(session, task)
    deliver(session, result(task), JobState(task.job, DONE))
    assert (task.error, task.state) == (None, TaskState.DONE)
    assert layers(ob) == ["Paintover"]
    assert textures.is_painted(ob)


def test_a_step_that_cannot_put_back_what_it_changed_keeps_nothing_else_from_it(session: Session) -> None:
    ob = bare_cube()
    task, other = start(session), start(session)
    until(session, task, "view 1 of 2")
    assert layers(ob) == ["Paintover"]

    def stubborn(steps: Any) -> Any:
        try:
            yield from steps
        finally:
            raise RuntimeError("it cannot be put back")

    task._steps = stubborn(task._steps)
    session.tick()
    session.leave_file()
    assert [task.state, other.state] == [TaskState.CANCELLED] * 2
    assert layers(ob) == [], "the UVs that it made are taken away"
    assert not task._meshes, "what is large is let go"
    assert any("could not be taken back" in note for note in task.notes)


def test_nothing_is_rendered_beside_blenders_own_render(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    cube()
    task = start(session)
    until(session, task, "view 1 of 2")
    app = SimpleNamespace(is_job_running=lambda kind: kind == "RENDER")
    monkeypatch.setattr(offstage, "bpy", SimpleNamespace(app=app, context=bpy.context))
    session.tick()
    assert "Blender is rendering" in task.error.message
    assert "Wait" in task.error.hint


def test_a_mesh_that_is_edited_by_way_of_another_object_is_said(session: Session) -> None:
    ob = cube()
    twin = ob.copy()
    bpy.context.scene.collection.objects.link(twin)
    twin.select_set(False)
    task = start(session)
    until(session, task, "Checking the UVs")
    bpy.context.view_layer.objects.active = twin
    bpy.ops.object.mode_set(mode="EDIT")
    session.tick()
    assert "the mesh of 'Cube' is in Edit Mode" in task.error.message
    with pytest.raises(SceneError, match="Edit Mode, by way of"):
        start(session)
