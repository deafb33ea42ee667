"""The render engine, once through: real Blender, a real server, pictures as Blender writes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from paintover.bridge.client import Client
from paintover.bridge.messages import RUNNING, Follow, Jobs, ListJobs, Progress

from ..server.recovery import until
from ..server_process import ServerProcess, running
from ..waiting import wait_until
from .conftest import Blender
from .film import ENGINE, FILM, pictures


def test_the_render_engine_paints_an_animation(blender: Blender, fake_server: ServerProcess) -> None:
    told = blender.run(
        ENGINE
        + """
scene.render.resolution_x, scene.render.resolution_y = 384, 256
tell(rendered=list(bpy.ops.render.render(animation=True)))
tell(shots=len(part("render_engine")._shots), frame=scene.frame_current)
bpy.ops.paintover.connect()
bpy.ops.paintover.render_shot()
""",
        port=fake_server.port,
    )
    assert told["rendered"] == ["FINISHED"]
    assert told["shots"] == 0
    rendered, painted = pictures(blender.folder / "rendered"), pictures(blender.folder / "frames")
    assert list(rendered) == [f"{number:04}.png" for number in range(1, 9)]
    for number in range(1, 9):
        picture = rendered[f"{number:04}.png"]
        assert picture.shape == (256, 384, 3), "in the render's own size"
        small = picture.reshape(128, 2, 192, 2, 3).mean((1, 3))
        difference = abs(small - painted[f"Scene_{number:04}.png"])
        assert np.median(difference) <= 2, "the frames are those that Render Shot paints"


def test_f12_and_its_passes(blender: Blender, fake_server: ServerProcess) -> None:
    told = blender.run(
        ENGINE
        + """
import numpy as np
image = scene.render.image_settings
if hasattr(image, "media_type"):
    image.media_type = "MULTI_LAYER_IMAGE"
image.file_format, image.color_depth = "OPEN_EXR_MULTILAYER", "32"
scene.render.filepath = os.path.abspath("still.exr")
scene.render.film_transparent = True
tell(rendered=list(bpy.ops.render.render(write_still=True)))
""",
        port=fake_server.port,
    )
    assert told["rendered"] == ["FINISHED"]
    head = (blender.folder / "still.exr").read_bytes()[:20000]
    for name in (b"Depth.Z", b"Normal.X", b"Edge.X", b"Object ID.X", b"Motion.X", b"Combined.A"):
        assert name in head, f"{name!r} is not in the file"


def test_passes_fit_what_other_engines_render(blender: Blender, fake_server: ServerProcess) -> None:
    """Also where the render's proportions are none that a painting can have, whose sides are multiples of 8."""
    told = blender.run(
        ENGINE
        + """
import numpy as np
engine, cameras, passes = part("render_engine"), part("cameras"), part("passes")
found, old = [], engine._passes
def caught(*arguments):
    found.append(old(*arguments))
    return found[-1]
engine._passes = caught
scene.render.resolution_x, scene.render.resolution_y = 250, 155
bpy.ops.render.render()
theirs = passes.render(scene, cameras.from_object(scene, scene.camera, 250, 155)).depth
ours = found[0]["Depth"][..., 0]
seen = np.isfinite(theirs)
tell(share=float(seen.mean()), same=float(((ours < 1e9) == seen).mean()))
tell(apart=float(np.median(abs(ours - theirs)[seen & (ours < 1e9)])))
""",
        port=fake_server.port,
    )
    assert told["share"] > 0.02
    assert told["same"] > 0.9995
    assert told["apart"] < 1e-4


def test_f12_without_a_server_or_a_camera_says_so(blender: Blender, fake_server: ServerProcess) -> None:
    told = blender.run(
        ENGINE
        + """
preferences = bpy.context.preferences.addons[MODULE].preferences
port, preferences.port = preferences.port, 1
tell(nobody=failure(bpy.ops.render.render))
preferences.port = port
markers = scene.timeline_markers
bpy.data.objects.remove(scene.camera)
tell(blind=failure(bpy.ops.render.render))
""",
        port=fake_server.port,
    )
    assert "No Paintover server answers" in told["nobody"]
    assert "camera" in told["blind"].lower()


