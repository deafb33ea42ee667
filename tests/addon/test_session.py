"""The session and its tasks inside Blender, over a scripted link: what becomes of them when things change meanwhile."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bpy
import numpy as np
import pytest

from paintover import images, properties, pump, textures
from paintover.bridge.errors import Cancelled, ConnectionLost, SceneError
from paintover.bridge.messages import (
    CANCELLED,
    DONE,
    FAILED,
    RUNNING,
    Cancel,
    Failure,
    Follow,
    ImageResult,
    Jobs,
    JobState,
    JobSummary,
    ListJobs,
    MeshesMissing,
    MeshQuery,
    MeshUpload,
    ModelInfo,
    Progress,
    Submit,
    TextureResult,
)
from paintover.bridge.parameters import PARAMETERS, Settings
from paintover.link import LinkState
from paintover.panels import preview, sidebar
from paintover.passes import offstage
from paintover.session import Session
from paintover.tasks import TaskState, ViewTask
from paintover.texture_task import TextureTask

from .scenes import Drawn, glow

pytestmark = pytest.mark.usefixtures("registered")


class ScriptedLink:
    """Stands in for the network: hands out what the test put in, and notes what was sent."""

    def __init__(self) -> None:
        self.state = LinkState.ONLINE
        self.events: list[Any] = []
        self.sent: list[Any] = []

    def poll(self, timeout: float = 0.0) -> Any | None:
        return self.events.pop(0) if self.events else None

    def send(self, message: Any) -> None:
        self.sent.append(message)

    def close(self) -> None:
        self.state = LinkState.OFFLINE


@pytest.fixture
def session() -> Session:
    made = Session()
    made.link = ScriptedLink()
    return made


def cube() -> Any:
    bpy.ops.mesh.primitive_cube_add()
    return bpy.context.object


def start(session: Session, **settings: Any) -> TextureTask:
    values = {"size": 64, "views": 2, "texture_size": 64, **settings}
    task = TextureTask(Settings(**values), bpy.context.scene, bpy.context.selected_objects, lit=False)
    session.start(task)
    return task


def prepare(session: Session, task: Any) -> int:
    """Tick until the task is prepared; returns how many ticks that took."""
    ticks = 0
    while task.preparing:
        session.tick()
        ticks += 1
        assert ticks < 1000
    return ticks


def deliver(session: Session, *messages: Any) -> None:
    """Let messages arrive, and tick until all are taken and applied (a tick ends early when its time is up)."""
    session.link.events = list(messages)
    while session.link.events or any(task.working and not task.preparing for task in session.tasks):
        session.tick()


def result(task: TextureTask) -> TextureResult:
    (mesh,) = task._meshes.values()
    image = np.full((64, 64, 3), 200, np.uint8)
    return TextureResult(task.job, mesh.object_id, mesh.name, image, 0.9, 0.8, 0.0, task.settings)


def until(session: Session, task: Any, stage: str) -> None:
    """Tick until this stage is about to begin."""
    for _ in range(400):
        if stage in task.stage:
            return
        session.tick()
    raise AssertionError(f"it never came to {stage!r}: {task.stage}, {task.error}")


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


def offered(session: Session) -> TextureTask:
    task = start(session)
    prepare(session, task)
    deliver(session, MeshesMissing(()))
    assert task.state is TaskState.WAITING
    return task


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


def test_another_file_is_opened_while_the_server_works(session: Session) -> None:
    cube()
    task = offered(session)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    other = cube()
    deliver(session, result(task), JobState(task.job, DONE))
    assert task.state is TaskState.DONE
    assert not other.material_slots, "an object of the same name in another file is another object"
    assert "Paintover Cube" in bpy.data.images


def test_another_file_is_opened_while_passes_are_rendered(session: Session) -> None:
    cube()
    task = start(session)
    session.tick()
    bpy.ops.wm.read_factory_settings(use_empty=True)
    prepare(session, task)
    assert task.state is TaskState.FAILED
    assert "was deleted" in task.error.message


def test_an_error_that_nobody_foresaw_ends_the_task_only(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    cube()
    broken, sound = offered(session), offered(session)
    broken.apply = lambda message: 1 / 0
    deliver(session, result(broken), result(sound), JobState(sound.job, DONE))
    assert broken.state is TaskState.FAILED
    assert "ZeroDivisionError" in broken.error.message
    assert "Traceback" in capsys.readouterr().err, "and the console has the whole story"
    assert sound.state is TaskState.DONE


def test_a_lost_connection_ends_what_is_under_way(session: Session) -> None:
    cube()
    task = offered(session)
    deliver(session, ConnectionLost())
    assert task.state is TaskState.FAILED
    assert isinstance(session.error, ConnectionLost)
    assert "Connect again" in session.error.hint


def test_a_job_is_taken_up_after_the_connection_was_lost(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    ob = cube()
    task, unsent = offered(session), start(session)
    windowed = SimpleNamespace(app=SimpleNamespace(background=False))
    with monkeypatch.context() as patch:
        patch.setattr("paintover.tasks.bpy", windowed)
        for one in (task, unsent):
            one.lose(ConnectionLost())
    assert (task.state, unsent.state) == (TaskState.WAITING, TaskState.FAILED)
    assert task.stage == "Connection lost: connect again"
    task.take_up(session.link)
    assert session.link.sent[-1] == Follow(task.job)
    deliver(session, result(task))
    assert ob.material_slots[0].material


def test_a_texture_that_arrives_in_edit_mode_is_kept(session: Session) -> None:
    cube()
    task = offered(session)
    bpy.ops.object.mode_set(mode="EDIT")
    deliver(session, result(task), JobState(task.job, DONE))
    bpy.ops.object.mode_set(mode="OBJECT")
    assert task.state is TaskState.DONE
    assert "Paintover Cube" in bpy.data.images
    assert "Edit Mode" in task.notes[-1]


def test_many_tasks_at_once_are_all_kept(session: Session) -> None:
    cube()
    tasks = [start(session) for _ in range(12)]
    assert session.active == tasks
    for task in tasks:
        task.fail(ConnectionLost())
    newest = start(session)
    assert session.tasks == [*tasks[-8:], newest]


def test_what_is_under_way_when_another_file_is_opened(
    session: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What was sent goes on without this Blender, and waits for its file; the rest ends. A file that cannot be opened
    changes nothing."""
    monkeypatch.setattr(pump, "session", session)
    handlers = bpy.app.handlers.load_post
    kept = list(handlers)
    handlers.append(pump.file_opened)
    try:
        bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "kitchen.blend"))
        cube()
        sent, unsent = offered(session), start(session)
        origin = session.link.sent[-1].origin
        before = len(session.link.sent)
        (tmp_path / "broken.blend").write_bytes(b"BLENDER but not really")
        with pytest.raises(RuntimeError):
            bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "broken.blend"))
        assert session.active == [sent, unsent]
        bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "kitchen.blend"))
    finally:
        handlers[:] = kept
    assert session.tasks == []
    assert (sent.state, unsent.state) == (TaskState.WAITING, TaskState.CANCELLED)
    assert session.link.sent[before:] == [ListJobs()]
    assert not sent.views, "it lets go of what is large"
    job = JobSummary(sent.job, "texture", RUNNING, "", scene=origin.scene, place=origin.place)
    session.jobs = (dataclasses.replace(job, followed=True),)
    assert session.offers(bpy.context.scene) == list(session.jobs), "the file that was opened is its own, reverted"
    deliver(session, JobState(sent.job, DONE))
    assert "Paintover Cube" not in bpy.data.images


