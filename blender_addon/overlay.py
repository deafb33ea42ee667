"""Passes and hints over the viewport: what the ControlNets are shown, seen through the viewport's own eye.

Blender redraws a viewport when something in it has changed; the passes are drawn along with it, but only anew if the
scene, the view or what is wanted is another one than at the last time. Nothing is stored in a file.
"""

from __future__ import annotations

import atexit
import itertools
import traceback
from typing import TYPE_CHECKING, Any

import blf
import bpy
import gpu
import numpy as np
from gpu_extras.batch import batch_for_shader

from . import cameras, properties
from .bridge.errors import PaintoverError
from .bridge.hints import Limits, depth_hint, edge_hint, normal_hint
from .bridge.parameters import Settings
from .bridge.scene import Camera
from .passes import pictures
from .passes.draw import Frame
from .passes.gpu_route import describe
from .passes.instances import Stage
from .passes.live import Live

if TYPE_CHECKING:
    from bpy.types import Context

LARGEST = 1024
"""Longer side in pixels: passes of larger viewports are drawn smaller, and shown larger."""

CHOICES = (
    ("depth", "Depth", "Hint for depth: near is white"),
    ("normal", "Normal", "Hint for surface normals, as NormalBae draws them"),
    ("edge", "Edge", "Hint for edges: white on black"),
    ("object_id", "Objects", "A colour for every object"),
    (
        "motion",
        "Motion",
        "Where surfaces were in the view drawn before: direction as hue, speed as brightness",
    ),
    ("position", "Position", "Place in the world: x, y and z as red, green and blue, up and down with every unit"),
    ("uv", "UV", "UV map that renders: u as red, v as green"),
)


def _changed(self: Any, context: Context) -> None:
    """Have every viewport drawn again."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                area.tag_redraw()


def _switched(self: Any, context: Context) -> None:
    _start() if self.show else stop()
    _changed(self, context)


class PAINTOVER_PG_overlay(bpy.types.PropertyGroup):
    show: bpy.props.BoolProperty(
        name="Show in Viewport", description="Lay a pass over the 3D viewports that show overlays", update=_switched
    )  # type: ignore[valid-type]
    what: bpy.props.EnumProperty(name="Pass", description="Which pass to show", items=CHOICES, update=_changed)  # type: ignore[valid-type]
    opacity: bpy.props.FloatProperty(
        name="Opacity", description="How much of the viewport it covers",
        default=1.0, min=0.0, max=1.0, subtype="FACTOR", update=_changed,
    )  # fmt: skip # type: ignore[valid-type]


class _View:
    """One viewport's passes, and the picture of them on the graphics card."""

    def __init__(self, scene: bpy.types.Scene, layer: bpy.types.ViewLayer, what: str) -> None:
        self.of = _of(scene, layer, what)
        self._live = Live(scene, layer.name, uv_layers={} if what == "uv" else None)
        self._seen: tuple[Stage, Any] | None = None
        self.drawn = 0
        """The number of the drawing that it shows, of all that there ever were."""
        self.texture: gpu.types.GPUTexture | None = None
        self.note = ""

    def update(
        self, camera: Camera, space: bpy.types.SpaceView3D, what: str, settings: Settings, back: float
    ) -> None:
        """Draw anew if anything is another. `back`: how far behind the viewport's eye the camera stands."""
        stage = self._live.read(space, evaluated=True)
        limits = settings.depth_limits if what == "depth" else None
        edges = settings.edges if what == "edge" else None
        wanted = camera.view.tobytes(), camera.projection.tobytes(), camera.width, camera.height, what, limits, edges
        if self._seen and self._seen[0] is stage and self._seen[1] == wanted and self.texture:
            return
        self._seen = self.texture = None  # nothing old stays if this fails
        frame = self._live.draw(stage, camera, position=what == "position", edges=edges)
        self.texture = _texture(picture(frame, what, limits, back))
        self.note = f"Not shown: {describe(frame.left_out)}" if frame.left_out else ""
        self._seen = stage, wanted
        self.drawn = next(_drawings)

    def close(self) -> None:
        self._live.close()
        self.texture = self._seen = None


def picture(frame: Frame, what: str, limits: Limits, back: float = 0.0) -> np.ndarray:
    """float (H, W, 3), 0…1: the frame's pass `what` of CHOICES."""
    if what == "depth":
        depth = frame.depth - back if back else frame.depth
        return depth_hint(np.maximum(depth, 1e-3) if back else depth, limits)
    if what == "normal":
        return normal_hint(frame.normal)
    if what == "edge":
        assert frame.edge is not None
        return edge_hint(frame.edge)
    if what == "motion":
        return pictures.motion_colors(frame.motion)
    if what == "position":
        assert frame.position is not None
        return pictures.position_colors(frame.position)
    if what == "uv":
        assert frame.uv is not None
        return pictures.uv_colors(frame.uv)
    return pictures.object_colors(frame.object_id)


def _of(scene: bpy.types.Scene, layer: bpy.types.ViewLayer, what: str) -> tuple[int, str, bool]:
    return scene.session_uid, layer.name, what == "uv"


_LEVELS = np.arange(256) / 255
_LINEAR = np.where(_LEVELS > 0.04045, ((_LEVELS + 0.055) / 1.055) ** 2.4, _LEVELS / 12.92).astype(np.float32)
"""sRGB's 256 levels as linear light (IEC 61966-2-1)."""


