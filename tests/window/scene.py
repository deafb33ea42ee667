"""The windowed test's scene, in Blender: a large sphere in the middle of the viewport, selected."""

import bpy
from bpy_extras.view3d_utils import location_3d_to_region_2d
from mathutils import Vector

RADIUS = 1.5


def build():
    bpy.data.objects.remove(bpy.data.objects["Cube"])
    bpy.ops.mesh.primitive_uv_sphere_add(radius=RADIUS, segments=48, ring_count=24)
    bpy.context.object.name = "Ball"
    bpy.ops.object.shade_smooth()
    bpy.context.preferences.view.use_save_prompt = False  # Quit asks nothing
    settings = bpy.context.scene.paintover
    settings.views, settings.steps, settings.texture_size = 3, 6, 512  # quick, and good enough for a colour
    bpy.ops.ed.undo_push(message="The scene as it was")


def viewport():
    return next(a for a in bpy.context.window_manager.windows[0].screen.areas if a.type == "VIEW_3D")


def watch():
    ball = bpy.data.objects["Ball"]
    material = ball.material_slots[0].material if ball.material_slots else None
    return {"material": material.name if material else "", "ball": outline(ball), "shown": shown()}


def outline(ball):
    """The square inside the ball as it is on the screen, in pixels from the window's upper left corner."""
    area = viewport()
    canvas = next(region for region in area.regions if region.type == "WINDOW")
    view = area.spaces.active.region_3d
    side = view.view_rotation @ Vector((RADIUS, 0, 0))
    center, rim = (location_3d_to_region_2d(canvas, view, ball.location + offset) for offset in (Vector(), side))
    half = (rim - center).length * 0.6
    window = bpy.context.window_manager.windows[0]
    x, y = canvas.x + center.x, window.height - canvas.y - center.y
    return {"left": int(x - half), "top": int(y - half), "right": int(x + half), "bottom": int(y + half)}


def shown():
    return viewport().spaces.active.shading.type
