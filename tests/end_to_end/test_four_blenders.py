"""The built zip in a fresh Blender of every version that Paintover supports: install, enable, paint an object, disable,
and nothing is left behind. Pictures of what was painted go to out/blenders/."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import build_addon

from ..server_process import ServerProcess, running
from .conftest import Blender
from .test_extension import FIND_VALIDATOR

HOSTS = dict(one.split("=", 1) for one in os.environ.get("PAINTOVER_BLENDERS", "").split(":") if one)
"""Version -> its interpreter, as scripts/test found or installed them."""
NEEDS = {"4.2": "3.11", "4.5": "3.11", "5.0": "3.11", "5.2": "3.13"}
OUT = Path(build_addon.__file__).parent / "out" / "blenders"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("server"), engine="diffusers") as process:
        yield process


@pytest.fixture(params=NEEDS)
def host(request: pytest.FixtureRequest, tmp_path: Path, addon_zip: Path) -> Blender:
    version = request.param
    if version not in HOSTS:
        pytest.skip(f"BLENDER {version} IS NOT TESTED: scripts/test installs it where there is Python {NEEDS[version]}")
    return Blender(tmp_path, addon_zip, HOSTS[version])


# What may not differ between before the extension came and after it has gone.
TRACES = """
import sys, threading

def handlers():
    lists = {name: getattr(bpy.app.handlers, name) for name in dir(bpy.app.handlers)}
    return sorted(f"{name} {f.__module__}.{f.__name__}" for name, l in lists.items() if isinstance(l, list) for f in l)

def sockets():
    links = []
    for number in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            pass
    return sorted(link for link in links if link.startswith("socket:"))

def files():
    here = os.environ["FOLDER"]
    left = [os.path.relpath(os.path.join(top, name), here) for top, _, names in os.walk(here) for name in names]
    left = [name for name in left if not name.startswith(("profile", "tmp/blender_", "config"))]
    return sorted(name for name in left if name not in ("result.json", "script.py", "output.txt"))

def properties():
    return sorted(f"{kind.__name__}.{key}" for kind in (bpy.types.Scene, bpy.types.Object, bpy.types.WindowManager,
        bpy.types.Material, bpy.types.Image) for key in dir(kind) if "paintover" in key.lower())

def scene():
    s = bpy.context.scene
    found = [str((kind, sorted(block.name for block in getattr(bpy.data, kind)))) for kind in
        ("scenes", "objects", "meshes", "materials", "images", "cameras", "worlds", "node_groups", "collections",
         "texts", "lights", "curves", "textures", "actions", "screens", "workspaces")]
    for ob in bpy.data.objects:
        found.append(str((ob.name, [list(row) for row in ob.matrix_world], ob.select_get(), ob.hide_render, dict(ob),
            ob.pass_index, [m.name for m in ob.modifiers],
            [(slot.link, slot.material and slot.material.name) for slot in ob.material_slots],
            ob.type == "MESH" and [layer.name for layer in ob.data.uv_layers])))
    r, v = s.render, s.view_settings
    found.append(str((r.engine, r.resolution_x, r.resolution_y, r.resolution_percentage, r.film_transparent,
        r.use_border, r.use_compositing, r.filepath, v.view_transform, v.look, s.frame_current,
        s.camera and s.camera.name, s.cycles.samples, [layer.name for layer in s.view_layers],
        [layer.use_pass_z for layer in s.view_layers], bpy.context.mode,
        bpy.context.view_layer.objects.active and bpy.context.view_layer.objects.active.name,
        [key for key in s.keys() if key != "paintover"])))  # the artist's settings are part of the file, and stay
    return found

def traces():
    return {
        "classes": sorted(name for name in dir(bpy.types) if "paintover" in name.lower()),
        "operators": dir(bpy.ops.paintover),
        "handlers": handlers(),
        "modules": sorted(name for name in sys.modules if "paintover" in name),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "sockets": sockets(),
        "files": files(),
        "properties": properties(),
        "addons": sorted(bpy.context.preferences.addons.keys()),
        "scene": scene(),
    }
"""

SCRIPT = (
    TRACES
    + """
import numpy as np
bpy.ops.wm.read_factory_settings(use_empty=True)
bpy.ops.mesh.primitive_torus_add(major_segments=32, minor_segments=12, rotation=(0.5, 0.2, 0))
ob = bpy.context.object
ob.name = "Ring"
red = bpy.data.materials.new("Red")
red.diffuse_color = (0.6, 0.1, 0.1, 1)
if bpy.app.version < (5, 0, 0):
    red.use_nodes = True
