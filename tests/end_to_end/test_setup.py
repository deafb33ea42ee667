"""Setting up the server from Blender with a real installation from the package registry; and how long a server lives
that Blender has started."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from paintover.bridge.client import Client
from paintover.bridge.messages import Notice, Ping, Pong

from .conftest import Blender

PROGRAM = Path(sys.executable).with_name("paintover")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def watch(process: subprocess.Popen[str], pattern: str) -> str:
    """Read what Blender prints up to a line that matches; returns all of it."""
    said = ""
    assert process.stdout is not None
    for line in process.stdout:
        said += line
        if re.search(pattern, line):
            return said
    raise AssertionError(f"Blender ended before it said {pattern!r}:\n{said[-4000:]}")


class NoNetwork:
    """A proxy that leads nowhere and counts who comes."""

    def __init__(self) -> None:
        self.visitors = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        while True:
            try:
                self._listener.accept()[0].close()
            except OSError:
                return
            self.visitors += 1

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def no_network() -> Iterator[NoNetwork]:
    nowhere = NoNetwork()
    yield nowhere
    nowhere.close()


ONLINE = """
install()
bpy.context.preferences.system.use_online_access = True
preferences = bpy.context.preferences.addons[MODULE].preferences
preferences.token, preferences.build = "", "CPU"
record = part("environment.record")
"""
PAINT = """
import numpy as np
install(); cube(); camera()
preferences = bpy.context.preferences.addons[MODULE].preferences
preferences.token = ""
tell(online=bpy.app.online_access, words=failure(bpy.ops.paintover.setup_server),
     started=list(bpy.ops.paintover.start_server()), program=part("server_process").program(""))
settings, scene = bpy.context.scene.paintover, bpy.context.scene
scene.render.resolution_x = scene.render.resolution_y = 256
settings.prompt, settings.size, settings.steps, settings.seed = "brick", 128, 4, 2
tell(painted=list(bpy.ops.paintover.render_view()))
image = bpy.data.images["Paintover Camera"]
pixels = np.empty(image.size[0] * image.size[1] * 4, np.float32)
image.pixels.foreach_get(pixels)
tell(size=list(image.size), spread=float(pixels.reshape(-1, 4)[:, :3].std()))
tell(stopped=list(bpy.ops.paintover.stop_server()))
"""


PATIENCE = 1200
"""Seconds for what takes one or two minutes: the registry, and a disk that deletes 40,000 files, can be slow."""


@pytest.mark.timeout(3 * PATIENCE)
def test_a_real_installation(blender: Blender, monkeypatch: pytest.MonkeyPatch, no_network: NoNetwork) -> None:
    """Killed half-way, gone on with, pressed again, used without a network, removed."""
    with monkeypatch.context() as online:
        # The index of PyTorch's own builds is left out: the default one has what this machine needs.
        online.setenv("PAINTOVER_TORCH_INDEX", "http://127.0.0.1:1/whl")
        try:
            first = blender.start(ONLINE + "bpy.ops.paintover.setup_server()")
            said = watch(first, "Installing the server")
            kill(first)
            assert "Making the environment" in said
            told = blender.run(
                ONLINE
                + """
tell(before=record.state(part("preferences").wheel_identity()).name)
tell(done=list(bpy.ops.paintover.setup_server()), after=record.state(part("preferences").wheel_identity()).name,
     made=vars(record.read()))
