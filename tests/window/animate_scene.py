"""The shot's part of the windowed test, in Blender: something that moves, and what can be seen of the frames."""

import importlib
import os

import bpy

FOLDER = "/mnt/frames"


def part(name):
    return importlib.import_module(f"bl_ext.user_default.paintover.{name}")


def build():
    bpy.context.preferences.view.use_save_prompt = False  # quitting asks nothing
    bpy.context.preferences.view.render_display_type = "NONE"  # the viewport stays
    bpy.data.objects.remove(bpy.data.objects["Cube"])
    bpy.ops.mesh.primitive_monkey_add(size=2.5)
    bpy.ops.object.shade_smooth()
    turning = bpy.context.object
    for frame, angle in ((1, 0), (60, 3)):
        turning.rotation_euler.z = angle
        turning.keyframe_insert("rotation_euler", frame=frame)
    scene = bpy.context.scene
    scene.frame_start, scene.frame_end = 1, 60
    scene.render.resolution_x, scene.render.resolution_y = 384, 256
    scene.view_settings.view_transform = "Standard"
    settings = scene.paintover
    settings.prompt, settings.size, settings.steps, settings.seed = "moss", 192, 4, 1
    settings.shot_folder = FOLDER
    listed = settings.prompts.add()
    listed.text, listed.weight = "blue ice", 0.5
    scene.timeline_markers.new("paint: red brick", frame=30)
    scene.frame_set(1)
    turning.location.x = 0.5  # not keyed: nothing may take it back
    open_panel()
    bpy.ops.ed.undo_push(message="The scene as it was")


def open_panel():
    """The sidebar is short: the panel that the test looks at is open in it, and no other."""
    names = ("sidebar", "animate", "passes", "live")
    panels = [cls for name in names for cls in part(f"panels.{name}").CLASSES if issubclass(cls, bpy.types.Panel)][1:]
    for cls in reversed(panels):
        bpy.utils.unregister_class(cls)
    for cls in panels:
        cls.bl_options = set() if cls.__name__ == "PAINTOVER_PT_animate" else {"DEFAULT_CLOSED"}
        bpy.utils.register_class(cls)


def viewport():
    return next(a for a in bpy.context.window_manager.windows[0].screen.areas if a.type == "VIEW_3D")


def frames():
    return sorted(name for name in os.listdir(FOLDER) if name.endswith(".png")) if os.path.isdir(FOLDER) else []


def render_area():
    """Size of the render that is shown, once there is one with paint in it."""
    result = bpy.data.images.get("Render Result")
    return list(result.size) if result else None


def watch():
    scene, ob = bpy.context.scene, bpy.data.objects["Suzanne"]
    return {
        "frame": scene.frame_current,
        "turn": round(ob.rotation_euler.z, 4),
        "x": round(ob.location.x, 4),
        "scenes": len(bpy.data.scenes),
        "frames": frames(),
        "rendering": bpy.app.is_job_running("RENDER"),
        "render": render_area(),
        "sheet": "Paintover Look First" in bpy.data.images,
        "newest": part("animate.newest").of(scene) is not None,
        "notes": [task.notes for task in part("session").session.tasks],
    }
