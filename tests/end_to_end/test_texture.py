"""The built zip in a fresh Blender against a real server: install, paint, revert, cancel, disable, leave nothing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from ..server_process import ServerProcess, running
from .conftest import Blender


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with the real engine, and so with mini."""
    with running(tmp_path_factory.mktemp("server"), engine="diffusers") as process:
        yield process


# Adds an emptiness check to what a script ends with: nothing of Paintover may be left once it is disabled.
DISABLE = """
import addon_utils, gc, sys, threading
classes = [name for name in dir(bpy.types) if name.startswith("PAINTOVER")]
bpy.ops.preferences.addon_disable(module=MODULE)
threads = [thread.name for thread in threading.enumerate() if thread.name.startswith("paintover")]
tell(classes=len(classes), left=[name for name in dir(bpy.types) if name.startswith("PAINTOVER")],
     scene=hasattr(bpy.types.Scene, "paintover"), threads=threads,
     handlers=[h.__name__ for h in [*bpy.app.handlers.load_post, *bpy.app.handlers.save_pre]
               if "paintover" in h.__module__],
     timers=[t for t in [part("pump")._tick] if bpy.app.timers.is_registered(t)] != [])
bpy.ops.extensions.package_uninstall(repo_index=[i for i, r in enumerate(
    bpy.context.preferences.extensions.repos) if r.module == "user_default"][0], pkg_id="paintover")
tell(files=os.path.exists(os.path.join(os.environ["BLENDER_USER_RESOURCES"], "extensions/user_default/paintover")))
"""


def test_paint_revert_disable(blender: Blender, server: ServerProcess) -> None:
    told = blender.run(
        """
        import numpy as np
        install()
        ob = cube()
        red = bpy.data.materials.new("Red")
        ob.data.materials.append(red)
        bpy.ops.paintover.connect()
        settings = bpy.context.scene.paintover
        tell(defaults=[settings.steps, settings.size])
        settings.prompt, settings.seed, settings.views, settings.steps, settings.texture_size = "brick", 1, 3, 4, 256
        tell(painted=list(bpy.ops.paintover.texture()))
        material = ob.material_slots[0].material
        image = next(node.image for node in material.node_tree.nodes if node.type == "TEX_IMAGE")
        pixels = np.empty(256 * 256 * 4, np.float32)
        image.pixels.foreach_get(pixels)
        np.save("texture.npy", pixels.reshape(256, 256, 4)[::-1])
        task = part("session").session.tasks[-1]
        tell(material=material.name, slots=ob.data.materials[0].name, packed=bool(image.packed_file),
             coverage=task.coverage, views=task.finished, kept=len(task.views) + len(task.painted),
             uvs=[layer.name for layer in ob.data.uv_layers])
        tell(reverted=list(bpy.ops.paintover.revert()), after=ob.material_slots[0].material.name,
             materials=[m.name for m in bpy.data.materials], images=[i.name for i in bpy.data.images])
        """
        + DISABLE.replace("\n", "\n        "),
        port=server.port,
    )
    assert told["defaults"] == [12, 256], "the model's own recommendations"
    assert told["painted"] == ["FINISHED"]
    assert told["material"] == "Paintover Cube"
    assert told["slots"] == "Red", "the mesh keeps its own material"
    assert told["packed"]
    assert told["uvs"] == ["UVMap"]
    assert told["coverage"]["Cube"] > 0.95
    assert 2 <= told["views"] <= 3
    assert told["kept"] == 0, "an ended task lets go of its passes and pictures"
    texture = np.load(blender.folder / "texture.npy")[..., :3]
    assert texture.std() > 0.02, "a painting, not one colour"
    assert told["reverted"] == ["FINISHED"]
    assert told["after"] == "Red"
    assert told["materials"] == ["Red"]
    assert told["images"] == []
    assert told["classes"] > 10
    assert told["left"] == []
    assert not told["scene"]
    assert told["threads"] == []
    assert told["handlers"] == []
    assert not told["timers"]
    assert not told["files"]


def test_without_uvs_and_with_overlapping_ones(blender: Blender, server: ServerProcess) -> None:
    told = blender.run(
        """
        import numpy as np
        install()
        bare, doubled = cube("Bare", (-2, 0, 0)), cube("Doubled", (2, 0, 0))
        bare.data.uv_layers.remove(bare.data.uv_layers[0])
        uv = doubled.data.uv_layers[0].uv
        uv.foreach_set("vector", np.tile([0, 0, 1, 0, 1, 1, 0, 1], 6).astype(np.float32))
        bare.select_set(True); doubled.select_set(True)
        bpy.ops.paintover.connect()
        settings = bpy.context.scene.paintover
        settings.prompt, settings.views, settings.steps, settings.size, settings.texture_size = "moss", 2, 2, 128, 128
        tell(painted=list(bpy.ops.paintover.texture()))
        task = part("session").session.tasks[-1]
        tell(notes=task.notes, layers={ob.name: [layer.name for layer in ob.data.uv_layers] for ob in (bare, doubled)})
        bpy.ops.paintover.revert()
        tell(reverted={ob.name: [layer.name for layer in ob.data.uv_layers] for ob in (bare, doubled)})
        """,
        port=server.port,
    )
    assert told["painted"] == ["FINISHED"]
    assert any("Bare has no UVs" in note and "Paintover" in note for note in told["notes"])
    assert any("Doubled has overlapping UVs" in note for note in told["notes"])
    assert told["layers"] == {"Bare": ["Paintover"], "Doubled": ["UVMap", "Paintover"]}
    assert told["reverted"] == {"Bare": [], "Doubled": ["UVMap"]}


def test_cancel_leaves_the_scene_as_it_was(blender: Blender, server: ServerProcess) -> None:
    told = blender.run(
        """
        install()
        ob = cube("Bare")
        ob.data.uv_layers.remove(ob.data.uv_layers[0])
        bpy.ops.paintover.connect()
        settings = bpy.context.scene.paintover
        settings.prompt, settings.steps, settings.texture_size = "moss", 150, 128
        session = part("session").session
        common, plain = part("operators.common"), part("operators.common").tell
        def cancel_at_the_first_step(task):
            if task.state.name == "RUNNING" and task.fraction > 0:
                session.cancel()
            return plain(task)
        common.tell = cancel_at_the_first_step
        tell(result=list(bpy.ops.paintover.texture()))
        task = session.tasks[-1]
        tell(state=task.state.name, uvs=len(ob.data.uv_layers), images=len(bpy.data.images),
             materials=len(bpy.data.materials), preview=task.preview is not None)
        """,
        port=server.port,
    )
    assert told["result"] == ["CANCELLED"]
    assert told["state"] == "CANCELLED"
    assert (told["uvs"], told["images"], told["materials"]) == (0, 0, 0)
