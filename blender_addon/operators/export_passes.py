"""Write the camera's passes to files, for other programs and for a look at them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy
import numpy as np

from .. import cameras, passes, properties
from ..bridge.errors import PaintoverError, RenderFailed
from ..bridge.hints import Limits
from ..bridge.scene import Passes
from ..passes import exr, pictures
from .common import needs_renderer
from .frames import OverFrames

if TYPE_CHECKING:
    from bpy.types import Context


class PAINTOVER_OT_export_passes(OverFrames, bpy.types.Operator):
    """Render the camera's passes and save them: an OpenEXR file with the exact values, the pictures that ControlNets
    are shown as PNG, and the camera"""

    bl_idname = "paintover.export_passes"
    bl_label = "Export Passes"
    bl_options = {"REGISTER"}
    verb = "saves passes"
    _said = ""

    directory: bpy.props.StringProperty(
        name="Folder", description="Where to save the passes", subtype="DIR_PATH", default="//passes"
    )  # type: ignore[valid-type]
    animation: bpy.props.BoolProperty(
        name="Animation", description="Save every frame of the scene's range, instead of the current one"
    )  # type: ignore[valid-type]

    @classmethod
    def poll(cls, context: Context) -> bool:
        return needs_renderer(cls)

    def invoke(self, context: Context, event: bpy.types.Event) -> set[Any]:
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: Context) -> set[Any]:
        return self.begin(context, self._export(context.scene), modal=self.animation)

    def _export(self, scene: bpy.types.Scene) -> Iterator[None]:
        folder = Path(bpy.path.abspath(self.directory))
        frames = range(scene.frame_start, scene.frame_end + 1, scene.frame_step) if self.animation else [None]
        for frame in frames:
            if frame is not None:
                scene.frame_set(frame)
            settings = properties.snapshot(scene)
            camera = cameras.from_scene(scene, settings.size)
            seen = passes.render(scene, camera, edges=settings.edges, say=self._say)
            export(seen, folder, "" if frame is None else f"_{frame:04d}", settings.depth_limits)
            yield

    def _say(self, text: str) -> None:
        if text != self._said:  # once, not for every frame
            self._said = text
            self.report({"INFO"}, text)

    def done(self, scene: bpy.types.Scene) -> None:
        self.report({"INFO"}, f"Saved the passes in {bpy.path.abspath(self.directory)}")

    def explain(self, reason: OSError) -> PaintoverError:
        where = reason.filename or bpy.path.abspath(self.directory)
        return RenderFailed(reason=f"{where} cannot be written ({reason.strerror})")


def export(seen: Passes, folder: Path, suffix: str = "", depth_limits: Limits = None) -> None:
    """Write `seen` into `folder`: passes.exr, camera.json, and the PNGs of `pictures.of_passes`, depth from near to far
    as in `depth_limits`. `suffix` goes behind every name. Raises OSError or RenderFailed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    exr.save(seen, folder / f"passes{suffix}.exr")
    camera = {
        "name": seen.camera.name,
        "size": [seen.camera.width, seen.camera.height],
        "view": seen.camera.view.tolist(),
        "projection": seen.camera.projection.tolist(),
        "objects": seen.names,
    }
    (folder / f"camera{suffix}.json").write_text(json.dumps(camera, indent=1, ensure_ascii=False), encoding="utf-8")
    for name, picture in pictures.of_passes(seen, depth_limits).items():
        save_png(picture, folder / f"{name}{suffix}.png")


def save_png(picture: np.ndarray, path: Path) -> None:
    """Save a float (H, W, 3) picture of display values (0…1) through a throw-away Blender image. Raises OSError or
    RenderFailed."""
    path.touch()  # the system's own words, where Blender would only say that it failed
    height, width = picture.shape[:2]
    image = bpy.data.images.new(path.stem, width, height)
    try:
        rgba = np.ones((height, width, 4), np.float32)
        rgba[..., :3] = picture[::-1]
        image.pixels.foreach_set(rgba.ravel())
        image.file_format = "PNG"
        image.filepath_raw = str(path)
        try:
            image.save()
        except RuntimeError as reason:  # a full disk, a share that is gone
            raise RenderFailed(reason=f"{path} cannot be written ({str(reason).strip()})") from reason
    finally:
        bpy.data.images.remove(image)


CLASSES = (PAINTOVER_OT_export_passes,)