work = part("session").session.setup
tell(again=list(bpy.ops.paintover.setup_server()), idle=part("session").session.setup is work)
""",
                timeout=PATIENCE,
            )
            assert told["before"] == "UNFINISHED"
            assert told["done"] == told["again"] == ["FINISHED"]
            assert told["after"] == "READY"
            assert told["idle"], "what is ready is not installed again"
            assert told["made"]["device"] == "CPU"
            assert "Making the environment" not in told["output"], "it went on where it was killed"
            assert "set up already" in told["output"]
            log = (blender.folder / "data" / "server-setup.log").read_text()
            assert log.count("-m venv") == 1
            assert not (blender.folder / "data" / "server" / "temporary").exists()
        except BaseException:
            shutil.rmtree(blender.folder / "data" / "server", ignore_errors=True)
            raise
    try:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, no_network.address)
            monkeypatch.setenv(name.upper(), no_network.address)
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setenv("NO_PROXY", "")
        told = blender.run(PAINT, port=free_port())
        assert not told["online"]
        assert "Allow Online Access" in told["words"]
        assert told["program"] == str(blender.folder / "data" / "server" / "environment" / "bin" / "paintover")
        assert told["started"] == told["painted"] == told["stopped"] == ["FINISHED"]
        assert told["size"] == [128, 128]
        assert told["spread"] > 0.02
        assert no_network.visitors == 0, "once set up, it asks nobody"
        told = blender.run("install(); tell(removed=list(bpy.ops.paintover.remove_server()))", timeout=PATIENCE)
        assert told["removed"] == ["FINISHED"]
        assert not (blender.folder / "data" / "server").exists()
    finally:
        shutil.rmtree(blender.folder / "data" / "server", ignore_errors=True)


# ---------------------------------------------------------------- how long a server lives

START = f"""
import threading
install(); cube(); camera()
preferences = bpy.context.preferences.addons[MODULE].preferences
preferences.command, preferences.token = {str(PROGRAM)!r}, ""
bpy.ops.paintover.start_server()
tell(server=part("server_process")._process.pid)
"""


def started(blender: Blender, port: int, script: str, pattern: str) -> tuple[subprocess.Popen[str], psutil.Process]:
    """A Blender that has started a server and printed what the pattern says, and that server."""
    import json

    process = blender.start(START + script, port=port)
    watch(process, pattern)
    told: dict[str, Any] = json.loads((blender.folder / "result.json").read_text())
    return process, psutil.Process(told["server"])


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


WAIT = "print('READY', flush=True); threading.Event().wait(120)"


def test_a_server_ends_with_a_blender_that_is_killed(blender: Blender) -> None:
    process, server = started(blender, free_port(), WAIT, "READY")
    kill(process)
    server.wait(20)
    (log,) = (blender.folder / "data").glob("server-*.log")
    assert "Blender is gone" in log.read_text()
    assert "Stopped." in log.read_text()


def test_the_environment_is_not_removed_under_another_blenders_server(blender: Blender) -> None:
    port = free_port()
    process, server = started(blender, port, WAIT, "READY")
    environment = blender.folder / "data" / "server" / "environment"
    environment.mkdir(parents=True)
    told = blender.run("install(); tell(words=failure(bpy.ops.paintover.remove_server))")
    assert f"running on port {port}" in told["words"]
    assert "Stop Server" in told["words"]
    assert environment.exists()
    kill(process)
    server.wait(20)
    told = blender.run("install(); tell(removed=list(bpy.ops.paintover.remove_server()))")
    assert told["removed"] == ["FINISHED"]
    assert not environment.parent.exists()


def test_other_clients_keep_the_server(blender: Blender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAINTOVER_DATA", str(blender.folder / "data"))
    port = free_port()
    process, server = started(blender, port, WAIT, "READY")
    with Client.connect("127.0.0.1", port) as other:
        kill(process)
        for number in range(20):  # by the last of them the front has looked several times whether it is needed
            other.send(Ping(number))
            while isinstance(answer := other.receive(10), Notice):
                pass  # another server of this machine may have the port for OSC
            assert answer == Pong(number)
            with pytest.raises(psutil.TimeoutExpired):
                server.wait(0.1)
    server.wait(20)


def test_a_job_that_runs_is_finished_first(blender: Blender) -> None:
    job = """
bpy.context.scene.paintover.steps, bpy.context.scene.paintover.size = 8, 128
bpy.ops.paintover.render_view()
"""
    process, server = started(blender, free_port(), job, r"step 2 of|Step 2 of")
    kill(process)
    server.wait(120)
    (result,) = (blender.folder / "data" / "jobs").iterdir()
    assert result.stat().st_size > 1000, "what it painted is there to be fetched"


def test_disabling_the_extension_ends_its_server(blender: Blender) -> None:
    told = blender.run(
        START
        + """
bpy.ops.preferences.addon_disable(module=MODULE)
print("DISABLED", flush=True)
""",
        port=free_port(),
    )
    with pytest.raises(psutil.NoSuchProcess):
        psutil.Process(told["server"]).wait(20)