def test_borders_cut_a_part_out_of_the_same_picture(blender: Blender, fake_server: ServerProcess) -> None:
    told = blender.run(
        ENGINE
        + """
render = scene.render
render.dither_intensity, render.resolution_percentage = 0, 57
render.border_min_x, render.border_max_x, render.border_min_y, render.border_max_y = 0.25, 0.6, 0.1, 0.83
for name in ("whole", "border", "crop"):
    render.use_border, render.use_crop_to_border = name != "whole", name == "crop"
    render.filepath = os.path.abspath(name + ".png")
    bpy.ops.render.render(write_still=True)
""",
        port=fake_server.port,
    )
    found = pictures(blender.folder)
    whole, border, crop = found["whole.png"], found["border.png"], found["crop.png"]
    assert whole.shape == border.shape == (72, 109, 3), told["output"][-4000:]
    inside = np.zeros((72, 109), bool)
    inside[72 - 59 : 72 - 7, 27:65] = True
    assert np.array_equal(border[inside], whole[inside])
    assert not border[~inside].any()
    assert np.array_equal(crop, whole[13:65, 27:65])
    assert whole[inside].std() > 5, "the cube is in it"


def test_a_timeline_without_end(blender: Blender, fake_server: ServerProcess) -> None:
    told = blender.run(
        ENGINE
        + """
scene.frame_end = 1048574
def written(*_):
    tell(written=sorted(os.listdir("rendered")))
    part("render_engine").end_shots()
    os._exit(0)
bpy.app.handlers.render_write.append(written)
tell(failed=failure(lambda: bpy.ops.render.render(animation=True)))
""",
        port=fake_server.port,
    )
    assert told.get("written") == ["0001.png"], told


# What reaches Blender, by view layer and frame; and how often one was drawn for the server.
WATCH = """
import numpy as np
engine, shots, footage = part("render_engine"), part("animate.engine_shot"), part("animate.footage")
pictures, drawn = {}, []
def frame(self, its_engine, depsgraph, number, *rest, old=shots.EngineShot.frame):
    pictures[depsgraph.view_layer.name, number] = old(self, its_engine, depsgraph, number, *rest)
    return pictures[depsgraph.view_layer.name, number]
def draw(self, place, old=footage.Footage.frame):
    drawn.append(place)
    return old(self, place)
shots.EngineShot.frame, footage.Footage.frame = frame, draw
def painted():
    bpy.ops.render.render(animation=True)
    found = {key: image for key, (image, _) in pictures.items()}
    pictures.clear()
    return found
"""


def test_every_view_layer_that_is_used_is_a_shot_of_its_own(blender: Blender, fake_server: ServerProcess) -> None:
    told = blender.run(
        ENGINE
        + WATCH
        + """
second, unused = scene.view_layers.new("Second"), scene.view_layers.new("Unused")
first, unused.use = scene.view_layers[0], False
collection = bpy.data.collections.new("Others")
scene.collection.children.link(collection)
other = cube("Other", (1.5, 0, 0))
collection.objects.link(other)
scene.collection.objects.unlink(other)
second.layer_collection.children["Others"].exclude = True
image = scene.render.image_settings
if hasattr(image, "media_type"):
    image.media_type = "MULTI_LAYER_IMAGE"
image.file_format = "OPEN_EXR_MULTILAYER"
both = painted()
tell(layers=sorted({name for name, _ in both}), frames=len(both), drawn=len(drawn), shots=len(engine._shots))
alone, scene.render.filepath = {}, os.path.abspath("alone") + "/"
for layer in (first, second):
    first.use, second.use = layer == first, layer == second
    alone |= painted()
tell(same=[bool(np.array_equal(both[key], alone[key])) for key in both], first=first.name)
tell(differ=bool((both[first.name, 1] != both["Second", 1]).any()))
""",
        port=fake_server.port,
    )
    assert told["layers"] == sorted([told["first"], "Second"])
    assert told["frames"] == 16
    assert told["same"] == [True] * 16, "as each layer by itself"
    assert told["differ"]
    assert told["drawn"] == 16, "no frame is drawn twice, although its layer rests while it is under way"
    assert told["shots"] == 0
    head = (blender.folder / "rendered" / "0005.exr").read_bytes()[:40000]
    for name in (f"{told['first']}.Combined.R", "Second.Combined.R", "Second.Depth.Z"):
        assert name.encode() in head
    assert b"Unused.Combined.R" not in head


def test_motion_blur_changes_nothing(blender: Blender, fake_server: ServerProcess) -> None:
    told = blender.run(
        ENGINE
        + WATCH
        + """
passes, old = [], engine._passes
def found(*arguments):
    passes.append(old(*arguments))
    return passes[-1]
engine._passes = found
sharp = painted()
scene.render.use_motion_blur, scene.render.motion_blur_shutter = True, 1.0
blurred = painted()
tell(pictures=all(np.array_equal(sharp[key], blurred[key]) for key in sharp))
tell(moves=float(abs(passes[3]["Motion"]).max()))
pairs = [(one[name], other[name]) for one, other in zip(passes[:8], passes[8:]) for name in one]
tell(passes=[bool(np.array_equal(*pair)) for pair in pairs])
scene.render.use_multiview = True
tell(stereo=failure(bpy.ops.render.render))
""",
        port=fake_server.port,
    )
    assert told["pictures"]
    assert told["moves"] > 1
    assert told["passes"] == [True] * 8 * 6
    assert "Stereoscopy" in told["stereo"]


