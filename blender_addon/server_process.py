"""A server that this Blender started: it ends with this Blender, unless other clients use it or a job still runs."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import threading
from pathlib import Path

from . import environment
from .bridge.errors import PortInUse, ServerStartFailed
from .bridge.paths import data_folder

PATIENCE = 10.0
"""Seconds that a server has to end in before it is killed."""
RECORD = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ")
"""How a record of the log begins."""
LOG_LIMIT = 1_000_000
"""Bytes beyond which the next start begins the log anew."""

_process: subprocess.Popen[bytes] | None = None
_started: tuple[str, int] = ("", 0)
"""With which command and port."""
_ending: threading.Thread | None = None
"""Waits for the end of a server that was stopped."""
_log: Path | None = None
_log_start = 0
"""Where in the log the running server's lines begin."""


def running() -> bool:
    return _process is not None and _process.poll() is None


def died() -> bool:
    """Whether a server that this Blender started has ended without being asked to."""
    return _process is not None and _process.poll() is not None


def start_again() -> None:
    """Start a server as it was started last. Raises ServerStartFailed."""
    start(*_started)


def program(command: str) -> str | None:
    """The `paintover` program: the one that is named, else that of the environment made here, else on the PATH."""
    return command or environment.program() or shutil.which("paintover")


def log() -> list[str]:
    """What the server has written since its start."""
    if _log is None:
        return []
    with contextlib.suppress(OSError), _log.open("rb") as file:
        file.seek(_log_start)
        return file.read().decode("utf-8", "replace").splitlines()
    return []


def start(command: str, port: int) -> None:
    """Start `paintover serve` on `port` without waiting for it. Raises ServerStartFailed if there is no program."""
    global _process, _log, _log_start, _started
    _started = command, port
    path = program(command)
    if not path:
        raise ServerStartFailed(
            reason="no “paintover” program was found",
            hint="Press “Set Up Server” in the add-on's preferences, or name the program there under Server Command.",
        )
    _log = data_folder() / f"server-{port}.log"
    try:
        _log.parent.mkdir(parents=True, exist_ok=True)
        full = _log.exists() and _log.stat().st_size > LOG_LIMIT
        # Into a file, not a pipe: a pipe whose reader was killed would end or block the server when it next writes.
        with _log.open("wb" if full else "ab") as output:
            _log_start = output.tell()
            # The pipe that the server watches: it closes when this Blender ends, however it ends.
            _process = subprocess.Popen(
                [path, "serve", "--port", str(port), "--with-parent"],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment.variables(),
                **environment.OWN_GROUP,
            )
    except OSError as reason:
        raise ServerStartFailed(reason=f"{path}: {reason.strerror}") from reason


def listening() -> bool:
    """Whether the server has said that it listens. Raises ServerStartFailed or PortInUse if it ended instead."""
    ended = _process is not None and _process.poll() is not None
    if ended:
        assert _process is not None
        text = _last_words()
        if "in use" in text or "already running" in text:
            raise PortInUse(text)
        raise ServerStartFailed(reason=text or f"exit code {_process.returncode}")
    return any("listens on" in line for line in log())


def _last_words() -> str:
    """What a server that has ended said of that: it stands behind the last record of its log."""
    lines = log()
    records = [index for index, line in enumerate(lines) if RECORD.match(line)]
    return " ".join(lines[records[-1] + 1 if records else 0 :][-4:])


def stopping() -> bool:
    """Whether a server that was stopped has not ended yet."""
    return _ending is not None and _ending.is_alive()


def stop(*, wait: bool = False) -> None:
    """End the server that this Blender started, whoever uses it; does nothing if it started none. Its end, some seconds
    later at the most, is waited for in a thread, or here with `wait`."""
    global _ending
    process = _let_go()
    if process is None or process.poll() is not None:
        return
    process.terminate()
    _ending = threading.Thread(target=_see_off, args=(process,), name="paintover-stop", daemon=True)
    _ending.start()
    if wait:
        _ending.join()


def _see_off(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def leave() -> None:
    """Tell the server that this Blender is done with it: it ends at once unless others use it or a job runs."""
    process = _let_go()
    if process is not None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(2)
    if _ending is not None:
        _ending.join(2)


def _let_go() -> subprocess.Popen[bytes] | None:
    global _process
    process, _process = _process, None
    if process is not None and process.stdin is not None:
        process.stdin.close()
    return process
