"""The overlay's part of the windowed test, in Blender: two balls, and what the overlay has going."""

import importlib

import bpy


def part(name):
    return importlib.import_module(f"bl_ext.user_default.paintover.{name}")


def build():
    bpy.context.preferences.view.use_save_prompt = False  # quitting asks nothing
    bpy.data.objects.remove(bpy.data.objects["Cube"])
    for name, place in (("Ball", (-1.5, 0, 0)), ("Other", (1.5, 1.5, 0))):
        bpy.ops.mesh.primitive_uv_sphere_add(location=place)
        bpy.context.object.name = name
        bpy.ops.object.shade_smooth()
    bpy.ops.mesh.primitive_plane_add(size=12, location=(0, 0, -1))
    bpy.ops.object.select_all(action="DESELECT")
    bpy.ops.ed.undo_push(message="The scene as it was")


def settings():
    return bpy.context.window_manager.paintover_overlay


def viewport():
    return next(a for a in bpy.context.window_manager.windows[0].screen.areas if a.type == "VIEW_3D")


def orbit(angle):
    from mathutils import Quaternion

    view = viewport().spaces.active.region_3d
    view.view_rotation = Quaternion((0, 0, 1), angle) @ view.view_rotation
    viewport().tag_redraw()


def redraw():
    viewport().tag_redraw()


def split():
    """Another viewport beside the first."""
    with bpy.context.temp_override(window=bpy.context.window_manager.windows[0], area=viewport()):
        bpy.ops.screen.area_split(direction="VERTICAL", factor=0.5)


def close_one():
    """One viewport becomes a text editor."""
    areas = [a for a in bpy.context.window_manager.windows[0].screen.areas if a.type == "VIEW_3D"]
    areas[-1].type = "TEXT_EDITOR"


def lose_context():
    """What was on the graphics card is gone once."""
    draw = part("passes.draw").Drawer
    work = draw.draw

    def fail(*arguments, **options):
        draw.draw = work
        raise RuntimeError("lost")

    draw.draw = fail


def draw_with_ink():
    """A grease pencil object more."""
    blocks = getattr(bpy.data, "grease_pencils_v3", bpy.data.grease_pencils)
    bpy.context.scene.collection.objects.link(bpy.data.objects.new("Ink", blocks.new("Ink")))


said = []


def render_passes():
    scene = bpy.context.scene
    part("passes").render(scene, part("cameras").from_scene(scene, 128), say=said.append)


def watch():
    overlay = part("overlay")
    return {
        "said": said,
        "overlay": {
            "on": overlay._handler is not None,
            "drawn": sorted(view.drawn for view in overlay._views.values()),
            "notes": [view.note for view in overlay._views.values()],
            "failed": overlay._failed,
            "handlers": len(part("passes.changes")._watchers),
        },
    }
