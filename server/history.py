"""Finished results on disk, so that a client can come back for them: one file of wire frames per job."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from paintover.bridge.errors import DiskFull, PaintoverError, ServerFailure, UnknownJob
from paintover.bridge.messages import JOB_NAME
from paintover.bridge.wire import Decoder, Malformed, encode

MAX_BYTES = 4 << 30
"""Oldest jobs are removed beyond this."""


class History:
    """Results by job name. Job names come from the wire: only ones of the fixed form reach the file system."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def _path(self, job: str) -> Path:
        if not JOB_NAME.fullmatch(job):
            raise UnknownJob(job=job[:40])
        return self.folder / f"{job}.frames"

    def store(self, job: str, messages: Iterable[Any]) -> None:
        """Keep a job's messages, whole or not at all. Raises DiskFull or ServerFailure."""
        path = self._path(job)
        part = path.with_suffix(".part")
        try:
            with part.open("wb") as file:
                for message in messages:
                    for buffer in encode(message):
                        file.write(buffer)
            part.replace(path)
        except OSError as reason:
            with contextlib.suppress(OSError):  # the disk's own trouble is what is reported
                part.unlink(missing_ok=True)
            if reason.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull(what="a finished result", folder=self.folder) from reason
            raise ServerFailure(reason=f"a result could not be stored: {reason.strerror}") from reason

    def __contains__(self, job: str) -> bool:
        return self._path(job).exists()

    def load(self, job: str) -> list[Any]:
        """All messages of the job in order. Raises UnknownJob, or ServerFailure for a damaged file."""
        path = self._path(job)
        decoder = Decoder()
        try:
            messages = decoder.feed(path.read_bytes())
        except FileNotFoundError as reason:
            raise UnknownJob(job=job) from reason
        except (OSError, PaintoverError) as error:
            raise ServerFailure(reason=f"the stored job {job} cannot be read ({error})") from error
        if not decoder.idle or any(isinstance(message, Malformed) for message in messages):
            raise ServerFailure(reason=f"the stored job {job} is damaged")
        return messages

    def prune(self) -> None:
        """Remove the oldest jobs until the rest fits MAX_BYTES. Raises ServerFailure."""
        try:
            found = [
                (status.st_mtime, status.st_size, path)
                for path in self.folder.glob("*.frames")
                if (status := _status(path))
            ]
            total = 0
            for _, size, path in sorted(found, reverse=True):
                total += size
                if total > MAX_BYTES:
                    path.unlink(missing_ok=True)
        except OSError as reason:
            raise ServerFailure(reason=f"old results could not be removed: {reason.strerror}") from reason


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:  # another server of this data folder may have been quicker
        return None
