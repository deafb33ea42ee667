"""Makes film.blend in a Blender without a window: installs the extension, as an artist has it, and saves a short film
that the render engine paints.

The plan (plan.json) names the server's port and token.
"""

import json
import math

import bpy

MODULE = "bl_ext.user_default.paintover"
with open("/mnt/plan.json") as plan:
    PLAN = json.load(plan)

bpy.ops.extensions.package_install_files(filepath="/mnt/paintover.zip", repo="user_default", enable_on_install=True)
preferences = bpy.context.preferences.addons[MODULE].preferences
preferences.port, preferences.token = PLAN["port"], PLAN["token"]
bpy.ops.wm.save_userpref()

scene = bpy.context.scene
bpy.data.objects.remove(bpy.data.objects["Cube"])
bpy.ops.mesh.primitive_monkey_add(size=2.5)
for frame, angle in ((1, 0.0), (7, 1.5)):
    bpy.context.object.rotation_euler.z = angle
    bpy.context.object.keyframe_insert("rotation_euler", frame=frame)
scene.camera.location, scene.camera.rotation_euler = (0, -6, 0), (math.pi / 2, 0, 0)
scene.frame_start, scene.frame_end, scene.frame_step = 1, 7, 1
scene.render.engine = "PAINTOVER"
scene.render.resolution_x, scene.render.resolution_y = 192, 128
scene.render.filepath = "//painted/frame_"
scene.view_settings.view_transform = "Standard"
settings = scene.paintover
settings.prompt, settings.size, settings.steps, settings.seed, settings.animate_interval = "moss", 192, 4, 3, 4
bpy.ops.wm.save_as_mainfile(filepath="/mnt/film.blend")
