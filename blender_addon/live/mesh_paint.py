"""A painted frame onto objects: what it shows of them becomes part of their textures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import bpy
import numpy as np

from .. import textures, uvs
from ..bridge.errors import SceneError
from ..passes import gpu_route
from ..passes.ids import object_ids
from ..passes.instances import Reader, Stage
from ..passes.offstage import layer_name
from ..passes.reproject import Known, Painted

BLANK = (0.5, 0.5, 0.5)
"""Where an object was never painted, and nothing of it is seen."""
LARGEST = 8192


def paint(
    scene: bpy.types.Scene,
    objects: Sequence[bpy.types.Object],
    known: Known,
    picture: np.ndarray,
    size: int,
    *,
    lit: bool,
) -> list[str]:
    """Paint the picture, uint8 (H, W, 3), onto those of the objects that it shows; what it does not show of them keeps
    its earlier painting. Objects without usable UVs get a layer of their own. Returns what the artist should know.

    Raises SceneError if it shows none of the objects, LinkedData, or NoGpu.
    """
    notes: list[str] = []
    meshes = [ob for ob in objects if ob.type == "MESH"]
    for ob in meshes:
        textures.check_paintable(ob)
    ids = object_ids()
    shown = set(np.unique(known.seen[..., 1]).astype(int).tolist())
    seen = [ob for ob in meshes if ids[ob.name_full] in shown]
    if not seen:
        raise SceneError(reason="the painting shows none of the selected objects", hint="Select what is in view.")
    done = 0
    for ob in seen:
        layer, made = _uv_layer(ob, notes)
        paint, surface = _project(scene, ob, layer, known, picture, min(size, LARGEST))
        painted = paint[..., 3] > 0
        if not painted.any():
            if made:
                textures.clean_mesh(ob.data)
            continue
        done += 1
        base = _base(ob, layer, paint, painted)
        finished = _margin(np.where(painted[..., None], paint[..., :3], base), surface)
        values = np.round(np.clip(finished, 0, 1) * 255).astype(np.uint8)
        textures.apply(ob, values, layer, shading="lit" if lit else "unlit")
    if not done:
        raise SceneError(
            reason="nothing of the selected objects' surface can be found in the painting",
            hint="They were edited since it was painted: wait for the next one.",
        )
    return notes


def _uv_layer(ob: bpy.types.Object, notes: list[str]) -> tuple[str, bool]:
    """The layer to paint on: that of its painting, or a usable one, or a new one; and whether it was made now."""
    state = uvs.check(ob.data)
    if state.usable:
        return state.layer, False
    if (layer := uvs.made(ob.data)) and layer in ob.data.uv_layers:
        return layer, False
    notes.append(f"{ob.name} {state.describe()}: a new UV layer “{uvs.LAYER}” was made.")
    return uvs.make(ob), True


def _project(
    scene: bpy.types.Scene, ob: bpy.types.Object, layer: str, known: Known, picture: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """`gpu_route.atlas` of one object."""
    view_layer = scene.view_layers[layer_name(scene)]
    view_layer.update()
    reader = Reader(for_render=False, uv_layers={ob.name: layer})
    uid = ob.session_uid

    def wanted(evaluated: Any) -> bool:
        return bool(evaluated.original.session_uid == uid)

    stage: Stage = reader.read(view_layer.depsgraph, object_ids(), wanted)
    return gpu_route.atlas(stage, lambda: Painted.upload(known, picture), size)


def _base(ob: bpy.types.Object, layer: str, paint: np.ndarray, painted: np.ndarray) -> np.ndarray:
    """float32 (size, size, 3): the object's painting up to now, or else the mean of the new paint."""
    size = len(painted)
    if textures.is_painted(ob) and (image := ob[textures.PAINTED].get("image")) and image.size[0]:
        width, height = image.size
        flat = np.empty(width * height * image.channels, np.float32)
        image.pixels.foreach_get(flat)
        old = flat.reshape(height, width, image.channels)[::-1, :, :3]
        rows, columns = (np.arange(size) * height // size)[:, None], np.arange(size) * width // size
        return np.ascontiguousarray(old[rows, columns])
    color = paint[painted][:, :3].mean(0) if painted.any() else BLANK
    return np.broadcast_to(np.asarray(color, np.float32), (size, size, 3))


def _margin(image: np.ndarray, surface: np.ndarray, width: int = 8) -> np.ndarray:
    """The image with the colours at islands' borders continued outside, so that filtering finds no other colour."""
    image, known = image.copy(), surface.copy()
    for _ in range(width):
        total, count = np.zeros_like(image), np.zeros(known.shape, np.float32)
        for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
            near = np.roll(known, step, axis)
            total += np.where(near[..., None], np.roll(image, step, axis), 0)
            count += near
        fresh = ~known & (count > 0)
        image[fresh] = total[fresh] / count[fresh, None]
        known |= fresh
    return image
