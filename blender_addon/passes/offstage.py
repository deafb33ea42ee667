"""Renders behind the scenes: a temporary copy of the scene, drawn by a temporary render engine.

The artist's scene is never set up and restored: its copy shares the objects but has its own camera, engine, size,
frame and view layer. The engine exists because Blender hands a render's passes, and geometry evaluated with render
settings, to a RenderEngine only. Both are gone when the `with` block ends.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix

from ..bridge.errors import RenderFailed, SceneError
from ..bridge.scene import Camera

Work = Callable[[bpy.types.RenderEngine, bpy.types.Depsgraph], None]

IDNAME = "PAINTOVER_PASSES"
SENSOR = 1000.0
"""mm. The lens follows from it; this large, even the widest angle has a lens above Blender's minimum of 1 mm."""


SMALLEST = 4
"""Pixels on a side of what Blender renders."""


class Offstage:
    """The temporary scene and its engine. Made by `offstage`."""

    def __init__(self, scene: bpy.types.Scene) -> None:
        self.scene = scene
        self._camera = bpy.data.objects.new("Paintover Camera", bpy.data.cameras.new("Paintover Camera"))
        # A parent inverse takes any matrix, also the sheared one of a camera under a non-uniformly scaled parent.
        self._rig = bpy.data.objects.new("Paintover Rig", None)
        self._camera.parent = self._rig
        for made in (self._rig, self._camera):
            scene.collection.objects.link(made)
        scene.camera = self._camera
        self._work: Work | None = None
        self._error: Exception | None = None

    def aim(self, camera: Camera) -> None:
        """Make the temporary scene's camera and size those of `camera`; of an image below Blender's smallest, larger:
        then the camera's is the upper left part of what is rendered."""
        camera = _at_least(camera, SMALLEST)
        p, data, render = camera.projection, self._camera.data, self.scene.render
        self._camera.matrix_parent_inverse = Matrix(np.linalg.inv(camera.view).tolist())
        render.resolution_x, render.resolution_y, render.resolution_percentage = camera.width, camera.height, 100
        # Widths of the frame per height, against those of the image: how wide a pixel is.
        pixel = p[1, 1] / p[0, 0] * camera.height / camera.width
        render.pixel_aspect_x, render.pixel_aspect_y = max(1.0, pixel), max(1.0, 1 / pixel)
        data.sensor_fit, data.sensor_width = "HORIZONTAL", SENSOR
        if camera.orthographic:
            data.type, data.ortho_scale = "ORTHO", 2 / p[0, 0]
            data.shift_x, data.shift_y = -p[0, 3] / 2, -p[1, 3] / 2 * p[0, 0] / p[1, 1]
        else:
            data.type, data.lens = "PERSP", p[0, 0] * SENSOR / 2
            data.shift_x, data.shift_y = p[0, 2] / 2, p[1, 2] / 2 * p[0, 0] / p[1, 1]
        data.clip_start, data.clip_end = map(abs, camera.clip)

    def render(self, work: Work, *, write: bool = False) -> None:
        """Render once; `work(engine, depsgraph)` runs inside. What it raises is raised here, else RenderFailed.

        With `write` the result is saved as the scene's settings say.
        """
        self._work, self._error = work, RenderFailed(reason="another render is running, or it was interrupted")
        try:
            with self._at_its_frame():
                bpy.ops.render.render(scene=self.scene.name, write_still=write)
        except RuntimeError as reason:  # the operator's own error report
            raise RenderFailed(reason=str(reason).strip()) from reason
        if self._error:
            raise self._error

    @contextmanager
    def _at_its_frame(self) -> Iterator[None]:
        """Renders within are of this scene's own frame. Blender takes that of the context's scene, and to name another
        one there (temp_override) would crash it: while it renders, it looks up what is overridden without holding
        Python's lock, and other threads are at work."""
        frame, part = self.scene.frame_current, self.scene.frame_subframe

        def before(*_: Any) -> None:
            self.scene.frame_current, self.scene.frame_subframe = frame, part

        bpy.app.handlers.render_pre.append(before)
        try:
            yield
        finally:
            bpy.app.handlers.render_pre.remove(before)

    def _run(self, engine: bpy.types.RenderEngine, depsgraph: bpy.types.Depsgraph, draw: Work) -> bool:
        """Called by Blender, which would only print an exception: keep it for `render` to raise. True if it
        went well."""
        try:
            draw(engine, depsgraph)
            assert self._work is not None
            self._work(engine, depsgraph)
        except Exception as error:  # noqa: BLE001 - all of them
            self._error = error
        else:
            self._error = None
        return self._error is None

    def _remove(self) -> None:
        data = self._camera.data
        bpy.data.scenes.remove(self.scene)
        bpy.data.objects.remove(self._camera)
        bpy.data.objects.remove(self._rig)
        bpy.data.cameras.remove(data)


def _at_least(camera: Camera, side: int) -> Camera:
    """The camera with its image grown to the right and downward to at least `side` pixels."""
    width, height = max(side, camera.width), max(side, camera.height)
    if (width, height) == (camera.width, camera.height):
        return camera
    x, y = camera.width / width, camera.height / height
    window = np.diag([x, y, 1.0, 1.0])
    window[0, 3], window[1, 3] = x - 1, 1 - y
    return Camera(camera.name, camera.view, window @ camera.projection, width, height)


