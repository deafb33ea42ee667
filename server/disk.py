"""Files that are there whole or not at all, and a disk that fails, in plain words."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from paintover.bridge.errors import DiskFull, NotStored


def write(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Write a file, and its folder if there is none. Raises OSError: then what was there before still is.

    It is on the disk before it gets its name, so that a power cut leaves no half of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")  # another process may write the same file
    try:
        with part.open("wb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # the disk's own trouble is what is reported
            part.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def told(what: str, folder: Path, hint: str | None = None) -> Iterator[None]:
    """Turn OSError into DiskFull or NotStored: `what` could not be stored in `folder`."""
    try:
        yield
    except OSError as reason:
        if reason.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(what=what, folder=folder, hint=hint) from reason
        raise NotStored(what=what, reason=reason.strerror or reason, folder=folder, hint=hint) from reason
