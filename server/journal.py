"""All that the server keeps of jobs on disk, so that nothing finished is lost: one folder a job, in wire frames.

    data/jobs/JOB/record.frames     what it is, how it stands (Record)
                  request.frames    Submit; removed when the job is done, unless another shot may go on from this one
                  meshes.frames     MeshUpload of each object
                  view-003.frames, texture-00001.frames, image.frames     what is finished of it
                  halfway-005.frames                                      a state from which it can go on
                  frame-000012.frames     of a shot: painted, and not yet on the client's disk
                  key-000008-000000.frames    a keyframe that it can go on from, and its State.anchor

Every file is written whole or not at all. All methods block; the runner calls them on threads of their own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from filelock import FileLock, Timeout

from paintover.bridge.errors import PaintoverError, ServerFailure, UnknownJob
from paintover.bridge.messages import ENDED, JOB_NAME, Failure, MeshData, MeshUpload, Submit
from paintover.bridge.origin import Origin
from paintover.bridge.parameters import Settings
from paintover.bridge.wire import UNLIMITED, Decoder, Malformed, encode

from . import disk
from .disk import told
from .parts import FRAME, HALFWAY, KEY, Part, in_order, part_name
from .worker_messages import Kept, State

log = logging.getLogger("paintover.front")

MAX_KEPT = 4 << 30
"""Jobs that ended first are removed beyond this."""
MAX_KEYS = 1 << 30
"""Bytes of keyframes that are kept of a shot."""


@dataclass(frozen=True)
class Record:
    """What a job is and how it stands, without its pictures."""

    job: str
    kind: str
    settings: Settings
    origin: Origin
    views: int
    submitted: float
    """Seconds since 1970, as is `ended`."""
    state: str
    owner: str
    """The server that runs it (Journal.owner)."""
    ended: float = 0.0
    failure: Failure | None = None
    attempts: int = 0
    """Runs that finished no part."""
    parts: int = 0
    """Finished parts when the last run began."""


STORED: dict[str, type] = {cls.__name__: cls for cls in (Record, Submit, MeshUpload, *get_args(Part))}


class Journal:
    """Jobs by name. Names come from the wire: only ones of the fixed form reach the file system."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.owner = secrets.token_hex(8)
        """Who runs the jobs that this journal begins. Several servers may share a data folder."""
        self._lock = FileLock(folder / f"{self.owner}.lock")

    def open(self) -> None:
        """Show that this journal's owner lives. Raises DiskFull or NotStored."""
        with told("jobs", self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=5)  # nobody else wants it, but for another server that looks who is gone
            for lock in self.folder.glob("*.lock"):
                if lock.stem != self.owner:
                    self._gone(lock.stem)

    def close(self) -> None:
        """The owner ends: its unfinished jobs are for the next one."""
        self._lock.release()
        with contextlib.suppress(OSError):  # a stale lock file does no harm
            Path(self._lock.lock_file).unlink(missing_ok=True)

    def orphaned(self, record: Record) -> bool:
        """Whether nobody runs this unfinished job: the server that did is gone."""
        return record.owner != self.owner and self._gone(record.owner)

    def _gone(self, owner: str) -> bool:
        """Whether that server has ended; a lock that it has left is removed."""
        lock = FileLock(self.folder / f"{owner}.lock")
        try:
            with lock.acquire(timeout=0):
                pass
        except Timeout:
            return False
        except OSError:  # not even a lock can be written here: better to run a job twice than never
            return True
        with contextlib.suppress(OSError):
            Path(lock.lock_file).unlink(missing_ok=True)
        return True

    def _of(self, job: str) -> Path:
        if not JOB_NAME.fullmatch(job):
            raise UnknownJob(job=job[:40])
        return self.folder / job

    def __contains__(self, job: str) -> bool:
        return bool(JOB_NAME.fullmatch(job)) and (self.folder / job / "record.frames").exists()

    # ------------------------------------------------------------ in

    def store(
        self, record: Record, submit: Submit | None, meshes: Iterable[MeshData], parts: Mapping[str, Part]
    ) -> None:
        """Keep a whole job. Raises DiskFull or NotStored; what was stored then waits to be completed or forgotten."""
        folder = self._of(record.job)
        if submit:
            self._write(folder / "request.frames", [submit])
        self._write(folder / "meshes.frames", [MeshUpload(mesh) for mesh in meshes])
        for name, part in parts.items():
            self._write(folder / f"{name}.frames", [part])
        self.record(record)  # last: a folder without it is not a job

    def record(self, record: Record) -> None:
        """Keep how a job stands. Raises DiskFull or NotStored."""
        self._write(self._of(record.job) / "record.frames", [record])

    def part(self, job: str, part: Part) -> None:
        """Keep a finished part of a job. Raises DiskFull or NotStored."""
        self._write(self._of(job) / f"{part_name(part)}.frames", [part])

    def drop_part(self, job: str, name: str) -> None:
        """Let go of a part. Raises NotStored."""
        with told("that a frame was taken", self.folder):
            (self._of(job) / f"{name}.frames").unlink(missing_ok=True)

    def drop_request(self, job: str) -> None:
        """Let go of what only another run would need. Raises NotStored."""
        with told("an old request", self.folder):
            for path in (self._of(job) / "request.frames", *self._of(job).glob(f"{HALFWAY}*.frames")):
                path.unlink(missing_ok=True)

    def remove(self, job: str) -> None:
        """Remove a job and all of its files. Raises NotStored."""
        with told("that a job was removed", self.folder):
            folder = self._of(job)
            (folder / "record.frames").unlink(missing_ok=True)
            if folder.exists():
                shutil.rmtree(folder)

    def _write(self, path: Path, messages: Iterable[Any]) -> None:
        with told("a job", self.folder):
            disk.write(path, (buffer for message in messages for buffer in encode(message)))

    # ------------------------------------------------------------ out

    def records(self) -> list[Record]:
        """All jobs that can be read, in the order in which they came. Others are left where they are, and logged."""
        found = []
        for path in self.folder.glob("*/record.frames"):
            try:
                (record,) = self._read(path)
            except UnknownJob:  # another server has just removed it
                continue
            except PaintoverError as error:
                log.warning("%s", error.message)
                continue
            if record.job == path.parent.name:
                found.append(record)
            else:
                log.warning("The folder %s holds another job, %s", path.parent, record.job)
        return sorted(found, key=lambda record: record.submitted)

    def load_record(self, job: str) -> Record:
        """How a job stands. Raises UnknownJob, or ServerFailure for a damaged file."""
        (record,) = self._read(self._of(job) / "record.frames")
        return record

    def load_request(self, job: str) -> Submit:
        """What was asked for. Raises UnknownJob (it is not kept for all jobs that are done) or ServerFailure."""
        (submit,) = self._read(self._of(job) / "request.frames")
        return submit

    def load_meshes(self, job: str) -> tuple[MeshData, ...]:
        """The job's meshes. Raises UnknownJob or ServerFailure."""
        return tuple(message.mesh for message in self._read(self._of(job) / "meshes.frames"))

    def load_part(self, job: str, name: str) -> Part:
        """A finished part. Raises UnknownJob (it was removed) or ServerFailure."""
        (part,) = self._read(self._of(job) / f"{name}.frames")
        return part

    def load_parts(self, job: str) -> dict[str, Part]:
        """What is finished of the job, by name. Raises ServerFailure."""
        return {name: self.load_part(job, name) for name in self.part_names(job)}

    def part_names(self, job: str) -> list[str]:
        """Names of the finished parts, in order."""
        names = [path.stem for path in self._of(job).glob("*.frames")]
        return in_order(name for name in names if name.startswith(("view-", "texture-", "image", HALFWAY, FRAME, KEY)))

    # ------------------------------------------------------------ keyframes of shots

    def load_state(self, job: str, keys: Sequence[int], below: int) -> tuple[int, State | None]:
        """The newest state behind a keyframe at a place below `below`, and the place after it; 0 and None without one.

        `keys`: the places of all of the shot's keyframes. Damaged files count as missing.
        """
        paths = self._keys(job)
        for index in reversed(range(len(keys))):
            place, previous = keys[index], keys[index - 1] if index else None
            if place >= below or place not in paths:
                continue
            anchor = int(paths[place].stem.split("-")[2])
            with contextlib.suppress(PaintoverError, KeyError):
                if (alone := self._load_key(paths[place])).border:
                    return place + 1, State(alone, None, alone)
                kept = {one: self._load_key(paths[one]) for one in (place, anchor, previous) if one is not None}
                return place + 1, State(kept[anchor], None if previous is None else kept[previous], kept[place])
        return 0, None

    def trim_keys(self, job: str) -> list[str]:
        """Remove keyframes, oldest first, beyond MAX_KEYS, none that later ones need; returns their names.

        Raises NotStored.
        """
        with told("that old keyframes were removed", self.folder):
            paths = self._keys(job)
            places, removed = sorted(paths), []
            total = sum(path.stat().st_size for path in paths.values())
            anchors = {int(path.stem.split("-")[2]) for path in paths.values() if not _own_anchor(path)}
            for place in places[:-2]:
                if total <= MAX_KEYS:
                    break
                if place not in anchors:
                    total -= paths[place].stat().st_size
                    paths[place].unlink(missing_ok=True)
                    removed.append(paths[place].stem)
            return removed

    def adopt_keys(self, job: str, other: str, below: int) -> None:
        """Have another job's keyframes at places below `below`, too. Raises DiskFull or NotStored."""
        with told("keyframes", self.folder):
            for place, path in self._keys(other).items():
                if place < below:
                    copy = self._of(job) / path.name
                    try:
                        os.link(path, copy)
                    except OSError:  # a file system without links
                        disk.write(copy, [path.read_bytes()])

    def _keys(self, job: str) -> dict[int, Path]:
        return {int(path.stem.split("-")[1]): path for path in self._of(job).glob(f"{KEY}*.frames")}

    def _load_key(self, path: Path) -> Kept:
        (key,) = self._read(path)
        kept: Kept = key.kept
        return kept

    # ------------------------------------------------------------ room

    def size(self, job: str) -> int:
        """Bytes of what another run of the job would need in memory, about: its request and meshes."""
        total = 0
        for name in ("request", "meshes"):
            with contextlib.suppress(OSError):  # not kept
                total += (self._of(job) / f"{name}.frames").stat().st_size
        return total

    def resumable(self, job: str) -> bool:
        """Whether the request is still there."""
        return (self._of(job) / "request.frames").exists()

    def _read(self, path: Path) -> list[Any]:
        job = path.parent.name
        decoder = Decoder(UNLIMITED, STORED)
        try:
            messages = decoder.feed(path.read_bytes())
        except FileNotFoundError as reason:
            raise UnknownJob(job=job) from reason
        except (OSError, PaintoverError) as error:
            raise ServerFailure(reason=f"the stored job {job} cannot be read ({error})") from error
        damaged = not decoder.idle or any(isinstance(message, Malformed) for message in messages)
        if damaged or (not messages and path.stem != "meshes"):
            raise ServerFailure(reason=f"the stored job {job} is damaged")
        return messages

    def prune(self) -> list[str]:
        """Remove jobs, oldest first, until the rest fits MAX_KEPT; never one that is not over. Returns their names.

        Raises NotStored.
        """
        removed = []
        with told("that old jobs were removed", self.folder):
            found = sorted((*_age_and_size(path), path) for path in self.folder.iterdir())
            total = sum(size for _, size, _ in found)
            for _, size, path in found:
                if total <= MAX_KEPT:
                    break
                if path.suffix == ".lock" or self._under_way(path):
                    continue
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
                total -= size
                removed.append(path.name)
        return removed

    def _under_way(self, folder: Path) -> bool:
        try:
            (record,) = self._read(folder / "record.frames")
        except PaintoverError:
            return False  # not a job that could go on
        return record.state not in ENDED


def _own_anchor(key: Path) -> bool:
    _, place, anchor = key.stem.split("-")
    return place == anchor


def _age_and_size(path: Path) -> tuple[float, int]:
    """When a job last changed, and its bytes. What vanishes meanwhile (another server's) counts for nothing."""
    newest, total = 0.0, 0
    for file in [path, *(path.iterdir() if path.is_dir() else ())]:
        with contextlib.suppress(FileNotFoundError):
            status = file.stat()
            newest, total = max(newest, status.st_mtime), total + (status.st_size if file.is_file() else 0)
    return newest, total
