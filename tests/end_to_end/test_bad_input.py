"""Everything that can be wrong: each gets plain words with the next step, and leaves the scene as it was."""

from __future__ import annotations

import signal
import socket
import struct
import threading
from pathlib import Path
from typing import Any

import pytest

from ..server_process import ServerProcess, running
from .conftest import Blender

# Runs all cases in one Blender; each case starts from an empty scene, says what it did and what it left behind.
SCENES = """
import hashlib

def state():
    text = [str((ob.name, ob.type, [tuple(r) for r in ob.matrix_world], ob.select_get(), ob.pass_index,
            [(s.link, s.material.name if s.material else "") for s in ob.material_slots],
            [layer.name for layer in ob.data.uv_layers] if ob.type == "MESH" else "")) for ob in bpy.data.objects]
    text += [str([len(getattr(bpy.data, kind)) for kind in
            ("scenes", "images", "materials", "cameras", "meshes", "worlds", "collections", "node_groups")])]
    scene = bpy.context.scene
    text += [str((scene.render.engine, scene.frame_current, scene.camera and scene.camera.name, scene.use_nodes,
            scene.render.resolution_x, scene.view_settings.view_transform, bpy.context.mode))]
    return text

def clear():
    for ob in list(bpy.data.objects):
        bpy.data.objects.remove(ob)
    bpy.data.orphans_purge(do_recursive=True)

def case(name, operator, prepare):
    clear()
    prepare()
    bpy.context.view_layer.update()
    before = state()
    words = failure(operator)
    after = state()
    tell(**{name: {"words": words, "changed": [x for x in after if x not in before]}})

def empty_mesh():
    ob = bpy.data.objects.new("Nothing", bpy.data.meshes.new("Nothing"))
    bpy.context.scene.collection.objects.link(ob)
    ob.select_set(True)

def zero_scale():
    cube("Flat").scale = (1, 0, 1)

def outside():
    cube("Lost", (0, 50, -500)); camera()
    bpy.context.scene.paintover.cameras = "scene"

def linked():
    bpy.ops.wm.link(directory=f"{library}/Object/", filename="Borrowed")
    for ob in bpy.data.objects:
        ob.select_set(True)

def no_camera():
    cube("Alone")
    bpy.context.scene.paintover.cameras = "scene"

def none_selected():
    cube("Alone").select_set(False)
    camera()
    bpy.context.scene.paintover.cameras = "selected"
    bpy.context.scene.objects["Camera"].select_set(False)
    bpy.context.scene.objects["Alone"].select_set(True)

def unknown_model():
    cube("Fine")
    bpy.context.scene.paintover.model = "nonesuch"

install()
bpy.ops.mesh.primitive_cube_add()
bpy.context.object.name = "Borrowed"
library = os.path.abspath("library.blend")
bpy.ops.wm.save_as_mainfile(filepath=library, copy=True)
settings = bpy.context.scene.paintover
paint, view = bpy.ops.paintover.texture, bpy.ops.paintover.render_view
tell(offline=failure(paint))
bpy.ops.paintover.connect()
settings.steps, settings.size, settings.views, settings.texture_size = 1, 64, 1, 64
case("no_camera_view", view, lambda: None)
case("no_camera", paint, no_camera)
case("none_selected", paint, none_selected)
case("no_mesh", paint, camera)
case("empty_mesh", paint, empty_mesh)
settings.cameras = "automatic"
case("empty_mesh_automatic", paint, empty_mesh)
case("zero_scale", paint, zero_scale)
case("outside", paint, outside)
settings.cameras = "automatic"
case("linked", paint, linked)
case("unknown_model", paint, unknown_model)
settings.model = "mini"
settings.size = 100
tell(size=settings.size)
case("nothing_to_revert", bpy.ops.paintover.revert, lambda: cube("Fresh"))
case("nothing_to_cancel", bpy.ops.paintover.cancel, lambda: cube("Fresh"))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, addon_zip: Path, fake_server: ServerProcess) -> dict[str, Any]:
    return Blender(tmp_path_factory.mktemp("scenes"), addon_zip).run(SCENES, port=fake_server.port)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("no_camera_view", ("no camera", "Add > Camera")),
        ("no_camera", ("no camera", "Automatic")),
        ("none_selected", ("No camera is selected", "Automatic")),
        ("no_mesh", ("Select the mesh objects",)),
        ("empty_mesh", ("has no faces",)),
        ("empty_mesh_automatic", ("has no faces",)),
        ("zero_scale", ("scale of zero", "other than zero")),
        ("outside", ("No camera sees", "Automatic")),
        ("linked", ("linked from another file", "Make Local")),
        ("unknown_model", ("nonesuch", "models list")),
        ("nothing_to_revert", ("None of the selected objects",)),
        ("nothing_to_cancel", ("Nothing is being painted",)),
    ],
)
def test_scene(told: dict[str, Any], case: str, words: tuple[str, ...]) -> None:
    for word in words:
        assert word in told[case]["words"]
    assert "Traceback" not in told[case]["words"]
    assert told[case]["changed"] == []


def test_painting_is_greyed_out_offline(told: dict[str, Any]) -> None:
    assert "press Connect" in told["offline"]


def test_a_size_is_rounded_to_what_can_be_painted(told: dict[str, Any]) -> None:
    assert told["size"] == 96 or told["size"] == 104


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_no_server(blender: Blender) -> None:
    told = blender.run("install(); tell(words=failure(bpy.ops.paintover.connect))", port=free_port())
    assert "No Paintover server answers" in told["words"]
    assert "paintover serve" in told["words"]


def test_wrong_token(blender: Blender, fake_server: ServerProcess) -> None:
    script = "install(); tell(words=failure(bpy.ops.paintover.connect))"
    told = blender.run(script, port=fake_server.port, token="wrong")
    assert "refused the token" in told["words"]
    assert "doctor" in told["words"]


def test_another_protocol(blender: Blender) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(struct.pack("<4sHHIQ", b"PTOV", 77, 0, 2, 0) + b"{}")
                connection.recv(4096)

        threading.Thread(target=answer, daemon=True).start()
        told = blender.run("install(); tell(words=failure(bpy.ops.paintover.connect))", port=listener.getsockname()[1])
    assert "protocol 77" in told["words"]
    assert "same Paintover version" in told["words"]


def test_port_in_use(blender: Blender, fake_server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    program = Path(sys.executable).with_name("paintover")
    told = blender.run(
        f"""
        install()
        bpy.context.preferences.addons[MODULE].preferences.command = {str(program)!r}
        tell(words=failure(bpy.ops.paintover.start_server))
        """,
        port=fake_server.port,
    )
    assert "in use" in told["words"]


def test_blender_starts_and_stops_a_server(blender: Blender) -> None:
    import sys

    program = Path(sys.executable).with_name("paintover")
    port = free_port()
    told = blender.run(
        f"""
        install()
        preferences = bpy.context.preferences.addons[MODULE].preferences
        preferences.command = {str(program)!r}
        preferences.host, preferences.token = "127.0.0.9", "another machine's"
        tell(started=list(bpy.ops.paintover.start_server()))
        preferences.host, preferences.token = "127.0.0.1", ""
        tell(connected=list(bpy.ops.paintover.connect()))
        tell(models=[model.name for model in part("properties")._models])
        tell(stopped=list(bpy.ops.paintover.stop_server()), words=failure(bpy.ops.paintover.connect))
        """,
        port=port,
    )
    assert told["started"] == told["connected"] == told["stopped"] == ["FINISHED"]
    assert "mini" in told["models"]
    assert "No Paintover server answers" in told["words"]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 1)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (signal.SIGKILL, ("connection to the server was lost", "Connect again")),
        (signal.SIGSTOP, ("has not answered for 20 seconds", "restart the server")),
    ],
)
def test_a_server_that_stops_in_mid_job(
    blender: Blender, tmp_path: Path, how: signal.Signals, words: tuple[str, ...]
) -> None:
    with running(tmp_path / "server") as server:
        process = blender.start(
            """
            install(); cube(); camera()
            bpy.ops.paintover.connect()
            session = part("session").session
            session.wait(lambda: session.link.client.shares_memory, 20)
            settings = bpy.context.scene.paintover
            settings.prompt, settings.size = "endless", 128
            words = failure(bpy.ops.paintover.render_view)
            tell(words=words, images=len(bpy.data.images), objects=[ob.name for ob in bpy.data.objects])
            """,
            port=server.port,
        )
        assert process.stdout is not None
        for line in process.stdout:
            if "Step 5 of" in line:
                break
        server.process.send_signal(how)
        told = blender.finish(process)
        server.process.send_signal(signal.SIGCONT)
    for part in words:
        assert part in told["words"]
    assert told["images"] == 0
    assert sorted(told["objects"]) == ["Camera", "Cube"]
