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
from ..bridge.hints import make_hint
from ..bridge.scene import Passes
from ..passes import exr
from .common import needs_renderer, refuse

if TYPE_CHECKING:
    from bpy.types import Context


class PAINTOVER_OT_export_passes(bpy.types.Operator):
    """Render the camera's passes and save them: an OpenEXR file with the exact values, the pictures that ControlNets
    are shown as PNG, and the camera"""

    bl_idname = "paintover.export_passes"
    bl_label = "Export Passes"
    bl_options = {"REGISTER"}

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
        self._scene = context.scene
        self._frame = context.scene.frame_current, context.scene.frame_subframe
        self._frames = self._export(context.scene)
        self._done = 0
        self._timer = None
        if self.animation and not bpy.app.background:
            self._manager = context.window_manager
            self._timer = self._manager.event_timer_add(0.01, window=context.window)
            self._manager.modal_handler_add(self)
            return {"RUNNING_MODAL"}
        while (result := self._step()) == {"RUNNING_MODAL"}:
            pass
        return result

    def modal(self, context: Context, event: bpy.types.Event) -> set[Any]:
        result = {"RUNNING_MODAL"}
        if event.type == "ESC":
            self._finish()
            self.report({"WARNING"}, f"Stopped after {self._done} frames")
            result = {"CANCELLED"}
        elif event.type == "TIMER":
            context.workspace.status_text_set(f"Paintover saves passes: {self._done} frames. Esc stops.")
            result = self._step()
        return result

    def cancel(self, context: Context) -> None:
        """Blender ends it: it quits, or another file is opened."""
        self._finish()

    def _step(self) -> set[Any]:
        """One more frame."""
        try:
            next(self._frames)
            self._done += 1
            return {"RUNNING_MODAL"}
        except StopIteration:
            self._finish()
            self.report({"INFO"}, f"Saved the passes in {bpy.path.abspath(self.directory)}")
            return {"FINISHED"}
        except OSError as reason:
            self._finish()
            where = reason.filename or bpy.path.abspath(self.directory)
            return refuse(self, RenderFailed(reason=f"{where} cannot be written ({reason.strerror})"))
        except PaintoverError as error:
            self._finish()
            return refuse(self, error)
        except BaseException:
            self._finish()
            raise

    def _export(self, scene: bpy.types.Scene) -> Iterator[None]:
        folder = Path(bpy.path.abspath(self.directory))
        frames = range(scene.frame_start, scene.frame_end + 1, scene.frame_step) if self.animation else [None]
        for frame in frames:
            if frame is not None:
                scene.frame_set(frame)
            settings = properties.snapshot(scene)
            camera = cameras.from_scene(scene, settings.size)
            seen = passes.render(scene, camera, edges=settings.edges, say=lambda text: self.report({"INFO"}, text))
            export(seen, folder, "" if frame is None else f"_{frame:04d}")
            yield

    def _finish(self) -> None:
        """Back to the frame where the artist was."""
        self._frames.close()
        if self._timer:
            self._manager.event_timer_remove(self._timer)
            bpy.context.workspace.status_text_set(None)
            self._timer = None
        if self.animation:
            self._scene.frame_set(self._frame[0], subframe=self._frame[1])


def export(seen: Passes, folder: Path, suffix: str = "") -> None:
    """Write `seen` into `folder`: passes.exr, camera.json, and the PNGs of `pictures`. `suffix` goes behind every name.
    Raises OSError or RenderFailed.
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
    for name, picture in pictures(seen).items():
        save_png(picture, folder / f"{name}{suffix}.png")


def pictures(seen: Passes) -> dict[str, np.ndarray]:
    """Float (H, W, 3) pictures, 0…1: what SD1.5's and SDXL's ControlNets are shown, depth, normal, edge (for those of
    Canny's lines) and lineart; and object_id, a colour for every object."""
    # Neighbouring numbers get colours far apart: steps of the golden ratio around the wheel.
    wheel = (seen.object_id.astype(np.float32) * 0.618034 % 1)[..., None] + np.array([0, 1 / 3, 2 / 3], np.float32)
    ids = np.where(seen.object_id[..., None] > 0, 0.5 + 0.5 * np.cos(2 * np.pi * wheel), 0)
    hints = {name: make_hint(seen, name) for name in ("depth", "normal")}
    lines = {"edge": make_hint(seen, "edge", lines="canny"), "lineart": make_hint(seen, "edge", lines="lineart")}
    return {**hints, **lines, "object_id": ids}


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
