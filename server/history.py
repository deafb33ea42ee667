"""Finished results on disk, so that a client can come back for them: one file of wire frames per job."""

from __future__ import annotations

import errno
import os
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

    def append(self, job: str, message: Any) -> None:
        """Add a message to the job's file. Raises DiskFull or ServerFailure; the file then ends at a whole frame."""
        path = self._path(job)
        before = path.stat().st_size if path.exists() else 0
        try:
            with path.open("ab") as file:
                for buffer in encode(message):
                    file.write(buffer)
        except OSError as reason:
            if path.exists():
                os.truncate(path, before)
            if reason.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull(what="a finished result", folder=self.folder) from reason
            raise ServerFailure(reason=f"a result could not be stored: {reason.strerror}") from reason

    def load(self, job: str) -> list[Any]:
        """All messages of the job in order, or UnknownJob. A damaged rest is left out."""
        path = self._path(job)
        if not path.exists():
            raise UnknownJob(job=job)
        decoder = Decoder()
        try:
            messages = decoder.feed(path.read_bytes())
        except PaintoverError as error:
            raise ServerFailure(reason=f"the stored job {job} is damaged ({error.message})") from error
        return [message for message in messages if not isinstance(message, Malformed)]

    def prune(self) -> None:
        """Remove the oldest jobs until the rest fits MAX_BYTES."""
        files = sorted(self.folder.glob("*.frames"), key=lambda path: path.stat().st_mtime, reverse=True)
        total = 0
        for path in files:
            total += path.stat().st_size
            if total > MAX_BYTES:
                path.unlink(missing_ok=True)
