"""Jobs on disk: whole or not at all, bounded, and each for one server only."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paintover.bridge.errors import DiskFull, NotStored, ServerFailure, UnknownJob
from paintover.bridge.messages import (
    DONE,
    QUEUED,
    RUNNING,
    Generate,
    Submit,
    Texture,
    TextureResult,
    ViewPainted,
)
from paintover.bridge.origin import Origin, Target
from paintover.bridge.parameters import Settings
from paintover.server import journal as journal_module
from paintover.server.jobs import Job
from paintover.server.journal import Journal
from paintover.server.worker_messages import ViewDone

from ..bridge.conftest import make_mesh, make_passes

NAME = "ab" * 16
IMAGE = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


def view(index: int, job: str = NAME) -> ViewDone:
    return ViewDone(job, index, ViewPainted(job, f"view {index}", IMAGE), IMAGE[..., 0])


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    made = Journal(tmp_path / "jobs")
    made.open()
    return made


def store(journal: Journal, name: str = NAME, state: str = QUEUED, **fields: Any) -> Job:
    mesh = make_mesh()
    request = Texture(Settings(prompt="moss", seed=4), (make_passes(64, 64),) * 2, (mesh.content_hash(),))
    job = Job.of(name, request, (mesh,), Origin("Blender", "kitchen.blend", targets=(Target("Cube", "UVMap", True),)))
    job.state = state
    for field, value in fields.items():
        setattr(job, field, value)
    journal.store(job.record(journal.owner), Submit(name, request, job.origin), (mesh,), {})
    return job


def test_a_job_comes_back_as_it_was(journal: Journal) -> None:
    job = store(journal)
    assert NAME in journal
    (record,) = journal.records()
    assert (record.kind, record.settings.prompt, record.views, record.state) == ("texture", "moss", 2, QUEUED)
    assert record.origin == job.origin
    submit = journal.load_request(NAME)
    assert np.array_equal(submit.request.views[1].depth, job.request.views[1].depth)
    assert journal.load_meshes(NAME)[0].content_hash() == job.meshes[0].content_hash()
    for index in (10, 2):
        journal.part(NAME, view(index))
    result = TextureResult(NAME, 7, "Cube", IMAGE, 0.9, 0.8, 0.0, Settings())
    journal.part(NAME, result)
    parts = journal.load_parts(NAME)
    assert list(parts) == ["view-002", "view-010", "texture-00007"], "views first, in the request's order"
    assert np.array_equal(parts["view-010"].painted.image, IMAGE)
    assert np.array_equal(parts["view-010"].fresh, IMAGE[..., 0])
    journal.drop_request(NAME)
    assert not journal.resumable(NAME)
    with pytest.raises(UnknownJob):
        journal.load_request(NAME)
    journal.remove(NAME)
    assert NAME not in journal
    assert journal.records() == []


def test_damaged_files_are_said_and_others_listed(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    store(journal)
    other = "cd" * 16
    store(journal, other)
    path = journal.folder / NAME / "record.frames"
    whole = path.read_bytes()
    for damaged in (whole[:-10], b"noise" * 10, b""):
        path.write_bytes(damaged)
        with pytest.raises(ServerFailure, match=r"damaged|cannot be read"):
            journal.load_record(NAME)
        caplog.clear()
        assert [record.job for record in journal.records()] == [other]
        assert NAME in caplog.text
    for unknown in ("ef" * 16, "../passwd"):
        assert unknown not in journal
        with pytest.raises(UnknownJob):
            journal.load_record(unknown)


@pytest.mark.parametrize(
    ("code", "error", "words"), [(errno.ENOSPC, DiskFull, "disk is full"), (errno.EROFS, NotStored, "Read-only")]
)
def test_a_disk_that_fails_is_said_and_leaves_what_was_there(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, code: int, error: type, words: str
) -> None:
    store(journal)
    journal.part(NAME, view(1))

    def full(_: object) -> list[bytes]:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr("paintover.server.journal.encode", full)
        for index in (1, 2):
            with pytest.raises(error, match=words):
                journal.part(NAME, view(index))
    assert list(journal.load_parts(NAME)) == ["view-001"]
    assert not list(journal.folder.rglob("*.part"))


def test_a_folder_that_was_deleted_is_made_again(journal: Journal) -> None:
    import shutil

    shutil.rmtree(journal.folder)
    store(journal)
    assert NAME in journal


def test_old_jobs_make_room_but_never_one_that_is_not_over(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{number:032x}" for number in range(5)]
    for age, name in enumerate(names):
        store(journal, name, RUNNING if age == 1 else DONE)
        for path in [*(journal.folder / name).iterdir(), journal.folder / name]:
            os.utime(path, (age, age))
    size = sum(path.stat().st_size for path in (journal.folder / names[0]).iterdir())
    (journal.folder / ("e" * 32)).symlink_to(journal.folder / "gone")
    monkeypatch.setattr(journal_module, "MAX_KEPT", 3 * size + 100)
    assert journal.prune() == ["e" * 32, names[0], names[2]], "a dead link goes first"
    assert [record.job for record in journal.records()] == [names[1], *names[3:]]
    assert journal.prune() == []


def test_a_job_belongs_to_one_server_until_that_ends(tmp_path: Path) -> None:
    first, second = Journal(tmp_path), Journal(tmp_path)
    first.open()
    second.open()
    store(first)
    (record,) = second.records()
    assert not second.orphaned(record)
    assert not first.orphaned(record)
    first.close()
    assert second.orphaned(record)
    assert [path.name for path in tmp_path.glob("*.lock")] == [f"{second.owner}.lock"]


def test_locks_of_servers_that_are_gone_are_swept(tmp_path: Path) -> None:
    alive = Journal(tmp_path)
    alive.open()
    (tmp_path / "0123456789abcdef.lock").touch()
    newcomer = Journal(tmp_path)
    newcomer.open()
    assert {path.stem for path in tmp_path.glob("*.lock")} == {alive.owner, newcomer.owner}


def test_an_image_job_has_no_meshes(journal: Journal) -> None:
    job = Job.of(NAME, Generate(Settings(), 64, 64))
    journal.store(job.record(journal.owner), Submit(NAME, job.request), (), {})
    assert journal.load_meshes(NAME) == ()