@contextmanager
def offstage(
    scene: bpy.types.Scene,
    view_layer: str | None,
    *,
    with_cycles: bool,
    frame: float | None = None,
    camera: bpy.types.Object | None = None,
) -> Iterator[Offstage]:
    """A temporary copy of `scene` with one view layer and an engine that renders it, at `frame` or the scene's own.

    With `with_cycles` that engine is Cycles; without, it draws nothing and only evaluates the geometry. With a `camera`
    the copy looks through that one instead of its own, and is animated as the scene is: for a look at all that is
    evaluated at that frame.
    """
    if bpy.app.is_job_running("RENDER"):
        raise RenderFailed(reason="Blender is rendering", hint="Wait until that render is done, and run it again.")
    layer = layer_name(scene, view_layer)
    functions = _cycles_functions() if with_cycles else {}
    with _staged(_copy(scene, layer, frame, animated=camera is not None), functions) as stage:
        if camera:
            stage.scene.camera = camera
        stage.scene.render.resolution_x = stage.scene.render.resolution_y = 8  # until it is aimed
        yield stage


@contextmanager
def empty_stage() -> Iterator[Offstage]:
    """A temporary scene with nothing in it, for what Blender does with the result of a render only."""
    with _staged(bpy.data.scenes.new("Paintover"), {}) as stage:
        yield stage


@contextmanager
def _staged(scene: bpy.types.Scene, functions: dict[str, Any]) -> Iterator[Offstage]:
    had_result = "Render Result" in bpy.data.images
    stage = Offstage(scene)
    engine = _engine(stage, functions)
    try:
        bpy.utils.register_class(engine)
        try:
            stage.scene.render.engine = IDNAME
            yield stage
        finally:
            stage._remove()
            bpy.utils.unregister_class(engine)
    finally:
        if not had_result and (result := bpy.data.images.get("Render Result")):
            bpy.data.images.remove(result)


def layer_name(scene: bpy.types.Scene, view_layer: str | None = None) -> str:
    """The view layer of that name, or else the one in use. Raises SceneError if there is none of that name."""
    if view_layer is None:
        in_use = bpy.context.view_layer
        view_layer = in_use.name if in_use and in_use.id_data == scene else scene.view_layers[0].name
    if view_layer not in scene.view_layers:
        raise SceneError(reason=f"it has no view layer {view_layer!r}")
    return view_layer


def _copy(scene: bpy.types.Scene, layer: str, frame: float | None, *, animated: bool) -> bpy.types.Scene:
    copy = scene.copy()
    if not animated:
        copy.animation_data_clear()
    if frame is not None:
        copy.frame_current, copy.frame_subframe = int(frame // 1), frame % 1
    copy.timeline_markers.clear()  # they would switch the camera
    for other in [other for other in copy.view_layers if other.name != layer]:
        copy.view_layers.remove(other)
    render = copy.render
    render.use_border = render.use_multiview = render.use_motion_blur = False
    render.use_compositing = render.use_sequencer = False
    render.use_persistent_data = True  # the geometry is synchronised once for all cameras
    if hasattr(render, "use_freestyle"):
        render.use_freestyle = False
    copy.view_layers[0].use = True
    return copy


def _cycles_functions() -> dict[str, Any]:
    """The functions and flags of Cycles' engine class. Copied, since a subclass of it would break Cycles itself."""
    try:
        from cycles import CyclesRender
    except ImportError as reason:
        raise RenderFailed(
            reason="Cycles is missing", hint="Enable the Cycles Render Engine in Edit > Preferences > Add-ons."
        ) from reason
    if not hasattr(bpy.types.Scene, "cycles"):
        raise RenderFailed(
            reason="Cycles is switched off", hint="Enable the Cycles Render Engine in Edit > Preferences > Add-ons."
        )
    wanted = {
        name: value
        for name, value in vars(CyclesRender).items()
        if name.startswith("bl_use_") or (callable(value) and not name.startswith("__") and name != "bl_rna")
    }

    def update(self: Any, data: bpy.types.BlendData, depsgraph: bpy.types.Depsgraph) -> None:
        # All that Cycles' __init__ does, which cannot be copied: its super() is bound to its class.
        if not hasattr(self, "session"):
            self.session = None
        CyclesRender.update(self, data, depsgraph)

    def free(self: Any) -> None:
        # An exception's traceback can keep the engine until its type is gone, when nothing can be read from it any
        # more. `_engine` has freed it by then.
        with contextlib.suppress(ReferenceError):
            CyclesRender.__del__(self)

    return {**wanted, "update": update, "__del__": free}


def _engine(stage: Offstage, functions: dict[str, Any]) -> type:
    draw = functions.get("render", _draw_nothing)

    def render(self: Any, depsgraph: bpy.types.Depsgraph) -> None:
        if not stage._run(self, depsgraph, draw) and "__del__" in functions:
            functions["__del__"](self)
            self.session = None

    own = {
        "bl_idname": IDNAME,
        "bl_label": "Paintover Passes",
        "bl_use_preview": False,
        "render": render,
    }
    return type("PAINTOVER_RE_passes", (bpy.types.RenderEngine,), {**functions, **own})


def _draw_nothing(engine: bpy.types.RenderEngine, depsgraph: bpy.types.Depsgraph) -> None:
    """Stands in for Cycles where only the evaluated geometry is wanted."""
