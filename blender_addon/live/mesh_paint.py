"""A painted frame onto objects: what it shows of them becomes part of their textures. A task that needs no server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import bpy
import numpy as np

from .. import png, properties, textures, uvs
from ..bridge.errors import PaintoverError, RenderFailed, SceneError
from ..bridge.messages import Generate
from ..link import Link
from ..passes import gpu_route
from ..passes.ids import object_ids
from ..passes.instances import Reader, Stage
from ..passes.offstage import layer_name
from ..passes.reproject import Known, Painted
from ..steps import GO_ON, Steps, in_thread
from ..tasks import Task, find_scene

BLANK = (0.5, 0.5, 0.5)
"""Where an object was never painted, and nothing of it is seen."""
LARGEST = 8192
BAND = 256
"""Rows of a texture that are drawn in one go: without a graphics card that takes a while."""


class MeshPaintTask(Task):
    """Paints a picture onto those of the objects that it shows; what it does not show of them keeps its earlier
    painting. Objects without usable UVs get a layer of their own."""

    label = "Paint onto Objects"

    def __init__(
        self, scene: bpy.types.Scene, objects: Sequence[bpy.types.Object], known: Known, picture: np.ndarray
    ) -> None:
        """`picture`: uint8 (H, W, 3), painted from what is `known`. Size and shading of the textures are the scene's.

        Raises SceneError if it shows none of the objects, or one is being edited; LinkedData.
        """
        meshes = [ob for ob in objects if ob.type == "MESH"]
        for ob in meshes:
            textures.check_paintable(ob)
        shown = known.shown
        self._uids = [ob.session_uid for ob in meshes if ob.session_uid in shown]
        if not self._uids:
            raise SceneError(reason="the painting shows none of the selected objects", hint="Select what is in view.")
        self._source: tuple[Known, np.ndarray] | None = (known, picture)
        self._painted: tuple[Painted, int] | None = None
        self._size = min(scene.paintover.texture_size, LARGEST)
        self._shading: textures.Shading = "lit" if scene.paintover.shading == "LIT" else "unlit"
        self._made: int | None = None
        """Object for which a UV layer was made that nothing is painted on yet."""
        self._done = 0
        super().__init__(properties.snapshot(scene), scene)

    def prepare(self) -> Steps[None]:
        # Blender's data is looked up anew after every yield: between two ticks anything may happen to it.
        for number, uid in enumerate(self._uids):
            self.fraction = number / len(self._uids)
            yield f"Checking the UVs of {self._object(uid).name}"
            try:
                yield from self._paint(uid)
            except MemoryError as reason:
                raise RenderFailed(reason="memory is full", hint="Choose a smaller texture size.") from reason
        if not self._done:
            raise SceneError(
                reason="nothing of the selected objects' surface can be found in the painting",
                hint="They were edited since it was painted: wait for the next one.",
            )

    def request(self) -> Generate:
        raise NotImplementedError  # it asks the server for nothing

    def apply(self, result: Any) -> None:
        return None  # and hears nothing of it

    def offer(self, link: Link) -> None:
        self.complete()

    def lose(self, error: PaintoverError) -> None:
        pass  # it needs no connection

    def release(self) -> None:
        self._source = self._painted = None
        uvs.let_go(self.job)

    def undo_preparation(self) -> None:
        uvs.let_go(self.job)
        if self._made is not None and (ob := _find(self._made)):
            textures.clean_mesh(ob.data)

    def _object(self, uid: int) -> bpy.types.Object:
        ob = _find(uid)
        if ob is None:
            raise SceneError(reason="an object was deleted", hint="Select what should be painted, and try again.")
        textures.check_paintable(ob)  # the user may have gone into Edit Mode meanwhile
        return ob

    def _paint(self, uid: int) -> Steps[None]:
        """Paint one object, if anything of its surface is found in the picture."""
        layer = yield from self._uv_layer(uid)
        yield f"Painting {self._object(uid).name}"
        paint, surface = yield from self._project(uid, layer)
        painted = paint[..., 3] > 0
        yield f"Painting {self._object(uid).name}: what was there before"
        if painted.any():
            old = _pixels(self._object(uid))
            picture = yield from in_thread(lambda: png.encode(_finished(paint, painted, surface, old)))
            ob = self._object(uid)
            textures.apply(ob, picture, layer, shading=self._shading)
            self._done += 1
        elif self._made is not None:
            uvs.let_go(self.job)
            textures.clean_mesh(self._object(uid).data)
        self._made = None

    def _uv_layer(self, uid: int) -> Steps[str]:
        """The layer to paint on: that of its painting, or a usable one, or a new one."""
        layout = uvs.read(self._object(uid).data)
        state = (yield from in_thread(layout.check)) if layout else uvs.UVState("missing")
        ob = self._object(uid)
        if state.usable:
            return state.layer
        layer = uvs.made(ob.data)
        if not layer or layer not in ob.data.uv_layers:
            self.note(f"{ob.name} {state.describe()}: a new UV layer “{uvs.LAYER}” was made.")
            coordinates = yield from in_thread(uvs.unwrapping(ob))
            ob = self._object(uid)
            layer, self._made = uvs.make(ob, coordinates), uid
        uvs.need(ob.data, self.job)
        return layer

    def _project(self, uid: int, layer: str) -> Steps[tuple[np.ndarray, np.ndarray]]:
        """What the picture shows of an object, where its UVs are: float32 (size, size, 4), row 0 at v = 1, colour and 1
        where there is paint; and bool (size, size): where there is surface."""
        stage, bands = self._read(self._object(uid), layer), []
        for first in range(0, self._size, BAND):
            yield GO_ON
            bands.append(gpu_route.atlas(stage, self._upload, self._size, (first, min(first + BAND, self._size))))
        paint, surface = (np.concatenate(parts)[::-1] for parts in zip(*bands, strict=True))
        return paint, surface

    def _read(self, ob: bpy.types.Object, layer: str) -> Stage:
        scene = find_scene(self._scene)
        view_layer = scene.view_layers[layer_name(scene)]
        view_layer.update()
        uid = ob.session_uid

        def wanted(evaluated: Any) -> bool:
            return bool(evaluated.original.session_uid == uid)

        reader = Reader(for_render=False, uv_layers={ob.name: layer})
        return reader.read(view_layer.depsgraph, object_ids(), wanted)

    def _upload(self) -> Painted:
        """The picture on the graphics card: there already, unless the context was lost."""
        assert self._source is not None
        if self._painted is None or self._painted[1] != gpu_route.generation():
            self._painted = Painted.upload(*self._source), gpu_route.generation()
        return self._painted[0]


def _find(uid: int) -> bpy.types.Object | None:
    return next((ob for ob in bpy.data.objects if ob.session_uid == uid), None)


def _pixels(ob: bpy.types.Object) -> np.ndarray | None:
    """The object's painting up to now, float32 (height, width, channels), row 0 at v = 0; None if it has none."""
    image = ob[textures.PAINTED].get("image") if textures.is_painted(ob) else None
    if image is None or not image.size[0]:
        return None
    width, height = image.size
    flat = np.empty(width * height * image.channels, np.float32)
    image.pixels.foreach_get(flat)
    return flat.reshape(height, width, image.channels)


def _finished(paint: np.ndarray, painted: np.ndarray, surface: np.ndarray, old: np.ndarray | None) -> np.ndarray:
    """The whole texture, uint8 (size, size, 3): new paint over the old one, or else over the new paint's mean."""
    size = len(painted)
    if old is None:
        color = paint[painted][:, :3].mean(0) if painted.any() else BLANK
        base = np.broadcast_to(np.asarray(color, np.float32), (size, size, 3))
    else:
        rows = (np.arange(size) * len(old) // size)[:, None]
        columns = np.arange(size) * old.shape[1] // size
        base = old[::-1, :, :3][rows, columns]
    image = _margin(np.where(painted[..., None], paint[..., :3], base), surface)
    finished: np.ndarray = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return finished


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
