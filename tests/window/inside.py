"""Runs in windowed Blender: installs the extension, builds the scene, and keeps writing down what can be seen.

The plan (plan.json) names the server's port and token. scene.py beside this file builds the scene, and may have a
`watch()` that adds to what is written down. Acting on Blender is for the mouse and the keyboard; what is not a test's
subject comes as a line of Python in order.py.
"""

import importlib
import json
import os
import traceback

import bpy

MODULE = "bl_ext.user_default.paintover"
with open("/mnt/plan.json") as plan:
    PLAN = json.load(plan)
INTERVAL = 0.01

ticks = 0
watching = True


def part(name):
    return importlib.import_module(f"{MODULE}.{name}")


def install():
    bpy.context.preferences.view.show_splash = False
    bpy.ops.extensions.package_install_files(filepath="/mnt/paintover.zip", repo="user_default", enable_on_install=True)
    preferences = bpy.context.preferences.addons[MODULE].preferences
    preferences.port, preferences.token = PLAN["port"], PLAN["token"]


def on_screen(window, block):
    """An area or region in pixels from the window's upper left corner, where the mouse counts from."""
    return {
        "left": block.x,
        "top": window.height - block.y - block.height,
        "width": block.width,
        "height": block.height,
    }


def places(window):
    """Where the viewport and its sidebar are, the sidebar's tab, and the button below the mouse: its
    operator as Python, or its property's path."""
    area = next(area for area in window.screen.areas if area.type == "VIEW_3D")
    sidebar = next(region for region in area.regions if region.type == "UI")
    canvas = next(region for region in area.regions if region.type == "WINDOW")
    shown = area.spaces.active.show_region_ui and sidebar.width > 1
    below = ""
    with bpy.context.temp_override(window=window, area=area, region=sidebar):
        for copy in (bpy.ops.ui.copy_python_command_button, bpy.ops.ui.copy_data_path_button):
            if not below and copy.poll() and "FINISHED" in copy():
                below = bpy.context.window_manager.clipboard
    return {
        "viewport": on_screen(window, canvas),
        "sidebar": on_screen(window, sidebar) if shown else None,
        "tab": sidebar.active_panel_category if shown else None,
        "below": below,
    }


def paintover():
    """What the extension has going; None once it is disabled."""
    if MODULE not in bpy.context.preferences.addons:
        return None
    session = part("session").session
    return {
        "online": session.online,
        "error": str(session.error or ""),
        "tasks": [
            {
                "label": task.label,
                "job": task.job,
                "state": task.state.name,
                "stage": task.stage,
                "fraction": task.fraction,
                "preview": task.preview is not None,
                "coverage": getattr(task, "coverage", {}),
                "error": str(task.error or ""),
            }
            for task in session.tasks
        ],
    }


def open_preferences():
    """The extension's preferences, in a window of their own."""
    bpy.ops.screen.userpref_show(section="ADDONS")
    bpy.context.window_manager.addon_search = "Paintover"
    bpy.ops.preferences.addon_expand(module=MODULE)


def close_preferences():
    with bpy.context.temp_override(window=bpy.context.window_manager.windows[-1]):
        bpy.ops.wm.window_close()


def stop_watching():
    """A timer that is still there when Blender quits could crash it, and hide whether the extension's would."""
    global watching
    watching = False


def obey():
    """Run order.py; returns whether there is one."""
    if not os.path.exists("/mnt/order.py"):
        return False
    with open("/mnt/order.py") as order, bpy.context.temp_override(window=bpy.context.window_manager.windows[0]):
        exec(order.read(), globals())
    return True


def watch():
    global ticks
    ticks += 1
    try:
        obeyed = obey()
        manager = bpy.context.window_manager
        state = {
            "ticks": ticks,
            **places(manager.windows[0]),
            "windows": len(manager.windows),
            "paintover": paintover(),
            **scene.watch(),
        }
        with open("/mnt/state.new", "w") as file:
            json.dump(state, file)
        os.replace("/mnt/state.new", "/mnt/state.json")
        if obeyed:  # last: who gave the order then finds the state after it
            os.remove("/mnt/order.py")
    except Exception:  # noqa: BLE001 - whatever it is, the test should see it rather than wait
        traceback.print_exc()
        os._exit(99)
    return INTERVAL if watching else None


scene = importlib.machinery.SourceFileLoader("scene", "/mnt/scene.py").load_module()
install()
scene.build()
bpy.app.timers.register(watch, first_interval=0.2, persistent=True)