def _texture(image: np.ndarray) -> gpu.types.GPUTexture:
    """A picture of display values as a texture. Blender turns what is drawn over its viewports from linear to sRGB."""
    rgba = np.ones((*image.shape[:2], 4), np.float32)
    rgba[..., :3] = _LINEAR[np.round(image * 255).astype(np.uint8)]
    data = gpu.types.Buffer("FLOAT", rgba.size, rgba.reshape(-1))
    return gpu.types.GPUTexture((image.shape[1], image.shape[0]), format="RGBA16F", data=data)


# ------------------------------------------------------------ drawing, called by Blender

_handler: Any = None
_views: dict[int, _View] = {}
"""Address of a viewport's region -> what it shows."""
_drawings = itertools.count(1)
_failed = ""
"""What nobody had thought of, and ended it."""


def _draw() -> None:
    global _failed
    context = bpy.context
    space, region, view = context.space_data, context.region, context.region_data
    settings = context.window_manager.paintover_overlay
    if not space.overlay.show_overlays or view is None or not settings.show or min(region.width, region.height) < 8:
        return
    note = _failed
    if not _failed:
        try:
            shown = _view(context, settings.what)
            camera, back = _camera(view, region)
            shown.update(camera, space, settings.what, properties.snapshot(context.scene), back)
            _blit(shown.texture, region.width, region.height, settings.opacity)
            note = shown.note
        except PaintoverError as error:
            note = str(error)
        except Exception as error:  # noqa: BLE001 - at every redraw of every viewport once is enough
            traceback.print_exc()
            note = _failed = f"The overlay failed: {error}. Blender's console says where."
            _forget()
    if note:
        _write(note)


def _view(context: Context, what: str) -> _View:
    """What is known of the region that is drawn. Those of regions that are gone are let go."""
    there = {region.as_pointer() for region in _regions()}
    for key in [key for key in _views if key not in there]:
        _views.pop(key).close()
    key = context.region.as_pointer()
    if key in _views and _views[key].of != _of(context.scene, context.view_layer, what):
        _views.pop(key).close()
    if key not in _views:
        _views[key] = _View(context.scene, context.view_layer, what)
    return _views[key]


def _regions() -> list[bpy.types.Region]:
    return [
        region
        for window in bpy.context.window_manager.windows
        for area in window.screen.areas
        if area.type == "VIEW_3D"
        for region in area.regions
        if region.type == "WINDOW"
    ]


def _camera(view: bpy.types.RegionView3D, region: bpy.types.Region) -> tuple[Camera, float]:
    scale = min(1.0, LARGEST / max(region.width, region.height))
    camera = cameras.from_view(view, max(1, round(region.width * scale)), max(1, round(region.height * scale)))
    back = view.view_matrix[2][3] - camera.view[2, 3]
    # An orthographic viewport's eye is where the perspective one's would be.
    return camera, float(back - view.view_distance) if back else 0.0


def _blit(texture: gpu.types.GPUTexture | None, width: int, height: int, opacity: float) -> None:
    """Lay it over the region. Row 0 is at the top."""
    assert texture is not None
    shader = gpu.shader.from_builtin("IMAGE_COLOR")
    corners = [(0, 0), (width, 0), (width, height), (0, height)]
    batch = batch_for_shader(shader, "TRI_FAN", {"pos": corners, "texCoord": [(0, 1), (1, 1), (1, 0), (0, 0)]})
    gpu.state.blend_set("ALPHA")
    try:
        shader.bind()
        shader.uniform_sampler("image", texture)
        shader.uniform_float("color", (1, 1, 1, opacity))
        batch.draw(shader)
    finally:
        gpu.state.blend_set("NONE")


def _write(text: str) -> None:
    scale = bpy.context.preferences.system.ui_scale
    blf.size(0, 12 * scale)
    blf.enable(0, blf.SHADOW)
    blf.shadow(0, 5, 0, 0, 0, 1)
    blf.color(0, 1, 0.7, 0.3, 1)
    blf.position(0, 20 * scale, 20 * scale, 0)
    blf.draw(0, f"Paintover: {text}")
    blf.disable(0, blf.SHADOW)


# ------------------------------------------------------------ beginning and end


def _start() -> None:
    global _handler, _failed
    _failed = ""
    if _handler is None and not bpy.app.background:
        _handler = bpy.types.SpaceView3D.draw_handler_add(_draw, (), "WINDOW", "POST_PIXEL")


def stop() -> None:
    """Draw no longer, and let go of everything."""
    global _handler
    if _handler is not None:
        bpy.types.SpaceView3D.draw_handler_remove(_handler, "WINDOW")
        _handler = None
    _forget()


def _forget() -> None:
    for view in _views.values():
        view.close()
    _views.clear()


@bpy.app.handlers.persistent
def _file_opened(*_: Any) -> None:
    """Another file starts without it."""
    bpy.context.window_manager.paintover_overlay.show = False


def register() -> None:
    bpy.utils.register_class(PAINTOVER_PG_overlay)
    bpy.types.WindowManager.paintover_overlay = bpy.props.PointerProperty(type=PAINTOVER_PG_overlay)
    bpy.app.handlers.load_post.append(_file_opened)
    atexit.register(_forget)  # Blender's graphics end before Python's objects do


def unregister() -> None:
    stop()
    atexit.unregister(_forget)
    bpy.app.handlers.load_post.remove(_file_opened)
    del bpy.types.WindowManager.paintover_overlay
    bpy.utils.unregister_class(PAINTOVER_PG_overlay)
