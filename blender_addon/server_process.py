"""A server that this Blender started: it ends with this Blender."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections import deque

from .bridge.errors import PortInUse, ServerStartFailed

_process: subprocess.Popen[str] | None = None
_log: deque[str] = deque(maxlen=200)


def running() -> bool:
    return _process is not None and _process.poll() is None


def log() -> list[str]:
    """The newest lines that the server wrote."""
    return list(_log)


def start(command: str, port: int) -> None:
    """Start `paintover serve` on `port` without waiting for it. Raises ServerStartFailed if there is no program."""
    global _process
    program = command or shutil.which("paintover")
    if not program:
        raise ServerStartFailed(
            reason="no “paintover” program was found",
            hint="Install the server (see the README), or name its program under Server Command in the preferences.",
        )
    _log.clear()
    try:
        _process = subprocess.Popen(
            [program, "serve", "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError as reason:
        raise ServerStartFailed(reason=f"{program}: {reason.strerror}") from reason
    threading.Thread(target=_collect, args=(_process,), name="paintover-server-log", daemon=True).start()


def _collect(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        _log.append(line.rstrip())


def listening() -> bool:
    """Whether the server has said that it listens. Raises ServerStartFailed or PortInUse if it ended instead."""
    if any("listens on" in line for line in list(_log)):
        return True
    if _process is not None and _process.poll() is not None:
        text = " ".join(_log)
        if "in use" in text or "already running" in text:
            raise PortInUse(text)
        raise ServerStartFailed(reason=" ".join(list(_log)[-3:]) or f"exit code {_process.returncode}")
    return False


def stop() -> None:
    """End the server that this Blender started; does nothing if it started none."""
    global _process
    process, _process = _process, None
    if process is None or process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
