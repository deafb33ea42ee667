"""Write the camera's passes to files, for other programs and for a look at them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy
import numpy as np

from .. import cameras, passes, properties
from ..bridge.errors import PaintoverError, RenderFailed
from ..bridge.scene import Passes
from .common import needs_renderer, refuse

if TYPE_CHECKING:
    from bpy.types import Context


class PAINTOVER_OT_export_passes(bpy.types.Operator):
    """Render the camera's passes and save them: one .npz with the exact values, and PNGs to look at"""

    bl_idname = "paintover.export_passes"
    bl_label = "Export Passes"
    bl_options = {"REGISTER"}

    directory: bpy.props.StringProperty(
        name="Folder", description="Where to save the passes", subtype="DIR_PATH", default="//passes"
    )  # type: ignore[valid-type]

    @classmethod
    def poll(cls, context: Context) -> bool:
        return needs_renderer(cls)

    def invoke(self, context: Context, event: bpy.types.Event) -> set[Any]:
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: Context) -> set[Any]:
        scene = context.scene
        folder = Path(bpy.path.abspath(self.directory))
        try:
            camera = cameras.from_scene(scene, properties.snapshot(scene).size)
            seen = passes.render(scene, camera)
            export(seen, folder)
        except OSError as reason:
            return refuse(self, RenderFailed(reason=f"{folder} cannot be written ({reason.strerror})"))
        except PaintoverError as error:
            return refuse(self, error)
        self.report({"INFO"}, f"Saved the passes of {camera.name} in {folder}")
        return {"FINISHED"}


def export(seen: Passes, folder: Path) -> None:
    """Write `seen` into `folder` as passes.npz and one PNG each for depth, normal, edge and object ids."""
    folder.mkdir(parents=True, exist_ok=True)
    names = np.array([[number, name] for number, name in seen.names.items()])
    np.savez_compressed(
        folder / "passes.npz",
        depth=seen.depth, normal=seen.normal, edge=seen.edge, object_id=seen.object_id, names=names,
        view=seen.camera.view, projection=seen.camera.projection,
    )  # fmt: skip
    for name, picture in pictures(seen).items():
        save_png(picture, folder / f"{name}.png")


def pictures(seen: Passes) -> dict[str, np.ndarray]:
    """The passes as float32 (H, W, 3) pictures for the eye, 0…1: near is white, normals as colours."""
    hit = np.isfinite(seen.depth)
    near = np.zeros_like(seen.depth)
    if hit.any():
        low, high = seen.depth[hit].min(), seen.depth[hit].max()
        near[hit] = 1 - 0.85 * (seen.depth[hit] - low) / max(high - low, 1e-6)
    normal = np.where(hit[..., None], seen.normal.astype(np.float32) * 0.5 + 0.5, 0)
    # Neighbouring numbers get colours far apart: steps of the golden ratio around the wheel.
    wheel = (seen.object_id.astype(np.float32) * 0.618034 % 1)[..., None] + np.array([0, 1 / 3, 2 / 3], np.float32)
    ids = np.where(seen.object_id[..., None] > 0, 0.5 + 0.5 * np.cos(2 * np.pi * wheel), 0)
    grey = {"depth": near, "edge": seen.edge.astype(np.float32) / 255}
    return {
        **{k: np.repeat(v[..., None], 3, -1) for k, v in grey.items()},
        "normal": normal,
        "object_id": ids,
    }


def save_png(picture: np.ndarray, path: Path) -> None:
    """Save a float (H, W, 3) picture of display values (0…1) through a throw-away Blender image."""
    height, width = picture.shape[:2]
    image = bpy.data.images.new(path.stem, width, height)
    try:
        rgba = np.ones((height, width, 4), np.float32)
        rgba[..., :3] = picture[::-1]
        image.pixels.foreach_set(rgba.ravel())
        image.file_format = "PNG"
        image.filepath_raw = str(path)
        image.save()
    finally:
        bpy.data.images.remove(image)


CLASSES = (PAINTOVER_OT_export_passes,)
