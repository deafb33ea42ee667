"""A server that Blender starts and stops, played by a program that does not listen to anybody."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from paintover import server_process
from paintover.bridge.errors import PaintoverError, PortInUse, ServerStartFailed
from paintover.session import Session

from ..waiting import wait_until

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
    wait_until(server_process.listening)
    yield
    server_process.stop(wait=True)


OSC_OFF = (
    "2026-03-04 10:11:12,345 WARNING OSC: port 9000 is in use by another program. Stop that program, or choose another "
    "port with --osc-port (0: none), and start the server again."
)


@pytest.mark.skipif(sys.platform == "win32", reason="the program is a script")
@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        ([OSC_OFF, "The engine cannot be loaded.", "Run paintover doctor."], ServerStartFailed, "cannot be loaded"),
        ([OSC_OFF], ServerStartFailed, "exit code 3"),
        ([], ServerStartFailed, "exit code 3"),
        ([OSC_OFF, "Port 8765 on 127.0.0.1 is in use by another program.", "Stop that", "program."], PortInUse, "8765"),
        (["Another Paintover server is already running on port 8765.", "Use that one."], PortInUse, "already"),
    ],
)
def test_why_a_server_ended_is_what_it_said_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str], error: type[PaintoverError], words: str
) -> None:
    monkeypatch.setenv("PAINTOVER_DATA", str(tmp_path / "data"))
    program = tmp_path / "paintover"
    lines = "".join(f"{line}\n" for line in said)
    program.write_text(f"#!{sys.executable}\nimport sys\nprint({lines!r}, end='')\nsys.exit(3)\n")
    program.chmod(0o755)
    server_process.start(str(program), 8765)
    wait_until(server_process.died, 30)
    with pytest.raises(error, match=words) as caught:
        server_process.listening()
    server_process.stop(wait=True)
    assert type(caught.value) is error


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
