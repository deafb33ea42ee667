"""Passes as a multilayer OpenEXR file with every value as it is, by Blender's own writer, which takes renders only."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np

from ..bridge.errors import RenderFailed
from ..bridge.scene import Passes
from .offstage import empty_stage

LAYER = "Paintover"


def layers(seen: Passes) -> dict[str, tuple[str, np.ndarray]]:
    """Name of each pass -> its channels and its values (H, W, channels), row 0 at the top."""
    return {
        "Depth": ("Z", seen.depth[..., None]),
        "Normal": ("XYZ", seen.normal),
        "Edge": ("X", seen.edge[..., None] / np.float32(255)),
        "Object ID": ("X", seen.object_id[..., None]),
    }


def save(seen: Passes, path: Path) -> None:
    """Write `seen` to `path`, 32 bits a channel. Raises OSError, or RenderFailed if Blender renders or writes nothing.

    What is there already stays until all of the new file is written.
    """
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(b"")  # the system's own words, where Blender would only say that it failed
    try:
        _write(seen, part)
        if not part.is_file() or not part.stat().st_size:  # Blender says of some that it saved them
            hint = "Export to another folder, or make room on this disk. Blender's console may say why."
            raise RenderFailed(reason=f"{path} was not written", hint=hint)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _write(seen: Passes, path: Path) -> None:
    height, width = seen.depth.shape

    def fill(engine: bpy.types.RenderEngine, depsgraph: bpy.types.Depsgraph) -> None:
        found = layers(seen)
        for name, (channels, _) in found.items():
            engine.add_pass(name, len(channels), channels)
        result = engine.begin_result(0, 0, width, height)
        for name, (_, values) in found.items():
            rows = np.ascontiguousarray(values[::-1], np.float32)
            result.layers[0].passes[name].rect.foreach_set(rows.ravel())
        engine.end_result(result)

    with empty_stage() as stage:
        stage.scene.view_layers[0].name = LAYER
        _set_up(stage.scene.render, width, height, path)
        stage.render(fill, write=True)


def _set_up(render: bpy.types.RenderSettings, width: int, height: int, path: Path) -> None:
    render.resolution_x, render.resolution_y, render.resolution_percentage = width, height, 100
    render.use_compositing = render.use_sequencer = render.use_file_extension = False
    render.filepath = str(path)
    if bpy.app.version >= (4, 5):  # braces are templates there
        render.filepath = render.filepath.replace("{", "{{").replace("}", "}}")
    image = render.image_settings
    if hasattr(image, "media_type"):  # from 5.0 on
        image.media_type = "MULTI_LAYER_IMAGE"
    image.file_format, image.color_depth, image.exr_codec = "OPEN_EXR_MULTILAYER", "32", "ZIP"
