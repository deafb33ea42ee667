"""The zip itself, and operators that need no server."""

from __future__ import annotations

import io
import json
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import OpenEXR
from PIL import Image

import build_addon

from .conftest import BLENDER, Blender

SERVER = Path(build_addon.__file__).parent / "server"
FIND_VALIDATOR = (
    "import bpy, pathlib; print(pathlib.Path(bpy.utils.system_resource('SCRIPTS')) / "
    "'addons_core/bl_pkg/cli/blender_ext.py')"
)


def test_blender_itself_accepts_the_zip(addon_zip: Path) -> None:
    found = subprocess.run([BLENDER, "-c", FIND_VALIDATOR], capture_output=True, text=True, check=True, timeout=60)
    validator = found.stdout.split()[-1]
    result = subprocess.run(
        [BLENDER, validator, "validate", str(addon_zip)], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "error" not in result.stdout.lower()


def test_the_same_sources_give_the_same_zip(addon_zip: Path, tmp_path: Path) -> None:
    again = build_addon.build(tmp_path)
    assert again.name == f"paintover-{build_addon.version()}.zip"
    assert again.read_bytes() == addon_zip.read_bytes()


def test_the_server_travels_in_the_zip(addon_zip: Path) -> None:
    with zipfile.ZipFile(addon_zip) as archive:
        names = archive.namelist()
        (wheel,) = [name for name in names if name.endswith(".whl")]
        packed = zipfile.ZipFile(io.BytesIO(archive.read(wheel)))
        pins = archive.read("server_package/constraints.txt").decode()
    assert wheel == f"server_package/paintover-{build_addon.version()}-py3-none-any.whl"
    assert "torch==" in pins
    inside = packed.namelist()
    assert "paintover/bridge/wire.py" in inside
    assert "paintover/server/mini/unet/diffusion_pytorch_model.safetensors" in inside
    sources = {f"paintover/server/{path.relative_to(SERVER).as_posix()}" for path in SERVER.rglob("*.py")}
    assert sources <= set(inside), "a package that pyproject.toml does not name"
    (entry,) = [name for name in inside if name.endswith("entry_points.txt")]
    assert "paintover = paintover.server.cli:main" in packed.read(entry).decode()
    # A download that people wait for: the weights are nearly all of it.
    assert addon_zip.stat().st_size < 60e6


def test_export_passes(blender: Blender) -> None:
    told = blender.run(
        """
        install(); cube("Würfel"); camera()
        scene = bpy.context.scene
        scene.render.resolution_x = scene.render.resolution_y = 500
        scene.paintover.size = 128
        tell(done=list(bpy.ops.paintover.export_passes(directory=os.path.abspath("new/passes"))))
        open("file", "w").close()
        tell(words=failure(bpy.ops.paintover.export_passes, directory=os.path.abspath("file/passes")),
             images=len(bpy.data.images), scenes=len(bpy.data.scenes), objects=len(bpy.data.objects))
        """
    )
    assert told["done"] == ["FINISHED"]
    assert "cannot be written" in told["words"]
    assert (told["images"], told["scenes"], told["objects"]) == (0, 1, 2)
    folder = blender.folder / "new" / "passes"
    exact = exr_channels(folder / "passes.exr")
    # The cube's front is 5 m away from the camera and faces it.
    assert exact["Depth.Z"][64, 64] == np.float32(5)
    assert np.isinf(exact["Depth.Z"][0, 0])
    np.testing.assert_allclose([exact[f"Normal.{axis}"][64, 64] for axis in "XYZ"], (0, 0, 1), atol=1e-3)
    camera = json.loads((folder / "camera.json").read_text(encoding="utf-8"))
    assert camera["objects"][str(int(exact["Object ID.X"][64, 64]))] == "Würfel"
    assert camera["size"] == [128, 128]
    for name in ("depth", "normal", "edge", "lineart", "object_id"):
        with Image.open(folder / f"{name}.png") as picture:
            assert picture.size == (128, 128)
            assert np.asarray(picture.convert("RGB")).std() > 1
    with Image.open(folder / "normal.png") as picture:
        np.testing.assert_allclose(np.asarray(picture.convert("RGB"))[64, 64], (128, 128, 255), atol=1)


def test_export_every_frame(blender: Blender) -> None:
    told = blender.run(
        """
        install(); cube("Cube"); camera()
        scene = bpy.context.scene
        scene.paintover.size = 64
        scene.frame_start, scene.frame_end, scene.frame_step = 1, 5, 2
        thing = bpy.data.objects["Cube"]
        for frame in (1, 3, 5):
            thing.location = (0, (frame - 1) / 2, 0)
            thing.keyframe_insert("location", frame=frame)
        scene.frame_set(2)
        bpy.ops.paintover.export_passes(directory=os.path.abspath("shot"), animation=True)
        tell(frame=scene.frame_current)
        """
    )
    assert told["frame"] == 2
    folder = blender.folder / "shot"
    assert sorted(path.name for path in folder.glob("passes*")) == [f"passes_{n:04d}.exr" for n in (1, 3, 5)]
    depths = [float(exr_channels(folder / f"passes_{n:04d}.exr")["Depth.Z"][32, 32]) for n in (1, 3, 5)]
    np.testing.assert_allclose(depths, (5, 6, 7), atol=1e-5)


def exr_channels(path: Path) -> dict[str, np.ndarray]:
    """Every channel of a multilayer file by its name without the layer's; up to 4.5 in one part, later in several."""
    with OpenEXR.File(str(path), separate_channels=True) as file:
        return {
            name.removeprefix("Paintover."): channel.pixels
            for part in file.parts
            for name, channel in part.channels.items()
        }
