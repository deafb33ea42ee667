"""Who may change the environment: one Blender at a time, and none while a server runs from it."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import IO, Any

from ..bridge.errors import ServerRuns, SetupRunning
from ..bridge.paths import data_folder
from . import record

PATIENCE = 20.0
"""Seconds to wait for a set-up that is ending."""


@contextlib.contextmanager
def exclusive(check: Callable[[], None] = lambda: None) -> Iterator[int]:
    """Hold the environment for this process alone; gives the lock's file descriptor. `check` may raise while it waits.
    Raises SetupRunning where another does not let go within PATIENCE: what a killed Blender was running needs a moment
    to end."""
    data_folder().mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + PATIENCE
    with (data_folder() / "server-setup.lock").open("a") as file:
        while True:
            try:
                _lock(file)
                break
            except OSError as reason:
                if time.monotonic() > until:
                    raise SetupRunning() from reason
            check()
            time.sleep(0.2)
        yield file.fileno()


def refuse_under_a_server() -> None:
    """Raise ServerRuns while a server runs on this data folder, whoever started it: the environment may be the one
    that it runs from."""
    if not record.environment().exists():
        return
    for path in sorted(data_folder().glob("server-[0-9]*.lock")):
        with path.open("a") as file:
            try:
                _lock(file)
            except OSError as reason:
                raise ServerRuns(port=path.stem.removeprefix("server-")) from reason


def inherited(descriptor: int) -> dict[str, Any]:
    """For Popen: let the program have this descriptor, where the system can do that."""
    return {} if sys.platform == "win32" else {"pass_fds": (descriptor,)}


def _lock(file: IO[Any]) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
