"""The session and its tasks inside Blender, over a scripted link: what becomes of them when things change meanwhile."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bpy
import pytest

from paintover import pump
from paintover.bridge.errors import ConnectionLost
from paintover.bridge.messages import (
    CANCELLED,
    DONE,
    FAILED,
    RUNNING,
    Cancel,
    Failure,
    Follow,
    Jobs,
    JobState,
    JobSummary,
    ListJobs,
    MeshesMissing,
)
from paintover.panels import sidebar
from paintover.session import Session
from paintover.tasks import TaskState

from .scenes import Drawn
from .scripted import cube, deliver, offered, prepare, result, start, tick_while

pytestmark = pytest.mark.usefixtures("registered")


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
    tick_while(session, lambda: session.link.events)
    assert task.working
    tick_while(session, lambda: task.working)
    assert seen == [(0, "RUNNING"), (1, "RUNNING"), (2, "RUNNING")]
    assert task.state is TaskState.DONE


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
    tick_while(session, lambda: session.link.events)
    assert (task.ended, len(steps) < 3) == (False, True), "nothing is waited for"
    tick_while(session, lambda: task.working)
    assert steps == [0, 1, 2]
    assert isinstance(task.error, ConnectionLost)


def test_a_task_that_cannot_even_end_stops_no_other(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    cube()
    broken, sound = offered(session), offered(session)
    broken.lose = lambda error: 1 / 0
    deliver(session, ConnectionLost())
    assert broken.state is sound.state is TaskState.FAILED
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_the_cross_beside_a_job_cancels_that_one(session: Session) -> None:
    cube()
    first, second = offered(session), offered(session)
    session.cancel(second.job)
    assert [message for message in session.link.sent if isinstance(message, Cancel)] == [Cancel(second.job)]
    drawn = Drawn()
    sidebar.draw_task(drawn, first)
    assert [(button.name, button.job) for button in drawn.buttons] == [("paintover.cancel", first.job)]


def test_an_error_can_be_taken_away(session: Session) -> None:
    deliver(session, ConnectionLost())
    assert isinstance(session.complaint, ConnectionLost)
    drawn = Drawn()
    sidebar.draw_error(drawn, session.complaint, hide=True)
    assert [button.name for button in drawn.buttons] == ["paintover.hide_error"]
    session.hide_error()
    assert session.complaint is None
