"""The `ui` benchmark's part inside Blender: the scene, and stopwatches around all that Paintover does there."""

import functools
import importlib
import json
import time

import bpy

BEAT = 0.005
"""Seconds between the beats whose gaps show how long Blender's main loop was away."""

events = []
"""(phase, what, milliseconds) of everything that was timed."""
phase = "start"
rendered = False
"""Whether passes were rendered since the last beat."""
away = 0.0
"""Seconds of the work being timed that went into rendering passes."""
last_beat = 0.0


def part(name):
    return importlib.import_module(f"bl_ext.user_default.paintover.{name}")


def build():
    bpy.data.objects.remove(bpy.data.objects["Cube"])
    for index in range(5):
        bpy.ops.mesh.primitive_monkey_add(location=(index % 3 * 3.0 - 3, index // 3 * 3.0, 0))
        ob = bpy.context.object
        ob.name = f"Monkey {index + 1}"
        ob.modifiers.new("Subdivision", "SUBSURF")  # 2 levels in renders: 15,744 triangles
        if index % 2:  # every other one has no UVs yet
            ob.data.uv_layers.remove(ob.data.uv_layers[0])
    bpy.ops.object.select_all(action="SELECT")
    settings = bpy.context.scene.paintover
    settings.prompt, settings.views, settings.texture_size = "mossy stone", 4, 1024
    area = next(a for a in bpy.context.window_manager.windows[0].screen.areas if a.type == "VIEW_3D")
    area.spaces.active.show_region_ui = True
    area.spaces.active.shading.color_type = "TEXTURE"  # shows the paintings, at little cost without a GPU
    time_everything()
    bpy.app.timers.register(beat, first_interval=0.0)


def time_everything():
    """Put a stopwatch around whatever Blender calls: the pump's tick, operators' execute and poll, panels' draw."""
    pump, passes = part("pump"), part("passes")
    pump.stop()  # its timer holds the one that is not timed
    pump._tick = tick(pump._tick)
    pump.start()
    passes.render = apart(passes.render)
    for name in dir(bpy.types):
        if name.startswith("PAINTOVER_"):
            cls = getattr(bpy.types, name)
            for function, what in (("execute", "operator"), ("draw", "draw")):
                if function in vars(cls):
                    setattr(cls, function, method(what, vars(cls)[function]))


def method(what, work):
    def run(self, context):  # Blender counts the parameters: no *arguments
        return timed(what, work.__qualname__, functools.partial(work, self, context))

    return run


def tick(work):
    def run():
        stages = [task.stage for task in part("session").session.active]
        return timed("tick", ", ".join(stages), work)

    return run


def timed(what, detail, work):
    global away
    away = 0.0
    start = time.perf_counter()
    try:
        return work()
    finally:
        events.append((phase, what, (time.perf_counter() - start - away) * 1000, detail))


def apart(render):
    def run(*arguments, **options):
        global away, rendered
        start = time.perf_counter()
        try:
            return render(*arguments, **options)
        finally:
            took = time.perf_counter() - start
            away += took
            rendered = True
            events.append((phase, "passes", took * 1000, ""))

    return run


def beat():
    global last_beat, rendered
    now = time.perf_counter()
    if last_beat:
        events.append((phase, "gap with passes" if rendered else "gap", (now - last_beat) * 1000, ""))
    last_beat, rendered = now, False
    if phase == "redraw":
        part("pump")._redraw()
    return BEAT


def begin(name):
    global phase, last_beat
    phase, last_beat = name, 0.0


def watch():
    return {"phase": phase, "events": len(events)}


def save():
    with open("/mnt/events.json", "w") as file:
        json.dump(events, file)
