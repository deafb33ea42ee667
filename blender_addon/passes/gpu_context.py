"""A GPU context on the main thread: there in a window; made in background, where Blender starts without one."""

from __future__ import annotations

import bpy
import gpu

from ..bridge.errors import NoGpu

IDNAME = "PAINTOVER_BOOT"


def ensure() -> bool:
    """Make the `gpu` module usable. Returns whether there was another context before, which is gone with all that
    belonged to it: in background, Blender lets go of it after a render with grease pencil. Raises NoGpu."""
    if _usable():
        return False
    lost = _backend()
    try:
        if hasattr(gpu, "init"):  # 5.1 and later
            gpu.init()
        if not _usable() and bpy.app.background:
            _boot()
    except Exception as reason:  # drivers fail in ways of their own
        raise NoGpu(reason=str(reason).strip() or type(reason).__name__) from reason
    if not _usable():
        raise NoGpu(reason="Blender has no graphics context in background here")
    return lost


def _usable() -> bool:
    """Whether a context is active. Without one, Blender's graphics functions may crash it; this one only fails."""
    if not _backend():
        return False
    try:
        gpu.types.GPUTexture((1, 1))
    except (RuntimeError, SystemError):
        return False
    return True


def _backend() -> bool:
    try:
        return gpu.platform.backend_type_get() not in {"NONE", "UNKNOWN"}
    except SystemError:  # "GPU functions for drawing are not available in background mode"
        return False


def _boot() -> None:
    """Where `gpu.init` is not there, or does not bring a lost context back, a render by an engine that asks for a
    context does."""
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
