"""Nothing lost between Blender and its server: Blender is killed in mid-job, and another takes over what it wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from paintover.bridge.messages import DONE, Follow, Jobs, ListJobs

from ..server.recovery import end_of, until
from ..server_process import ServerProcess
from .conftest import Blender

SETTINGS = """
settings = bpy.context.scene.paintover
settings.prompt, settings.seed, settings.views, settings.size, settings.texture_size = "moss", 1, 3, 128, 128
settings.steps, settings.shading, settings.method = 80, "LIT", "sequential"
"""

ASK = (
    """
install()
bare, mapped = cube("Bare", (-2, 0, 0)), cube("Mapped", (2, 0, 0))
bare.data.uv_layers.remove(bare.data.uv_layers[0])
bare.select_set(True)
"""
    + SETTINGS
    + """
bpy.ops.wm.save_as_mainfile(filepath=os.path.abspath("kitchen.blend"))
bpy.ops.paintover.connect()
bpy.ops.paintover.texture()
"""
)

LOOK = """
def texture(ob):
    material = ob.material_slots[0].material
    return next(node.image for node in material.node_tree.nodes if node.type == "TEX_IMAGE")

def pixels(image):
    values = np.empty(image.size[0] * image.size[1] * 4, np.float32)
    image.pixels.foreach_get(values)
    return values.reshape(image.size[1], image.size[0], 4)[..., :3]
"""

TAKE_OVER = (
    """
import numpy as np
install()
bpy.ops.wm.open_mainfile(filepath=os.path.abspath("kitchen.blend"))
bpy.ops.paintover.connect()
session, scene = part("session").session, bpy.context.scene
offers = session.offers(scene)
tell(offers=[[offer.state, offer.prompt, list(offer.objects), offer.views] for offer in offers])
bpy.ops.ed.undo_push(message="before")
tell(taken=list(bpy.ops.paintover.take_over(job=offers[0].job)))
bpy.ops.ed.undo_push(message="taken over")
bare, mapped = bpy.data.objects["Bare"], bpy.data.objects["Mapped"]
tell(materials=[ob.material_slots[0].material.name for ob in (bare, mapped)],
     uvs=[[layer.name for layer in ob.data.uv_layers] for ob in (bare, mapped)], notes=session.tasks[-1].notes,
     shaders=sorted(node.type for node in mapped.material_slots[0].material.node_tree.nodes))
"""
    + LOOK
    + """
np.savez("textures.npz", bare=pixels(texture(bare)), mapped=pixels(texture(mapped)))
tell(left=len(session.offers(scene)), words=failure(bpy.ops.paintover.take_over))
bpy.ops.ed.undo()
tell(undone=[len(bpy.data.objects[name].material_slots) for name in ("Bare", "Mapped")])
bpy.ops.wm.open_mainfile(filepath=os.path.abspath("kitchen.blend"))
session.wait(lambda: session.offers(bpy.context.scene), 30)
tell(dismissed=list(bpy.ops.paintover.dismiss()), after=len(session.offers(bpy.context.scene)))
"""
)


def kill_in_mid_job(blender: Blender, server: ServerProcess, words: str) -> None:
    """Start a job in Blender and kill that with SIGKILL as soon as it prints these words."""
    process = blender.start(ASK, port=server.port)
    assert process.stdout is not None
    seen: list[str] = []
    for line in process.stdout:
        seen.append(line)
        if words in line:
            break
    else:
        raise AssertionError("".join(seen)[-4000:])
    process.kill()
    process.wait(30)
    process.stdout.close()


def look(folder: Path, told: dict[str, Any]) -> None:
    """What a job that was taken over looks like in Blender."""
    assert told["taken"] == ["FINISHED"]
    assert told["materials"] == ["Paintover Bare", "Paintover Mapped"]
    assert told["uvs"] == [["Paintover"], ["UVMap"]]
    assert "BSDF_PRINCIPLED" in told["shaders"], "lit, as the lost session had wanted it"
    assert any("made again" in note for note in told["notes"])
    for texture in np.load(folder / "textures.npz").values():
        assert texture.shape == (128, 128, 3)
        assert texture.std() > 0.02, "shaded by what the cameras saw, not one colour"
    assert told["left"] == 0
    assert "has not got" in told["words"]
    assert told["undone"] == [0, 0]
    assert told["dismissed"] == ["FINISHED"]
    assert told["after"] == 0


def test_a_blender_that_was_killed_and_a_job_that_is_over(blender: Blender, fake_server: ServerProcess) -> None:
    kill_in_mid_job(blender, fake_server, "Painting view 2 of")
    with fake_server.client() as client:
        client.send(ListJobs())
        job = until(client, Jobs, "").jobs[-1].job
        client.send(Follow(job))
        assert end_of(client, job).state == DONE
    told = blender.run(TAKE_OVER, port=fake_server.port)
    assert told["offers"] == [["done", "moss", ["Bare", "Mapped"], 3]]
    look(blender.folder, told)


def test_a_blender_that_was_killed_and_a_job_that_still_runs(blender: Blender, fake_server: ServerProcess) -> None:
    """Its server's worker is stopped meanwhile, so that the job cannot be over before the second Blender comes."""
    kill_in_mid_job(blender, fake_server, "Painting view 1 of")
    worker = fake_server.worker()
    worker.suspend()
    script = TAKE_OVER.replace("tell(taken", "print('offered', flush=True); tell(taken")
    process = blender.start(script, port=fake_server.port)
    assert process.stdout is not None
    for line in process.stdout:
        if "offered" in line:
            break
    worker.resume()
    told = blender.finish(process)
    assert told["offers"] == [["running", "moss", ["Bare", "Mapped"], 3]]
    look(blender.folder, told)


def test_cancel_and_resume(blender: Blender, fake_server: ServerProcess) -> None:
    told = blender.run(
        ASK.replace("bpy.ops.paintover.texture()", "")
        + """
session = part("session").session
common, plain = part("operators.common"), part("operators.common").tell
def cancel_at_the_second_view(task):
    if "Painting view 2 of" in task.stage:
        session.cancel()
    return plain(task)
common.tell = cancel_at_the_second_view
tell(cancelled=list(bpy.ops.paintover.texture()), uvs=[len(ob.data.uv_layers) for ob in (bare, mapped)])
common.tell = plain
session.wait(lambda: session.offers(bpy.context.scene), 30)
os.mkdir("next")
bpy.ops.wm.save_as_mainfile(filepath=os.path.abspath("next/kitchen.blend"))
(offer,) = session.offers(bpy.context.scene)
tell(offer=[offer.state, offer.painted, offer.views])
tell(resumed=list(bpy.ops.paintover.resume()), notes=session.tasks[-1].notes)
tell(materials=[ob.material_slots[0].material.name for ob in (bare, mapped)],
     left=len(session.offers(bpy.context.scene)))
""",
        port=fake_server.port,
    )
    assert told["cancelled"] == ["CANCELLED"]
    assert told["uvs"] == [0, 1]
    assert told["offer"] == ["cancelled", 1, 3]
    assert told["resumed"] == ["FINISHED"]
    assert told["materials"] == ["Paintover Bare", "Paintover Mapped"]
    assert told["left"] == 0
