"""Live in real Blender against a real server: it paints what the scene's camera sees, and comes back by itself."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import textwrap
from pathlib import Path

from ..server_process import running
from ..waiting import wait_until
from .conftest import Blender

START = textwrap.dedent("""
    import numpy as np
    install(); cube(); camera()
    scene = bpy.context.scene
    scene.paintover.live_camera, scene.paintover.prompt = "SCENE", "old brick"
    scene.paintover.output_width = scene.paintover.output_height = 128
    session = part("session").session
    def until(done, what):
        try:
            session.wait(lambda: done() or session.live is None, 60)
        except TimeoutError:
            raise AssertionError(f"waited for {what}: {session.live and session.live.error} {session.error}")
        assert session.live is not None, f"it ended before {what}: {session.error}"
    def paint():
        live, before = session.live, session.live._number
        scene.camera.location.x += 0.1
        until(lambda: live._number > before and live._shown == live._number, "a painting")
        return live.picture[64, 64].tolist()
    bpy.ops.paintover.connect()
    bpy.ops.paintover.live_toggle()
""")


def test_live(blender: Blender, tmp_path: Path) -> None:
    with running(tmp_path / "server") as server:
        told = blender.run(
            START
            + textwrap.dedent("""
            first = paint()
            scene.paintover.prompt = "blue ice"
            live = session.live
            until(lambda: live.picture[64, 64].tolist() != first, "the other prompt")
            tell(size=live.picture.shape, latency=live.latency, first=first, second=paint())
            bpy.ops.paintover.live_to_mesh()
            tell(painted=bpy.context.object.material_slots[0].material.name)
            bpy.ops.wm.save_as_mainfile(filepath=os.environ["FOLDER"] + "/scene.blend")
            bpy.ops.paintover.live_snapshot()
            tell(saved=[str(path) for path in Path(os.environ["FOLDER"]).rglob("snapshot*.png")])
            bpy.ops.wm.open_mainfile(filepath=os.environ["FOLDER"] + "/scene.blend")
            tell(after_load=session.live is None, online=session.online)
            bpy.ops.paintover.live_toggle()
            bpy.ops.preferences.addon_disable(module=MODULE)
            tell(ended=session.live is None)
            leave()
            """),
            port=server.port,
        )
        assert told["size"] == [128, 128, 3]
        assert told["first"] != told["second"]
        assert told["latency"] > 0
        assert told["painted"] == "Paintover Cube"
        assert len(told["saved"]) == 1
        assert told["after_load"]
        assert told["online"]
        assert told["ended"]


def test_it_comes_back_by_itself(blender: Blender, tmp_path: Path) -> None:
    """The painting process is killed, then the whole server; a new one takes its place on the same port."""
    with running(tmp_path / "server") as server:
        process = blender.start(
            START
            + textwrap.dedent("""
            def wait_for(name):
                session.wait(lambda: Path(os.environ["FOLDER"], name).exists(), 60)
            live = session.live
            tell(before=paint())
            wait_for("worker killed")
            tell(worker=paint())
            wait_for("server killed")
            until(lambda: not session.online, "the loss to be noticed")
            tell(lost=str(live.error))
            until(lambda: session.online and live.joined, "the new server")
            tell(server=paint(), same=session.live is live, prompt=scene.paintover.prompt)
            leave()
            """),
            port=server.port,
        )

        def has_told(name: str) -> bool:
            assert process.poll() is None, process.communicate()[0][-3000:]
            with contextlib.suppress(OSError, ValueError):  # not there yet, or half written
                return name in json.loads((blender.folder / "result.json").read_text())
            return False

        def wait_for(name: str) -> None:
            wait_until(lambda: has_told(name), 90)

        wait_for("before")
        os.kill(server.worker().pid, signal.SIGKILL)
        (blender.folder / "worker killed").touch()
        wait_for("worker")
        server.process.kill()
        server.process.wait()
        (blender.folder / "server killed").touch()
        wait_for("lost")
        with running(tmp_path / "server", "fake", "--port", str(server.port)):
            told = blender.finish(process)
    assert told["same"]
    assert told["worker"] == told["before"]
    assert told["prompt"] == "old brick", "also where the server has lost it"