red.node_tree.nodes["Principled BSDF"].inputs["Base Color"].default_value = (0.6, 0.1, 0.1, 1)
ob.data.materials.append(red)
bpy.ops.object.light_add(type="SUN", rotation=(0.9, 0.3, 0.2))
bpy.context.view_layer.objects.active = ob
ob.select_set(True)
camera((0, -4.6, 0))
bpy.context.scene.render.resolution_x = bpy.context.scene.render.resolution_y = 512
bpy.context.scene.frame_set(7)
bpy.context.view_layer.update()
before = traces()
bpy.ops.extensions.package_install_files(
    filepath=os.environ["PAINTOVER_ZIP"], repo="user_default", enable_on_install=True)
preferences = bpy.context.preferences.addons[MODULE].preferences
preferences.port, preferences.token = int(os.environ["PAINTOVER_PORT"]), os.environ["PAINTOVER_TOKEN"]
enabled = traces()
tell(version=bpy.app.version_string, python=sys.version.split()[0], enabled=enabled["classes"])

def picture(name):
    (image,) = part("passes.color").render(bpy.context.scene, [part("cameras").from_scene(bpy.context.scene, 384)])
    np.save(name, image)

picture("before.npy")
tell(connected=list(bpy.ops.paintover.connect()))
settings = bpy.context.scene.paintover
settings.prompt, settings.seed, settings.views, settings.texture_size = "gold, white background", 5, 4, 256
settings.steps, settings.size = 6, 256
tell(painted=list(bpy.ops.paintover.texture()))
material = ob.material_slots[0].material
image = next(node.image for node in material.node_tree.nodes if node.type == "TEX_IMAGE")
pixels = np.empty(256 * 256 * 4, np.float32)
image.pixels.foreach_get(pixels)
np.save("texture.npy", pixels.reshape(256, 256, 4)[::-1])
tell(material=material.name, coverage=part("session").session.tasks[-1].coverage)
picture("after.npy")
tell(reverted=list(bpy.ops.paintover.revert()))
tick, registered = part("pump")._tick, bpy.app.timers.is_registered
bpy.ops.preferences.addon_disable(module=MODULE)
tell(timer=registered(tick))
del tick, settings, preferences, image, material, pixels
disabled = traces()
bpy.ops.preferences.addon_enable(module=MODULE)
tell(again=traces()["classes"], settings=bpy.context.scene.paintover.prompt)
bpy.ops.extensions.package_uninstall(pkg_id="paintover", repo_index=[
    i for i, r in enumerate(bpy.context.preferences.extensions.repos) if r.module == "user_default"][0])
bpy.context.view_layer.update()
after = traces()
for found in (disabled, after):
    for name in ("before.npy", "after.npy", "texture.npy"):
        found["files"].remove(name)
del disabled["modules"]  # Blender keeps a disabled extension's modules, and drops them when it is uninstalled
for name, found in (("disabled", disabled), ("after", after)):
    tell(**{name: {key: [one for one in found[key] if one not in before[key]] +
                        [f"lost: {one}" for one in before[key] if one not in found[key]] for key in found}})
leave()
"""
)


def test_the_zip_is_valid_for_it(host: Blender, addon_zip: Path) -> None:
    found = subprocess.run([host.python, "-c", FIND_VALIDATOR], capture_output=True, text=True, check=True, timeout=60)
    command = [host.python, found.stdout.split()[-1], "validate", str(addon_zip)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.timeout(900)
def test_install_paint_disable_and_nothing_is_left(
    host: Blender, server: ServerProcess, request: pytest.FixtureRequest
) -> None:
    version = request.node.callspec.params["host"]
    told = host.run(SCRIPT, port=server.port, timeout=600)
    assert told["version"].startswith(version)
    assert told["python"].startswith(NEEDS[version])
    assert len(told["enabled"]) > 10
    assert told["connected"] == told["painted"] == told["reverted"] == ["FINISHED"]
    assert told["material"] == "Paintover Ring"
    assert told["coverage"]["Ring"] > 0.9
    look(host, version)
    assert not told["timer"]
    for moment in ("disabled", "after"):
        assert told[moment] == {key: [] for key in told[moment]}, moment
    assert told["again"] == told["enabled"], "it can be enabled again"
    assert told["settings"] == "gold, white background", "the artist's words outlive an update of the extension"


def look(host: Blender, version: str) -> None:
    """Keep the object before and after side by side; what was painted is on it, and is no single colour."""
    before, after = (np.load(host.folder / name)[..., :3] for name in ("before.npy", "after.npy"))
    OUT.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate([before, after], axis=1)).save(OUT / f"{version}.png")
    texture = np.load(host.folder / "texture.npy")[..., :3]
    assert texture.std() > 0.02
    shown = (before != after).any(-1)
    assert shown.mean() > 0.05, "the painting covers the object in the picture"
    assert after[shown].std(0).max() > 4