def test_an_image_of_the_users_own_is_not_overwritten(session: Session) -> None:
    own = bpy.data.images.new("Paintover Cube", 8, 8)
    ob = cube()
    task = offered(session)
    bpy.data.objects.remove(ob)
    deliver(session, result(task))
    assert tuple(own.size) == (8, 8)
    assert bpy.data.images["Paintover Cube.001"].size[0] == 64


def test_a_painted_image_is_saved_with_the_file(tmp_path: Path) -> None:
    """Where no editor shows it, nothing else uses it: Blender would leave it out of the file."""
    name = images.show("Paintover Camera", np.full((64, 64, 3), 200, np.uint8), Settings(prompt="moss"))
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "saved.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "saved.blend"))
    assert bpy.data.images[name].size[:] == (64, 64)


def test_an_image_editor_that_is_pinned_keeps_its_image() -> None:
    own = bpy.data.images.new("Own", 8, 8)
    (area, *_) = bpy.context.window_manager.windows[0].screen.areas
    area.type = "IMAGE_EDITOR"
    space = area.spaces.active
    for pinned in (True, False):
        space.image, space.use_image_pin = own, pinned
        images.show("Paintover Camera", np.full((64, 64, 3), 200, np.uint8), Settings())
        assert (space.image == own) is pinned


def test_failed_cancelled_and_unknown_messages(session: Session) -> None:
    cube()
    first, second = offered(session), offered(session)
    session.cancel()
    assert [message for message in session.link.sent if isinstance(message, Cancel)] == [
        Cancel(first.job),
        Cancel(second.job),
    ]
    failure = Failure("out_of_memory", "Too big.", "Make it smaller.")
    deliver(
        session,
        Jobs(()),
        JobState(first.job, CANCELLED, 0, Failure("cancelled", "Cancelled.", "")),
        JobState(second.job, FAILED, 0, failure),
        JobState(second.job, RUNNING),
    )
    assert first.state is TaskState.CANCELLED
    assert second.state is TaskState.FAILED, "an ended task stays ended"
    assert str(second.error) == "Too big. Make it smaller."


def test_a_view_becomes_an_image_of_any_size(session: Session) -> None:
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    bpy.context.scene.collection.objects.link(camera)
    bpy.context.scene.camera = camera
    cube()
    for side in (64, 128):
        task = ViewTask(Settings(size=side), bpy.context.scene)
        session.start(task)
        prepare(session, task)
        image = np.full((side, side, 3), 10, np.uint8)
        deliver(session, ImageResult(task.job, image, task.settings), JobState(task.job, DONE))
        assert task.error is None
        assert tuple(bpy.data.images[task.image].size) == (side, side)
    assert len(bpy.data.images) == 1


