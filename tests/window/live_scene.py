"""The live viewport's part of the windowed test, in Blender: a scene to go around, and what can be seen of Live."""

import importlib

import bpy
import numpy as np
from bpy_extras.view3d_utils import location_3d_to_region_2d


def part(name):
    return importlib.import_module(f"bl_ext.user_default.paintover.{name}")


def build():
    bpy.context.preferences.view.use_save_prompt = False  # quitting asks nothing
    bpy.data.objects.remove(bpy.data.objects["Cube"])
    bpy.ops.mesh.primitive_monkey_add(size=2.5)
    bpy.context.object.modifiers.new("Subdivision", "SUBSURF")
    bpy.ops.object.shade_smooth()
    turning = bpy.context.object
    for frame, angle in ((1, 0), (100, 3)):
        turning.rotation_euler.z = angle
        turning.keyframe_insert("rotation_euler", frame=frame)
    turning.rotation_euler.z = 0
    bpy.ops.mesh.primitive_plane_add(size=12, location=(0, 0, -1.2))
    bpy.ops.object.select_all(action="DESELECT")
    bpy.data.objects["Suzanne"].select_set(True)
    settings = bpy.context.scene.paintover
    settings.prompt = "moss"
    settings.texture_size = 256
    settings.live_folder = "/mnt/live"
    bpy.ops.ed.undo_push(message="The scene as it was")


def viewport():
    return next(a for a in bpy.context.window_manager.windows[0].screen.areas if a.type == "VIEW_3D")


def in_viewport(operator):
    area = viewport()
    with bpy.context.temp_override(area=area, region=next(one for one in area.regions if one.type == "WINDOW")):
        operator()


def sculpt(kind):
    """Into Sculpt Mode, on a mesh that is "plain", has "modifiers", or is sculpted with "dyntopo" or on "multires"."""
    suzanne = bpy.data.objects["Suzanne"]
    bpy.context.view_layer.objects.active = suzanne
    if kind != "modifiers":
        suzanne.modifiers.clear()
    if kind == "multires":
        suzanne.modifiers.new("Multires", "MULTIRES")
        for _ in range(3):
            bpy.ops.object.multires_subdivide(modifier="Multires", mode="CATMULL_CLARK")
    bpy.ops.object.mode_set(mode="SCULPT")
    if kind == "dyntopo":
        bpy.ops.sculpt.dynamic_topology_toggle()
    bpy.ops.ed.undo_push(message="In Sculpt Mode")
    brush = bpy.data.brushes.new("Push", mode="SCULPT")  # Debian's Blender comes without the brushes
    brush.asset_mark()
    brush.strength = 1.0
    bpy.ops.brush.asset_activate(asset_library_type="LOCAL", relative_asset_identifier="Brush/Push")


def mode(name):
    """Into another mode, with something in it that shows in the viewport."""
    suzanne = bpy.data.objects["Suzanne"]
    bpy.context.view_layer.objects.active = suzanne
    shading = viewport().spaces.active.shading
    if name == "POSE":
        suzanne.modifiers.clear()
        bpy.ops.object.armature_add()
        rig = bpy.context.object
        group = suzanne.vertex_groups.new(name=rig.data.bones[0].name)
        group.add(range(len(suzanne.data.vertices)), 1.0, "REPLACE")
        suzanne.modifiers.new("Armature", "ARMATURE").object = rig
        rig.data.bones[0].select = True
    elif name == "WEIGHT_PAINT":
        group = suzanne.vertex_groups.new(name="Group")
        group.add(range(len(suzanne.data.vertices)), 0.0, "REPLACE")
        push = suzanne.modifiers.new("Push", "DISPLACE")
        push.vertex_group, push.strength, push.mid_level = "Group", 0.3, 0.0
    elif name == "VERTEX_PAINT":
        suzanne.data.color_attributes.new("Color", "FLOAT_COLOR", "POINT")
        shading.color_type = "VERTEX"
    bpy.ops.object.mode_set(mode=name)
    if name.endswith("PAINT"):
        brush = bpy.data.brushes.new("Dab", mode=name)
        brush.asset_mark()
        bpy.ops.brush.asset_activate(asset_library_type="LOCAL", relative_asset_identifier="Brush/Dab")
        brush.color, brush.strength, brush.weight = (1, 0, 0), 1.0, 1.0


def close_viewport():
    with bpy.context.temp_override(area=viewport()):
        bpy.ops.screen.area_close()


def camera_frame():
    """The scene camera's frame in the window, as Blender draws it: pixels from the window's upper left corner. None
    where the viewport looks from elsewhere."""
    area, camera = viewport(), bpy.context.scene.camera
    view = area.spaces.active.region_3d
    if camera is None or view.view_perspective != "CAMERA":
        return None
    canvas = next(region for region in area.regions if region.type == "WINDOW")
    corners = [camera.matrix_world @ corner for corner in camera.data.view_frame(scene=bpy.context.scene)]
    found = [location_3d_to_region_2d(canvas, view, corner) for corner in corners]
    height = bpy.context.window_manager.windows[0].height
    across, up = [canvas.x + place.x for place in found], [height - canvas.y - place.y for place in found]
    return {"left": min(across), "right": max(across), "top": min(up), "bottom": max(up)}


def watch():
    session = part("session").session
    live = session.live
    settings = bpy.context.scene.paintover
    image = bpy.data.objects["Suzanne"].get("paintover", {}).get("image") if "Suzanne" in bpy.data.objects else None
    found = {
        "live": live is not None,
        "rendering": bpy.app.is_job_running("RENDER"),
        "prompt": settings.prompt,
        "frame": bpy.context.scene.frame_current,
        "steps": settings.live_steps,
        "trouble": str((live and live.error) or session.error or ""),
        "painted": image.name if image else "",
        "recorded": part("live.record").Recording.last and part("live.record").Recording.last.frames,
        "view": [round(value, 4) for row in viewport().spaces.active.region_3d.view_matrix for value in row],
    }
    if live:
        picture = live.picture
        found |= {
            "color": picture[len(picture) // 2, 8].tolist() if picture is not None else None,
            "size": list(live.size),
            "number": live._number,
            "flying": len(live._flying),
            "pictures": live.pictures,
            "draws": live._overlay.draws,
            "state": live.status.state,
            "latency": live.latency,
            "surface": float(np.nan_to_num(live.known.seen[..., 0], posinf=0).sum()) if live.known else 0,
            "mode": bpy.context.mode,
            "blocks": {kind: len(getattr(bpy.data, kind)) for kind in ("objects", "scenes", "meshes")},
            "modal": [one.bl_idname for one in bpy.context.window_manager.windows[0].modal_operators],
            "place": place(live.size),
            "camera_frame": camera_frame(),
        }
    return found


def place(size):
    """The painted frame in the window, in pixels from its upper left corner."""
    area = viewport()
    canvas = next(region for region in area.regions if region.type == "WINDOW")
    left, bottom, right, top = part("live.view").frame_in(canvas.width, canvas.height, *size)
    window = bpy.context.window_manager.windows[0]
    return {
        "left": round(canvas.x + left * canvas.width),
        "right": round(canvas.x + right * canvas.width),
        "top": round(window.height - canvas.y - top * canvas.height),
        "bottom": round(window.height - canvas.y - bottom * canvas.height),
    }
