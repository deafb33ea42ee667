"""A server that Blender starts and stops, played by a program that does not listen to anybody."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from paintover import server_process
from paintover.session import Session

DEAF = f"""#!{sys.executable}
import signal, threading
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("listens on nothing", flush=True)
threading.Event().wait(60)
"""


@pytest.fixture
def deaf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PAINTOVER_DATA", str(tmp_path / "data"))
    program = tmp_path / "paintover"
    program.write_text(DEAF)
    program.chmod(0o755)
    server_process.start(str(program), 1)
    while not server_process.listening():
        assert server_process.running()
    yield
    server_process.stop(wait=True)


@pytest.mark.skipif(sys.platform == "win32", reason="nothing there ignores its end")
def test_nobody_waits_for_a_server_that_does_not_end(deaf: None, monkeypatch: pytest.MonkeyPatch) -> None:
    process = server_process._process
    assert process
    waited: list[float | None] = []
    wait = process.wait

    def patience(seconds: float | None = None) -> int:
        waited.append(seconds)
        return wait(None if seconds is None else 0.2)

    monkeypatch.setattr(process, "wait", patience)
    server_process.stop()
    assert process.poll() is None, "its end was not waited for"
    assert server_process.stopping()
    assert not server_process.running()
    session = Session()
    assert session.tick()
    assert not session.idle, "its end is still to be noticed"
    assert server_process._ending
    server_process._ending.join(30)
    assert (process.poll(), server_process.stopping()) == (-9, False)
    assert not session.idle
    assert session.tick(), "now the panel shows that it can be started again"
    assert session.idle
    assert waited == [server_process.PATIENCE, None]
