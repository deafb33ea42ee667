"""Passes frame by frame, of the scene as the viewport evaluates it: only what changed is read again."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import bpy

from ..bridge.errors import SceneError
from ..bridge.parameters import EdgeStyle
from ..bridge.scene import Camera
from . import gpu_context, gpu_route
from .assemble import check_size
from .changes import Changes
from .draw import Before, Frame
from .ids import object_ids
from .instances import Reader, Stage
from .offstage import layer_name


class Live:
    """Draws a scene's passes again and again. Motion is against the frame drawn before.

    with Live(scene) as live:
        frame = live.frame(cameras.from_object(scene, scene.camera, 512, 512))
    """

    def __init__(
        self,
        scene: bpy.types.Scene,
        view_layer: str | None = None,
        *,
        uv_layers: Mapping[str, str] | None = None,
    ) -> None:
        """`uv_layers`: object name -> UV layer, if frames shall have UVs; others use the layer that renders.

        Raises NoGpu where there is no graphics context, SceneError for a view layer that is not there.
        """
        gpu_context.ensure()
        self._scene, self._layer = scene.session_uid, layer_name(scene, view_layer)
        self._reader = Reader(for_render=False, cull=gpu_route.culls(scene), uv_layers=uv_layers)
        self._with_uvs = uv_layers is not None
        self._changes = Changes()
        self._stage: Stage | None = None
        self._before: Before | None = None
        self._narrowed = False
        self._depsgraph = 0

    def frame(
        self,
        camera: Camera,
        *,
        position: bool = False,
        edges: EdgeStyle | None = None,
        space: bpy.types.SpaceView3D | None = None,
    ) -> Frame:
        """The passes of this moment, and edges in a style. With `space`, of what that viewport shows (its local view
        and collections).

        Raises NoGpu if drawing fails, SceneError if the scene or its view layer is gone, BadSize for too
        large an image.
        """
        return self.draw(self.read(space), camera, position=position, edges=edges)

    def draw(
        self, stage: Stage, camera: Camera, *, position: bool = False, edges: EdgeStyle | None = None
    ) -> Frame:
        """The passes of what `read` gave. Raises NoGpu if drawing fails, BadSize for too large an image."""
        check_size(camera)
        frame = gpu_route.draw(stage, camera, self._before, position=position, uv=self._with_uvs, edges=edges)
        self._before = Before(camera, stage)
        return frame

    def read(
        self,
        space: bpy.types.SpaceView3D | None = None,
        *,
        evaluated: bool = False,
        view_layer: str | None = None,
    ) -> Stage:
        """What there is to draw, without drawing it. `frame` does this by itself. The same Stage as before if nothing
        has changed. While Blender draws, the scene is `evaluated`, and must not be again. `view_layer`: from now on,
        that one."""
        scene = next((scene for scene in bpy.data.scenes if scene.session_uid == self._scene), None)
        if scene is None:
            raise SceneError(reason="the scene is gone", hint="Start live passes again.")
        self._layer = view_layer or self._layer
        layer = scene.view_layers[layer_name(scene, self._layer)]
        if not evaluated:
            layer.update()
        depsgraph = layer.depsgraph
        everything, anything, changed = self._changes.take()
        if everything or depsgraph.as_pointer() != self._depsgraph:
            self._reader.forget()
            self._stage = self._before = None
            self._depsgraph = depsgraph.as_pointer()
        self._reader.cull = gpu_route.culls(scene)
        self._reader.forget(changed)
        shown = _shown(space)
        # Entering and leaving local view evaluates nothing, so while it lasts nothing tells that it changed.
        anything = self._reader.repainted() or anything
        if self._stage is None or anything or shown or self._narrowed:
            self._stage = self._reader.read(depsgraph, object_ids(), shown)
            self._narrowed = shown is not None
        return self._stage

    def close(self) -> None:
        """Stop listening, and let go of everything."""
        self._changes.close()
        self._reader.forget()
        self._stage = self._before = None

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _shown(space: bpy.types.SpaceView3D | None) -> Callable[[bpy.types.Object], bool] | None:
    if space is None or not (space.local_view or space.use_local_collections):
        return None
    return lambda ob: ob.visible_in_viewport_get(space)
