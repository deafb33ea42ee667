"""Passes from Cycles, in memory, at one sample: exact at pixel centres, on the CPU, without a window or a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import bpy
import numpy as np

from ..bridge.errors import RenderFailed
from ..bridge.parameters import EdgeStyle
from ..bridge.scene import Camera, Passes
from .assemble import assemble
from .edges import find_edges
from .ids import numbered, object_ids
from .offstage import Offstage, offstage

FAR = 1e9
"""Cycles writes 1e10 as the depth of the background."""

NAMES = {
    "depth": ("Depth", "Z"),
    "normal": ("Normal",),
    "object": ("IndexOB", "Object Index"),
    "material": ("IndexMA", "Material Index"),
}
"""Pass -> its names in Blender's versions (the indices were renamed in 5.0)."""


def render(
    scene: bpy.types.Scene,
    cameras: Sequence[Camera],
    view_layer: str | None = None,
    also: Callable[[bpy.types.Depsgraph], None] | None = None,
    frame: float | None = None,
    edges: EdgeStyle | None = None,
) -> list[Passes]:
    """The data passes of every camera. Raises RenderFailed, SceneError or BadPasses, and what `also` raises."""
    ids = object_ids()  # before the temporary camera is there, so that they are those of every other call
    with offstage(scene, view_layer, with_cycles=True, frame=frame) as stage:
        _set_up(stage.scene)
        seen = []
        with numbered(ids):
            for camera in cameras:
                stage.aim(camera)
                found = render_passes(stage, NAMES, also)
                also = None
                seen.append(_passes(camera, found, ids, edges or EdgeStyle()))
    return seen


def render_passes(
    stage: Offstage, names: dict[str, tuple[str, ...]], also: Callable[[bpy.types.Depsgraph], None] | None = None
) -> dict[str, np.ndarray]:
    """Render what the stage is aimed at; returns the wanted passes as `read` does."""
    found: dict[str, np.ndarray] = {}

    def take(engine: bpy.types.RenderEngine, depsgraph: bpy.types.Depsgraph) -> None:
        found.update(read(engine, names))
        if also:
            also(depsgraph)

    stage.render(take)
    return found


def read(engine: bpy.types.RenderEngine, names: dict[str, tuple[str, ...]]) -> dict[str, np.ndarray]:
    """float32 (H, W, channels) of each wanted pass of the engine's result, row 0 at the top."""
    result = engine.get_result()
    have = {one.name: one for one in result.layers[0].passes}
    arrays = {}
    for key, spellings in names.items():
        source = next((have[name] for name in spellings if name in have), None)
        if source is None:
            raise RenderFailed(reason=f"Cycles gave no {key} pass, only {', '.join(have)}")
        flat = np.empty(result.resolution_x * result.resolution_y * source.channels, np.float32)
        source.rect.foreach_get(flat)
        arrays[key] = flat.reshape(result.resolution_y, result.resolution_x, source.channels)[::-1]
    return arrays


def _set_up(scene: bpy.types.Scene) -> None:
    """One ray through every pixel's centre, nothing that light needs."""
    layer, cycles = scene.view_layers[0], scene.cycles
    layer.use_pass_z = layer.use_pass_normal = True
    layer.use_pass_object_index = layer.use_pass_material_index = True
    layer.samples = 0  # else it overrides the scene's
    layer.cycles.denoising_store_passes = False
    scene.world = None  # a large sky image would be prepared for lighting
    if hasattr(layer, "world_override"):
        layer.world_override = None
    cycles.device = "CPU"
    cycles.samples, cycles.max_bounces = 1, 0
    cycles.use_adaptive_sampling = cycles.use_denoising = False
    cycles.use_auto_tile = False  # tiles go through files
    cycles.pixel_filter_type, cycles.filter_width = "BOX", 0.01


def _passes(camera: Camera, found: dict[str, np.ndarray], ids: dict[str, int], style: EdgeStyle) -> Passes:
    found = {name: array[: camera.height, : camera.width] for name, array in found.items()}
    depth = found["depth"][..., 0]
    hit = ~(depth >= FAR)  # NaN counts as hit, so that check_values reports it
    depth = np.where(hit, depth, np.float32(np.inf))
    # Normals go the way of the inverse transposed view, which for a rotation is the rotation itself.
    normal = found["normal"].astype(np.float64) @ np.linalg.inv(camera.view)[:3, :3]
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    normal = np.divide(normal, length, out=np.zeros_like(normal), where=(length != 0) & hit[..., None])
    object_id = np.where(hit, found["object"][..., 0], 0)
    material = np.where(hit, found["material"][..., 0], 0)
    edge = find_edges(camera, depth, normal, object_id, material, style, outlines=True)
    return assemble(camera, depth, normal, object_id, edge, {number: name for name, number in ids.items()})
