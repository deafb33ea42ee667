"""The colour pass: the scene as Blender would show it, from a short Cycles render under the scene's view transform."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import bpy
import numpy as np

from ..bridge.scene import Camera
from .cycles import render_passes
from .offstage import offstage

SAMPLES, BOUNCES = 4, 2


def render(
    scene: bpy.types.Scene, cameras: Sequence[Camera], view_layer: str | None = None, frame: float | None = None
) -> list[np.ndarray]:
    """uint8 (H, W, 4) of every camera, display-referred. Raises RenderFailed or SceneError."""
    images = []
    with offstage(scene, view_layer, with_cycles=True, frame=frame) as stage:
        _set_up(stage.scene)
        for camera in cameras:
            stage.aim(camera)
            found = render_passes(stage, {"color": ("Combined",)})
            images.append(_as_shown(found["color"][: camera.height, : camera.width], stage.scene))
    return images


def _set_up(scene: bpy.types.Scene) -> None:
    """Few samples and bounces, denoised; on the device that the artist renders with."""
    cycles = scene.cycles
    scene.view_layers[0].samples = 0  # else it overrides the scene's
    cycles.samples, cycles.max_bounces = SAMPLES, min(cycles.max_bounces, BOUNCES)
    cycles.use_adaptive_sampling = cycles.use_auto_tile = False
    cycles.use_denoising = scene.view_layers[0].cycles.use_denoising = _has_denoiser()
    if cycles.use_denoising:
        cycles.denoiser, cycles.denoising_prefilter = "OPENIMAGEDENOISE", "NONE"
        cycles.denoising_quality = "FAST"


def _has_denoiser() -> bool:
    import _cycles  # Blender's own, there since the engine is

    return bool(getattr(_cycles, "with_openimagedenoise", False))


def _as_shown(linear: np.ndarray, scene: bpy.types.Scene) -> np.ndarray:
    """Scene-linear float32 (H, W, 4) -> uint8, as the scene's view transform shows it.

    Blender applies it in one place that scripts can reach: where an image is saved.
    """
    settings = scene.render.image_settings
    if hasattr(settings, "media_type"):  # 5.0 and later
        settings.media_type = "IMAGE"
    settings.file_format, settings.color_mode, settings.color_depth = "PNG", "RGBA", "8"
    settings.color_management = "FOLLOW_SCENE"
    height, width = linear.shape[:2]
    image = bpy.data.images.new("Paintover Color", width, height, alpha=True, float_buffer=True)
    try:
        image.pixels.foreach_set(np.ascontiguousarray(linear[::-1]).ravel())
        with tempfile.TemporaryDirectory(prefix="paintover-") as folder:
            path = Path(folder) / "color.png"
            image.save_render(str(path), scene=scene)
            return _read_bytes(path)
    finally:
        bpy.data.images.remove(image)


def _read_bytes(path: Path) -> np.ndarray:
    image = bpy.data.images.load(str(path))
    try:
        image.alpha_mode = "CHANNEL_PACKED"  # the bytes as they are
        width, height = image.size
        flat = np.empty(width * height * 4, np.float32)
        image.pixels.foreach_get(flat)
    finally:
        bpy.data.images.remove(image)
    return np.round(flat.reshape(height, width, 4)[::-1] * 255).astype(np.uint8)
