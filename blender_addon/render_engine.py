"""The render engine “Paintover”: F12, Ctrl-F12, `blender -b -a`, and the viewport's Rendered mode.

Blender calls it in a thread of its own when there is a window; what touches the scene or the graphics card is then done
in the main thread. Nothing here touches the session: a render has a connection of its own. The frames of an animation
are one shot on the server.
"""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import bpy
import gpu
import numpy as np
from bpy.app.handlers import persistent
from gpu_extras.presets import draw_texture_2d

from . import away, main_thread, preferences, properties
from .animate import newest, timeline
from .animate.engine_shot import EngineShot
from .animate.files import linear
from .animate.footage import Moment
from .animate.moments import Look
from .bridge.client import Client
from .bridge.errors import Cancelled, PaintoverError, SceneError
from .bridge.scene import Camera
from .live import view
from .passes import gpu_route
from .passes.draw import Before, Drawer, Frame

IDNAME = "PAINTOVER"
PASSES = (("Depth", 1, "Z", "VALUE"), ("Normal", 3, "XYZ", "VECTOR"), ("Edge", 1, "X", "VALUE"),
          ("Object ID", 1, "X", "VALUE"), ("Motion", 3, "XYZ", "VECTOR"))  # fmt: skip
"""Name, number of channels, their names, type."""
FAR = np.float32(1e10)
"""Depth of the background, as other engines have it: compositors cannot cope with infinity."""
_shots: dict[tuple[int, str], EngineShot] = {}
"""By scene and view layer: what Blender's render is in the middle of."""


