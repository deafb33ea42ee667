"""Fix Range for Shot's part of the windowed test, in Blender: a ball that moves, and what the scene is like."""

import bpy


def build():
    bpy.context.preferences.view.use_save_prompt = False  # quitting asks nothing
    scene = bpy.context.scene
    bpy.data.objects.remove(bpy.data.objects["Cube"])
    bpy.ops.mesh.primitive_uv_sphere_add()
    ball = bpy.context.object
    ball.name = "Ball"
    for frame, x in ((1, 0), (100_000, 3)):
        ball.location.x = x
        ball.keyframe_insert("location", frame=frame)
    scene.frame_start, scene.frame_end = 1, 100_000  # longer than anybody waits
    scene.frame_set(7, subframe=0.25)


def fix_range():
    bpy.ops.paintover.fix_range()


def watch():
    scene, layer = bpy.context.scene, bpy.context.view_layer
    settings = scene.paintover
    return {
        "frame": scene.frame_current,
        "running": [one.bl_idname for one in bpy.context.window_manager.windows[0].modal_operators],
        "scene": {
            "frame": [scene.frame_current, scene.frame_subframe, scene.frame_start, scene.frame_end],
            "objects": {ob.name: [list(row) for row in ob.matrix_world] for ob in scene.objects},
            "chosen": [ob.name for ob in scene.objects if ob.select_get(view_layer=layer)],
            "active": layer.objects.active.name,
            "engine": scene.render.engine,
            "size": [scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage],
            "data": [len(bpy.data.scenes), len(bpy.data.objects), len(bpy.data.meshes), len(bpy.data.images)],
            "settings": {one.identifier: str(getattr(settings, one.identifier)) for one in settings.bl_rna.properties},
        },
    }
