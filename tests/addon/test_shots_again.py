"""Shots that go on: what is kept, what is painted again, and what ends them."""

from __future__ import annotations

from pathlib import Path

import bpy
import pytest

from paintover.bridge.errors import ConnectionLost
from paintover.bridge.messages import Cancel, Follow
from paintover.link import LinkState
from paintover.session import Session
from paintover.tasks import TaskState

from .scenes import add_sphere
from .shots import Server, film, move, numbers, render, start

pytestmark = pytest.mark.usefixtures("registered")


def test_what_is_there_and_has_not_changed_is_kept(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    cube = film(scene, tmp_path)
    _, server = render(session)
    task = start(session)
    server.run(task)
    assert len(server.shots) == 1
    assert task.notes == [f"6 frames, 6 of them from before, in {tmp_path}"]
    move(cube, (2, 0, 0), 6)  # frames 2 to 6 change
    task = start(session)
    server.run(task)
    assert task.pace.painted == 5, "frame 1 is what it was"
    assert len(server.shots) == 2


def test_only_frames_that_changed_are_painted(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    cube = film(scene, tmp_path)
    ball = add_sphere(scene, (0, 1, 0))
    move(ball, (0, 1, 0), 5)
    render_, server = render(session)
    known = server.known
    job = render_.job
    move(ball, (0, 1, 1), 6)
    cube.select_set(True)
    task, server = start(session), Server(session)
    server.known = known
    server.run(task)
    (shot,) = server.shots.values()
    assert (shot.continues, shot.first) == (job, 4)
    assert task.pace.painted == 2, "frames 6 and 5: 5 takes paint from 6"


def test_a_server_that_has_forgotten_paints_it_all(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    film(scene, tmp_path)
    render(session)
    (tmp_path / "Scene_0005.png").unlink()
    task, server = render(session)
    (shot,) = server.shots.values()
    assert shot.continues == ""
    assert task.pace.painted == 6


def test_missing_frames_in_the_middle(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    film(scene, tmp_path, frames=30)
    _, server = render(session)
    known, before = server.known, (tmp_path / "Scene_0012.png").read_bytes()
    for number in (5, 28):
        (tmp_path / f"Scene_{number:04}.png").unlink()
    task, server = start(session), Server(session)
    server.known = known
    server.run(task)
    assert task.state is TaskState.DONE
    assert task.pace.painted == 2
    assert len(server.shots) == 2, "what lies between is not painted"
    assert len(server.frames) < 14
    assert len(numbers(tmp_path)) == 30
    assert (tmp_path / "Scene_0012.png").read_bytes() == before


def test_it_goes_on_after_blender_has_crashed(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    film(scene, tmp_path)
    scene.paintover.seed = -1
    task, server = start(session), Server(session)
    server.run(task, until=lambda: len(server.kept) >= 2)
    session.tasks.clear()  # as if it had never been
    seed = task.settings.seed
    (tmp_path / ".Scene_0002.png.part").write_bytes(b"half a picture")
    again = start(session)
    server.run(again)
    assert again.state is TaskState.DONE
    assert again.settings.seed == seed, "the frames are one shot"
    assert again.pace.painted < 5
    assert len([name for name in numbers(tmp_path) if name.endswith(".png")]) == 6


def test_cancel_and_the_next_run_goes_on(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    film(scene, tmp_path)
    task, server = start(session), Server(session)
    server.run(task, until=lambda: len(server.kept) >= 3)
    session.cancel(task.job)
    server.run(task)
    assert task.state is TaskState.CANCELLED
    done = len(numbers(tmp_path))
    assert 3 <= done < 6
    again = start(session)
    server.run(again)
    assert again.pace.painted == 6 - done


def test_an_end_among_what_arrives_is_the_end(
    session: Session, scene: bpy.types.Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film(scene, tmp_path)
    task, server = start(session), Server(session)
    server.run(task, until=lambda: len(server.kept) >= 2)
    session.cancel(task.job)
    server.run(task)
    assert task.state is TaskState.CANCELLED
    for _ in range(3):
        session.tick()
    assert "Traceback" not in capsys.readouterr().err


def test_a_connection_that_is_lost_is_made_again(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    film(scene, tmp_path)
    task, server = start(session), Server(session)
    server.run(task, until=lambda: len(server.kept) >= 2)
    session.link.events.clear()  # what was on its way
    session.link.events.append(ConnectionLost())
    session.link.state = LinkState.OFFLINE
    session.tick()
    assert not task.ended
    assert "connecting again" in task.stage
    assert session.reconnects
    session.link.sent.clear()
    session.link.state = LinkState.ONLINE
    task.take_up(session.link)
    assert [message.job for message in session.link.sent if isinstance(message, Follow)] == [task.job]
    server.run(task)
    assert task.state is TaskState.DONE
    assert len(numbers(tmp_path)) == 6


def test_another_file_ends_a_shot(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    film(scene, tmp_path)
    task, server = start(session), Server(session)
    server.run(task, until=lambda: len(server.kept) >= 2)
    session.leave_file()
    assert task.state is TaskState.CANCELLED
    assert Cancel(task.job) in session.link.sent, "nobody else can send its frames"