def job_that_runs(client: Client) -> str:
    client.send(ListJobs())
    return next((job.job for job in until(client, Jobs, "").jobs if job.state == RUNNING), "")


def test_a_job_that_is_cancelled_on_the_server_leaves_no_black_frames(
    blender: Blender, fake_server: ServerProcess
) -> None:
    process = blender.start(
        ENGINE
        + """
settings.prompt = "endless from the second on"
tell(cancelled=failure(lambda: bpy.ops.render.render(animation=True)))
settings.prompt = "moss"
scene.render.filepath = os.path.abspath("again.png")
tell(again=list(bpy.ops.render.render(write_still=True)))
""",
        port=fake_server.port,
    )
    with fake_server.client() as client:
        job = wait_until(lambda: job_that_runs(client))
        client.send(Follow(job))
        while "Painting frame 5" not in until(client, Progress, job).stage:  # a keyframe: frames 2 to 4 wait for it
            pass
        client.cancel(job)
        told = blender.finish(process)
    assert "Cancelled" in told["cancelled"]
    assert list(pictures(blender.folder / "rendered")) == ["0001.png"], "what was whole, and nothing else"
    assert told["again"] == ["FINISHED"]
    assert pictures(blender.folder)["again.png"].std() > 5


# The server dies while Blender draws the shot's third frame: the answers to what it had asked for cannot leave.
DIES = """
import time
shots, footage = part("animate.engine_shot"), part("animate.footage")
clients, connect = [], part("bridge.client").Client.connect
def connected(*arguments, **options):
    clients.append(connect(*arguments, **options))
    return clients[-1]
part("render_engine").Client.connect = connected
drawn = []
def draw(self, place, old=footage.Footage.frame):
    drawn.append(place)
    if len(drawn) == 3:
        print("Kill it now", flush=True)
        assert clients[-1].ended.wait(60), "it was never killed"
    return old(self, place)
footage.Footage.frame = draw
tell(rendered=list(bpy.ops.render.render(animation=True)), connections=len(clients))
tell(ended=[client.ended.is_set() for client in clients])
"""


def test_a_render_outlives_the_server_that_dies_while_a_frame_is_drawn(blender: Blender, tmp_path: Path) -> None:
    with running(tmp_path / "server") as server:
        process = blender.start(ENGINE + DIES, port=server.port)
        assert process.stdout is not None
        for line in process.stdout:
            if "Kill it now" in line:
                break
        server.process.kill()
        server.process.wait(60)
    with running(tmp_path / "server", "fake", "--port", str(server.port)):
        told = blender.finish(process)
    assert told["rendered"] == ["FINISHED"]
    assert len(pictures(blender.folder / "rendered")) == 8
    assert told["connections"] == 2
    assert told["ended"] == [True, True]


def test_a_shot_that_cannot_begin_leaves_no_connection(blender: Blender, fake_server: ServerProcess) -> None:
    told = blender.run(
        ENGINE
        + """
clients, connect = [], part("bridge.client").Client.connect
def connected(*arguments, **options):
    clients.append(connect(*arguments, **options))
    return clients[-1]
part("render_engine").Client.connect = connected
scene.frame_start, scene.frame_end, settings.prompt = 900_001, 1_000_000, "ü" * 30_000
settings.negative_prompt = settings.prompt
tell(wordy=failure(lambda: bpy.ops.render.render(animation=True)))
tell(ended=[client.ended.is_set() for client in clients])
""",
        port=fake_server.port,
    )
    assert "description" in told["wordy"]
    assert told["ended"] == [True]


def test_other_threads_do_not_disturb_a_render(blender: Blender, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blender lets go of Python's lock while it renders. With the debug allocator, whoever then allocates without it
    ends the process; else memory would be damaged now and then."""
    monkeypatch.setenv("PYTHONMALLOC", "debug")
    told = blender.run(
        FILM
        + """
import sys, threading
offstage, over = part("passes.offstage"), threading.Event()
def spin():
    while not over.is_set():
        pass
sys.setswitchinterval(1e-4)
threading.Thread(target=spin).start()
frames = []
try:
    for number in range(1, 31):
        with offstage.offstage(scene, None, with_cycles=False, frame=number) as stage:
            stage.render(lambda engine, depsgraph: frames.append(depsgraph.scene.frame_current))
finally:
    over.set()
tell(frames=frames, here=scene.frame_current)
"""
    )
    assert told["frames"] == list(range(1, 31))
    assert told["here"] == 3