class PAINTOVER_RE_paintover(bpy.types.RenderEngine):
    bl_idname = IDNAME
    bl_label = "Paintover"
    bl_use_preview = False
    bl_use_gpu_context = bpy.app.background  # with a window it would lock Blender's own: see main_thread
    bl_use_eevee_viewport = True
    bl_use_shading_nodes_custom = False

    def render(self, depsgraph: bpy.types.Depsgraph) -> None:
        try:
            self._render(depsgraph)
        except Cancelled as error:
            if self.test_break():
                end_shots()
            else:  # by somebody else, on the server: Blender would write a black picture, and go on
                self._fail(str(error))
        except PaintoverError as error:
            self._fail(str(error))
        except Exception as error:  # noqa: BLE001 - Blender would print it, and show a black picture
            traceback.print_exc()
            self._fail(f"{type(error).__name__}: {error}")

    def _fail(self, words: str) -> None:
        end_shots()
        self.report({"ERROR"}, words)
        self.error_set(words)

    def _render(self, depsgraph: bpy.types.Depsgraph) -> None:
        scene, number = depsgraph.scene, depsgraph.scene.frame_current
        shot = self._shot(depsgraph, number)
        draw = Drawer().draw if bpy.app.background else gpu_route.draw
        others = [one for one in _shots.values() if one is not shot]
        image, moment = shot.frame(self, depsgraph, number, draw, others)
        newest.keep(scene.session_uid, image)
        part, last = _Part.of(self, scene), shot.last
        found = main_thread.do(lambda: _passes(draw, moment, last, part), self.test_break)
        shot.last = moment
        painted = np.ones((*found["Depth"].shape[:2], 4), np.float32)
        painted[..., :3] = part.cut(resized(linear(image), part.full_height, part.full_width))
        if scene.render.film_transparent:
            painted *= found["Object ID"] > 0
        found["Combined"] = painted
        for name, channels, kinds, _ in PASSES:
            self.add_pass(name, channels, kinds)
        result = self.begin_result(0, 0, part.full_width, part.full_height, layer=depsgraph.view_layer.name)
        passes = result.layers[0].passes
        for name, values in found.items():
            if rendered := passes.get(name):
                rendered.rect.foreach_set(np.ascontiguousarray(values[::-1], np.float32).ravel())
        self.end_result(result)
        if not self.is_animation:
            end_shots()

    def _shot(self, depsgraph: bpy.types.Depsgraph, number: int) -> EngineShot:
        """The shot that the frame belongs to: the one under way, or a new one."""
        scene = depsgraph.scene
        key = scene.session_uid, depsgraph.view_layer.name
        shot = _shots.get(key)
        if shot and self.is_animation and shot.awaits(number):
            return shot
        if shot:
            _shots.pop(key).close()
        settings = properties.snapshot(depsgraph.scene_eval, words=timeline.words_at(timeline.markers(scene), number))
        if settings.seed < 0:
            settings = replace(settings, seed=random.randrange(2**31))
        end = scene.frame_end if self.is_animation else number
        numbers = range(number, max(number, end) + 1, scene.frame_step)[: timeline.MOST]
        first, *_ = timeline.parts(numbers, lambda one: timeline.camera_at(scene, one))
        chosen, said = preferences.get(), set[str]()

        def connect() -> Client:
            name = f"Blender {bpy.app.version_string}"
            return Client.connect(chosen.host, chosen.port, chosen.token or None, name=name)

        def say(text: str) -> None:
            if text not in said:
                said.add(text)
                self.report({"INFO"}, text)

        if scene.render.use_multiview:
            hint = "Turn off Output > Stereoscopy."
            raise SceneError(reason="a painting is seen from one camera, and multi-view is on", hint=hint)
        self.update_stats("", "Connecting to the server")
        if scene.render.use_motion_blur:
            say("Motion blur is not painted.")
        if settings.strength < 1:
            say("Strength counts as 1 here: only Render Shot paints over the scene's own render.")
        settings = replace(settings, strength=1.0)
        look = Look(scene, settings, say, fixed=("strength",))
        shot = EngineShot(connect, look, settings, first, away.origin(scene))
        _shots[key] = shot
        return shot

    def update_render_passes(
        self, scene: bpy.types.Scene | None = None, renderlayer: bpy.types.ViewLayer | None = None
    ) -> None:
        self.register_pass(scene, renderlayer, "Combined", 4, "RGBA", "COLOR")
        for name, channels, kinds, sort in PASSES:
            self.register_pass(scene, renderlayer, name, channels, kinds, sort)

    # ------------------------------------------------------------ the viewport

    def view_update(self, context: bpy.types.Context, depsgraph: bpy.types.Depsgraph) -> None:
        """Nothing is rendered here: Live paints the viewport, and is drawn over it."""

    def view_draw(self, context: bpy.types.Context, depsgraph: bpy.types.Depsgraph) -> None:
        """The frame that was painted last: in the camera's frame, or elsewhere as large as it fits."""
        image = newest.of(depsgraph.scene)
        region = context.region
        if image is None or region.width < 1 or region.height < 1:
            return
        try:
            texture = self._texture(image)
            left, bottom, right, top = _place(context, image.shape[1], image.shape[0])
            place = left * region.width, bottom * region.height
            width, height = (right - left) * region.width, (top - bottom) * region.height
            gpu.state.blend_set("ALPHA_PREMULT")
            self.bind_display_space_shader(depsgraph.scene)
            draw_texture_2d(texture, place, width, height)
            self.unbind_display_space_shader()
        except Exception:  # noqa: BLE001 - it would come again with every redraw
            traceback.print_exc()
        finally:
            gpu.state.blend_set("NONE")

    def _texture(self, image: np.ndarray) -> gpu.types.GPUTexture:
        known = getattr(self, "_known", None)
        if known is None or known[0] is not image:
            rgba = np.ones((*image.shape[:2], 4), np.float32)
            rgba[..., :3] = linear(image)[::-1]
            data = gpu.types.Buffer("FLOAT", rgba.size, rgba.reshape(-1))
            self._known = known = image, gpu.types.GPUTexture(image.shape[1::-1], format="RGBA16F", data=data)
        return known[1]


class _Part:
    """The part of the picture that Blender wants: all of it, or a border."""

    def __init__(self, engine: Any, render: Any) -> None:
        self.full_width, self.full_height = engine.resolution_x, engine.resolution_y
        self.left, self.bottom, right, top = 0, 0, self.full_width, self.full_height
        if render.use_border:
            # In single precision and cut off, as Blender does it: to the pixel.
            size = np.float32([self.full_width, self.full_height])
            low = np.float32([render.border_min_x, render.border_min_y]) * size
            high = np.float32([render.border_max_x, render.border_max_y]) * size
            self.left, self.bottom, right, top = (int(place) for place in (*low, *high))
        self.width, self.height = right - self.left, top - self.bottom

    @classmethod
    def of(cls, engine: Any, scene: bpy.types.Scene) -> _Part:
        return cls(engine, scene.render)

    def cut(self, image: np.ndarray) -> np.ndarray:
        """That part of an image with row 0 at the top."""
        top = self.full_height - self.bottom - self.height
        return image[top : top + self.height, self.left : self.left + self.width]


def _place(context: bpy.types.Context, width: int, height: int) -> view.Rectangle:
    """Where a picture of that size is in the viewport that is being drawn."""
    region, seen = context.region, context.region_data
    if seen.view_perspective == "CAMERA" and context.scene.camera:
        camera = view.scene_camera(context.scene, context.view_layer.name, width, height, evaluated=True)
        if found := view.place_of(camera, view.camera_of(seen, region.width, region.height)):
            return found
    return view.frame_in(region.width, region.height, width, height)


