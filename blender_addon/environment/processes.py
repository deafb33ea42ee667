"""Running other programs from inside Blender, on every system."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

OWN_GROUP: dict[str, Any] = (
    {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}  # type: ignore[attr-defined]
    if sys.platform == "win32"
    else {"start_new_session": True}
)
"""For Popen: a process group of its own, so that Ctrl-C in Blender's terminal does not reach it and its whole tree can
be ended; no console window on Windows."""

BLENDERS_OWN = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONEXECUTABLE", "__PYVENV_LAUNCHER__", "VIRTUAL_ENV")
"""Variables that are meant for Blender's Python and would lead another one astray."""


def variables() -> dict[str, str]:
    """Environment variables for another Python than Blender's."""
    kept = {name: value for name, value in os.environ.items() if name not in BLENDERS_OWN}
    return {**kept, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}


def ask(command: Sequence[str], timeout: float = 30.0) -> str | None:
    """What a program answers on standard output, or None if it is not there, fails or takes too long."""
    try:
        answer = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, env=variables(), **OWN_GROUP
        )
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return None
    return answer.stdout.decode("utf-8", "replace") if answer.returncode == 0 else None


def end_tree(process: subprocess.Popen[Any]) -> None:
    """End a process that was started with OWN_GROUP, and all that it started; waits until it is gone."""
    if sys.platform == "win32":
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True, **OWN_GROUP)
        process.wait()
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)
    with contextlib.suppress(ProcessLookupError):  # what is left of the group, even if its leader is gone
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