def test_every_parameter_is_a_property_and_snapshots_agree(registered: Any) -> None:
    assert properties.snapshot(bpy.context.scene) == Settings()
    registered.steps, registered.prompt, registered.scheduler, registered.control_edge = 33, "moss", "euler", True
    expected = Settings(steps=33, prompt="moss", scheduler="euler", control_edge=True)
    assert properties.snapshot(bpy.context.scene) == expected
    for parameter in PARAMETERS:
        shown = registered.bl_rna.properties[parameter.name]
        assert shown.name == parameter.label
        assert shown.description == parameter.description
        if parameter.minimum is not None:
            assert shown.hard_min == parameter.minimum
            assert shown.hard_max == parameter.maximum


def test_a_models_defaults_leave_alone_what_the_user_set(registered: Any) -> None:
    registered.steps = 50
    small = ModelInfo("small", "sd15", (), {"steps": 12, "size": 256})
    large = ModelInfo("large", "sdxl", (), {"steps": 30, "size": 1024})
    properties.apply_defaults(registered, small)
    assert (registered.steps, registered.size) == (50, 256)
    properties.apply_defaults(registered, large)
    assert (registered.steps, registered.size) == (50, 1024)
    registered.size = 768
    properties.apply_defaults(registered, small)
    assert registered.size == 768


def test_a_result_that_takes_steps_is_applied_before_the_state_behind_it(session: Session) -> None:
    cube()
    task = offered(session)
    deliver(session, MeshesMissing(session.link.sent[0].hashes), JobState(task.job, RUNNING))
    seen: list[tuple[int, str]] = []

    def slow(_: Any) -> Any:
        for number in range(3):
            seen.append((number, task.state.name))
            yield None  # as if a thread were at work

    task.apply = slow  # type: ignore[method-assign]
    session.link.events = [result(task), JobState(task.job, DONE)]
    session.tick()
    while session.link.events:
        session.tick()
    assert task.working
    while task.working:
        session.tick()
    assert seen == [(0, "RUNNING"), (1, "RUNNING"), (2, "RUNNING")]
    assert task.state is TaskState.DONE


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


def test_another_connection_ends_what_the_old_one_had_only_been_offered(session: Session) -> None:
    cube()
    task = start(session)
    prepare(session, task)
    assert task.state is TaskState.OFFERED
    called: list[Any] = []
    session.link.connect = lambda *where: called.append(where)
    session.connect("127.0.0.1", 1, None)
    assert called == [("127.0.0.1", 1, None)]
    assert task.state is TaskState.FAILED
    assert isinstance(task.error, ConnectionLost)
    assert session.error is None


def test_what_has_arrived_when_the_connection_ends_is_applied_step_by_step(session: Session) -> None:
    cube()
    task = offered(session)
    steps: list[int] = []

    def slow(_: Any) -> Any:
        for number in range(3):
            steps.append(number)
            yield None  # as if a thread were at work

    task.apply = slow  # type: ignore[method-assign]
    session.link.events = [result(task), ConnectionLost()]
    while session.link.events:
        session.tick()
    assert (task.ended, len(steps) < 3) == (False, True), "nothing is waited for"
    while task.working:
        session.tick()
    assert steps == [0, 1, 2]
    assert isinstance(task.error, ConnectionLost)


def test_a_task_that_cannot_even_end_stops_no_other(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    cube()
    broken, sound = offered(session), offered(session)
    broken.lose = lambda error: 1 / 0
    deliver(session, ConnectionLost())
    assert broken.state is sound.state is TaskState.FAILED
    assert "ZeroDivisionError" in capsys.readouterr().err


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


def test_the_cross_beside_a_job_cancels_that_one(session: Session) -> None:
    cube()
    first, second = offered(session), offered(session)
    session.cancel(second.job)
    assert [message for message in session.link.sent if isinstance(message, Cancel)] == [Cancel(second.job)]
    drawn = Drawn()
    sidebar.draw_task(drawn, first)
    assert [(button.name, button.job) for button in drawn.buttons] == [("paintover.cancel", first.job)]


def test_two_previews_stand_side_by_side() -> None:
    preview.register()
    try:
        first, second = (np.full((8, 8, 3), value, np.uint8) for value in (10, 20))
        preview.icon("a", first)
        made = preview._previews["a"]
        preview.icon("b", second)
        preview.keep({"a", "b", "c"})
        preview.icon("a", first)
        assert preview._previews["a"] is made, "it is not made anew for the other"
        assert tuple(preview._previews["b"].image_pixels_float[:3]) == pytest.approx([20 / 255] * 3, abs=0.01)
        preview.keep({"b"})
        assert "a" not in preview._previews
    finally:
        preview.unregister()


def test_an_error_can_be_taken_away(session: Session) -> None:
    deliver(session, ConnectionLost())
    assert isinstance(session.complaint, ConnectionLost)
    drawn = Drawn()
    sidebar.draw_error(drawn, session.complaint, hide=True)
    assert [button.name for button in drawn.buttons] == ["paintover.hide_error"]
    session.hide_error()
    assert session.complaint is None