def _passes(draw: Callable[..., Frame], moment: Moment, last: Moment | None, part: _Part) -> dict[str, np.ndarray]:
    """The render passes of a moment at the render's own size, row 0 at the top."""
    camera = _enlarged(moment.camera, part)
    before = Before(_enlarged(last.camera, part), last.stage) if last else None
    drawn = draw(moment.stage, camera, before, edges=moment.settings.edges)
    assert drawn.edge is not None
    motion = np.zeros((*drawn.depth.shape, 3), np.float32)
    motion[..., :2] = np.nan_to_num(drawn.motion, posinf=0.0, neginf=0.0)
    found = {
        "Depth": np.where(np.isfinite(drawn.depth), drawn.depth, FAR)[..., None],
        "Normal": drawn.normal,
        "Edge": drawn.edge[..., None] / np.float32(255),
        "Object ID": drawn.object_id[..., None],
        "Motion": motion,
    }
    return {name: part.cut(values) for name, values in found.items()}


def _enlarged(camera: Camera, part: _Part) -> Camera:
    return Camera(camera.name, camera.view, camera.projection, part.full_width, part.full_height)


def resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """float32 (H, W, C) in another size: bilinear, between the centres of pixels."""
    for axis, size in ((0, height), (1, width)):
        count = image.shape[axis]
        if count == size:
            continue
        at = np.clip((np.arange(size) + 0.5) * count / size - 0.5, 0, count - 1)
        low = np.minimum(at.astype(int), max(0, count - 2))
        share = (at - low).astype(np.float32).reshape([-1 if one == axis else 1 for one in range(3)])
        first, second = image.take(low, axis), image.take(np.minimum(low + 1, count - 1), axis)
        image = first + (second - first) * share
    return image


def end_shots() -> None:
    """Let go of all shots; the server ends what is not finished."""
    while _shots:
        _, shot = _shots.popitem()
        shot.close()


@persistent
def _render_ended(*_: Any) -> None:
    end_shots()


# ---------------------------------------------------------------- Blender's own panels

WITHOUT = {"VIEWLAYER_PT_filter", "VIEWLAYER_PT_layer_passes"}
MATERIALS = ("EEVEE_MATERIAL_PT_", "EEVEE_NEXT_MATERIAL_PT_", "EEVEE_WORLD_PT_surface")


class PAINTOVER_PT_render(bpy.types.Panel):
    """In the render properties: what is painted from."""

    bl_label = "Paintover"
    bl_space_type = "PROPERTIES"
    bl_region_type = "WINDOW"
    bl_context = "render"
    COMPAT_ENGINES = {IDNAME}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return context.engine == IDNAME

    def draw(self, context: bpy.types.Context) -> None:
        layout, settings = self.layout, context.scene.paintover
        layout.use_property_split = True
        for name in ("prompt", "negative_prompt", "model", "seed", "steps", "size"):
            layout.prop(settings, name)
        view = context.scene.view_settings.view_transform
        if view != "Standard":
            column = layout.column(align=True)
            column.label(text=f"{view} changes its colours.", icon="INFO")
            column.label(text="Color Management > View > Standard shows them as painted.", icon="BLANK1")


def _shared_panels() -> list[Any]:
    """Those of Blender's panels that make sense with this engine."""
    return [
        panel
        for panel in bpy.types.Panel.__subclasses__()
        if hasattr(panel, "COMPAT_ENGINES")
        and ("BLENDER_RENDER" in panel.COMPAT_ENGINES or panel.__name__.startswith(MATERIALS))
        and panel.__name__ not in WITHOUT
    ]


HANDLERS = (bpy.app.handlers.render_complete, bpy.app.handlers.render_cancel)


def register() -> None:
    bpy.utils.register_class(PAINTOVER_RE_paintover)
    bpy.utils.register_class(PAINTOVER_PT_render)
    for panel in _shared_panels():
        panel.COMPAT_ENGINES.add(IDNAME)
    for handlers in HANDLERS:
        handlers.append(_render_ended)


def unregister() -> None:
    for handlers in HANDLERS:
        handlers.remove(_render_ended)
    for panel in _shared_panels():
        panel.COMPAT_ENGINES.discard(IDNAME)
    bpy.utils.unregister_class(PAINTOVER_PT_render)
    bpy.utils.unregister_class(PAINTOVER_RE_paintover)
    end_shots()
    newest.forget()
