"""A GPU context on the main thread: there in a window; made in background, where Blender starts without one."""

from __future__ import annotations

import bpy
import gpu

from ..bridge.errors import NoGpu

IDNAME = "PAINTOVER_BOOT"


def ensure() -> None:
    """Make the `gpu` module usable. Raises NoGpu where it cannot be."""
    if _usable():
        return
    try:
        if hasattr(gpu, "init"):  # 5.1 and later
            gpu.init()
        else:
            _boot()
    except Exception as reason:  # drivers fail in ways of their own
        raise NoGpu(reason=str(reason).strip() or type(reason).__name__) from reason
    if not _usable():
        raise NoGpu(reason="Blender has no graphics context in background here")


def _usable() -> bool:
    try:
        return gpu.platform.backend_type_get() not in {"NONE", "UNKNOWN"}
    except SystemError:  # "GPU functions for drawing are not available in background mode"
        return False


def _boot() -> None:
    """Before `gpu.init`, a render by an engine that asks for a context is what makes one."""
    had_result = "Render Result" in bpy.data.images
    scene = bpy.data.scenes.new("Paintover Boot")
    data = bpy.data.cameras.new("Paintover Boot")
    camera = bpy.data.objects.new("Paintover Boot", data)
    bpy.utils.register_class(_Boot)
    try:
        scene.collection.objects.link(camera)
        scene.camera, scene.render.engine = camera, IDNAME
        scene.render.resolution_x = scene.render.resolution_y = 4
        bpy.ops.render.render(scene=scene.name)
    finally:
        bpy.data.scenes.remove(scene)
        bpy.data.objects.remove(camera)
        bpy.data.cameras.remove(data)
        bpy.utils.unregister_class(_Boot)
        if not had_result and (result := bpy.data.images.get("Render Result")):
            bpy.data.images.remove(result)


class _Boot(bpy.types.RenderEngine):
    bl_idname = IDNAME
    bl_label = "Paintover Boot"
    bl_use_gpu_context = True
    bl_use_preview = False

    def render(self, depsgraph: bpy.types.Depsgraph) -> None:
        pass
