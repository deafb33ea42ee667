"""The live passes' part of the windowed test, in Blender: passes drawn from a timer, compared with ray casts there."""

import importlib

import bpy
import numpy as np
from mathutils import Vector

SIZE = 96, 64


def part(name):
    return importlib.import_module(f"bl_ext.user_default.paintover.{name}")


def build():
    bpy.context.preferences.view.use_save_prompt = False  # quitting asks nothing
    bpy.data.objects.remove(bpy.data.objects["Cube"])
    bpy.ops.mesh.primitive_monkey_add(location=(1.5, 0, 0))
    bpy.context.object.modifiers.new("Subdivision", "SUBSURF")
    bpy.ops.mesh.primitive_uv_sphere_add(location=(-1.5, 0, 0))
    bpy.context.object.name = "Ball"
    bpy.ops.object.shade_smooth()


live = None
found = {}


def draw(what, space=None):
    """Draw a frame, and note how it compares with the truth."""
    global live
    scene = bpy.context.scene
    live = live or part("passes.live").Live(scene)
    camera = part("cameras").from_object(scene, scene.camera, *SIZE)
    frame = live.frame(camera, space=space)
    depth, name = cast(scene, camera)
    names = np.array([[frame.names.get(int(i), "") for i in row] for row in frame.object_id], object)
    both = np.isfinite(depth) & np.isfinite(frame.depth) & (names == name)
    found[what] = {
        "hits": int(np.isfinite(frame.depth).sum()),
        "names": sorted(set(names.ravel()) - {""}),
        "mismatch": float((names != name).mean()),
        "depth": float(np.percentile(np.abs(depth[both] - frame.depth[both]) / depth[both], 90)) if both.any() else 0.0,
        "motion": float(np.abs(frame.motion).max()),
    }


def draw_render():
    """What a job takes: the scene as it renders, by the card's route."""
    scene = bpy.context.scene
    said = []
    camera = part("cameras").from_object(scene, scene.camera, *SIZE)
    seen = part("passes").render(scene, camera, say=said.append)
    found["render"] = {"hits": int(np.isfinite(seen.depth).sum()), "said": said}


def close():
    live.close()


def viewport():
    return next(a for a in bpy.context.window_manager.windows[0].screen.areas if a.type == "VIEW_3D")


def local_view():
    area = viewport()
    region = next(region for region in area.regions if region.type == "WINDOW")
    with bpy.context.temp_override(window=bpy.context.window_manager.windows[0], area=area, region=region):
        bpy.ops.view3d.localview(frame_selected=False)


def cast(scene, camera):
    depsgraph = bpy.context.evaluated_depsgraph_get()
    origins, directions = camera.rays()
    to_world = np.linalg.inv(camera.view)
    depth, name = np.full(origins.shape[:2], np.inf), np.full(origins.shape[:2], "", object)
    for i, j in np.ndindex(*depth.shape):
        origin = to_world[:3, :3] @ origins[i, j] + to_world[:3, 3]
        hit, place, _, _, ob, _ = scene.ray_cast(depsgraph, Vector(origin), Vector(to_world[:3, :3] @ directions[i, j]))
        if hit:
            depth[i, j], name[i, j] = -(camera.view @ (*place, 1))[2], ob.name
    return depth, name


def watch():
    return {"found": found}
