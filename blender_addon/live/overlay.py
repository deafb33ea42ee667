"""The newest painting over the viewport, in the view of the moment in which Blender draws it."""

from __future__ import annotations

import contextlib
import traceback
from typing import TYPE_CHECKING, Any

import bpy
import gpu
import numpy as np

from ..bridge.errors import PaintoverError, RenderFailed
from ..passes import gpu_route
from ..passes.reproject import Painted
from . import view
from .capture import Capture

if TYPE_CHECKING:
    from .painter import LiveView


class Overlay:
    """A draw handler, there as long as something is live."""

    def __init__(self, live: LiveView) -> None:
        self._live = live
        self._painted: Painted | None = None
        self._picture: np.ndarray | None = None
        self._context = -1
        """Picture and graphics context that `_painted` belongs to."""
        self.draws = 0
        """How often the painting was drawn."""
        self._handle: Any = None
        if not bpy.app.background:
            self._handle = bpy.types.SpaceView3D.draw_handler_add(self._draw, (), "WINDOW", "POST_PIXEL")

    def redraw(self) -> None:
        """Have the viewport drawn: a painting has arrived."""
        if found := self._live.viewport:
            view.canvas(found[1]).tag_redraw()

    def close(self) -> None:
        """Draw no more. What lies on the graphics card goes with the references."""
        if self._handle is not None:
            with contextlib.suppress(ValueError):  # Blender has removed it
                bpy.types.SpaceView3D.draw_handler_remove(self._handle, "WINDOW")
            self._handle = None
            self.redraw()
        self._painted = self._picture = None

    def _draw(self) -> None:
        """Blender draws a viewport: an error in here would come again with every redraw."""
        context = bpy.context
        found = None if Capture.running or self._live.closed else self._live.viewport
        if found is None or context.area is None or context.area.as_pointer() != found[1].as_pointer():
            return
        if found[0].scene != self._live.scene:  # the window shows another one by now
            return
        try:
            self.draw(context.area, context.region)
        except PaintoverError as error:
            self._live.error = error
        except ReferenceError:
            pass  # what is to be drawn is being replaced: there will be another redraw
        except Exception as error:  # noqa: BLE001 - see above
            traceback.print_exc()
            self._live.error = RenderFailed(reason=f"{type(error).__name__}: {error}")

    def draw(self, area: bpy.types.Area, region: bpy.types.Region) -> None:
        """Draw the newest painting over a viewport that is being drawn."""
        scene, live = self._live.scene, self._live
        space = area.spaces.active
        if live.picture is None or live.known is None or scene is None or space.region_quadviews:
            return
        if region.width < 1 or region.height < 1:
            return
        camera = view.camera_of(space.region_3d, region.width, region.height)
        follows = scene.paintover.live_camera == "VIEWPORT"
        layer = live.layer(scene).name
        stage = live.passes.read(space if follows else None, evaluated=True, view_layer=layer)
        reprojector = gpu_route.reproject(stage, camera, self._upload)
        if follows:
            place = view.frame_in(region.width, region.height, *live.size)
        elif space.region_3d.view_perspective == "CAMERA":
            place = view.place_of(view.scene_camera(scene, layer, *live.size, evaluated=True), camera)
        else:
            place = None
        blend, test = gpu.state.blend_get(), gpu.state.depth_test_get()
        gpu.state.blend_set("ALPHA")
        gpu.state.depth_test_set("NONE")
        try:
            # Seen from elsewhere than it is painted from, what is not painted shows as it is.
            reprojector.show(place or view.WHOLE, fill=place is not None, linear=True)
        finally:
            gpu.state.blend_set(blend)
            gpu.state.depth_test_set(test)
        self.draws += 1

    def _upload(self) -> Painted:
        """The newest painting on the graphics card: there already, unless it is another one or the context was lost."""
        live = self._live
        assert live.known is not None
        assert live.picture is not None
        known = self._painted is not None and self._picture is live.picture
        if self._painted is None or not known or self._context != gpu_route.generation():
            self._painted = Painted.upload(live.known, live.picture)
            self._picture, self._context = live.picture, gpu_route.generation()
        return self._painted
