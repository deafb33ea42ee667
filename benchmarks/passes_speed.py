"""How fast passes are drawn, in turns with what they are measured against. Runs inside Blender."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import bpy
import numpy as np
from mathutils import Vector

from paintover import cameras
from paintover.bridge.parameters import EdgeStyle
from paintover.passes.live import Live

from . import passes_parts
from .report import Result

SIZE = 512
EEVEE = "BLENDER_EEVEE_NEXT" if bpy.app.version < (5, 0, 0) else "BLENDER_EEVEE"


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turns(works: dict[str, Callable[[], object]], rounds: int, often: str = "") -> dict[str, float]:
    """Median seconds of each, one after another round by round, so that other load on the machine meets all alike.
    Those whose name starts with `often` run five times a round. All run twice before to warm up."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        work()
        work()
    for _ in range(rounds):
        for name, work in works.items():
            times[name] += [seconds(work) for _ in range(5 if often and name.startswith(often) else 1)]
    return {name: statistics.median(values) for name, values in times.items()}


def fresh() -> bpy.types.Scene:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    camera = passes_parts.camera(scene)
    camera.animation_data_clear()
    scene.render.resolution_x = scene.render.resolution_y = SIZE
    return scene


class Orbit:
    """A camera that is elsewhere in every frame."""

    def __init__(self, scene: bpy.types.Scene, size: int = SIZE) -> None:
        self.scene, self.size, self.step = scene, size, 0

    def next(self) -> Any:
        self.step += 1
        angle = 0.02 * self.step
        ob = self.scene.camera
        ob.location = (9 * np.sin(angle), -9 * np.cos(angle), 3.5)
        ob.rotation_euler = (-Vector(ob.location)).to_track_quat("-Z", "Y").to_euler()
        return cameras.from_object(self.scene, ob, self.size, self.size)


def monkey(x: float, levels: int = 3) -> bpy.types.Object:
    """62,976 smooth triangles; with another level, four times as many."""
    bpy.ops.mesh.primitive_monkey_add(location=(x, 0, 0), size=3)
    ob = bpy.context.object
    passes_parts.smooth(ob)
    modifier = ob.modifiers.new("Subdivision", "SUBSURF")
    modifier.levels = modifier.render_levels = levels
    return ob


def against_engines(rounds: int = 7) -> list[Result]:
    """The live set (depth, normal, id, motion, anti-aliased edges) at 512², 126k triangles cached, the camera moving,
    against Blender's engines at one sample."""
    scene = fresh()
    monkey(-1.7)
    monkey(1.7)
    bpy.ops.object.light_add(type="SUN")
    layer, orbit = scene.view_layers[0], Orbit(scene)
    layer.use_pass_z = layer.use_pass_normal = layer.use_pass_vector = layer.use_pass_object_index = True
    scene.render.use_persistent_data = True
    scene.cycles.samples, scene.cycles.device = 1, "CPU"
    scene.cycles.use_denoising = scene.cycles.use_adaptive_sampling = False
    scene.eevee.taa_render_samples = 1

    def by(engine: str) -> None:
        scene.render.engine = engine
        bpy.ops.render.render()

    with Live(scene) as live:
        times = in_turns(
            {
                "live": lambda: live.frame(orbit.next(), edges=EdgeStyle()),
                "live_without_edges": lambda: live.frame(orbit.next()),
                "cycles": lambda: by("CYCLES"),
                "eevee": lambda: by(EEVEE),
            },
            rounds,
            often="live",
        )
    return [
        Result("speedup_over_eevee_512", times["eevee"] / times["live"], "x", at_least=25),
        Result("speedup_over_cycles_512", times["cycles"] / times["live"], "x", at_least=4),
        *(Result(f"{name}_512_ms", 1000 * value, "ms") for name, value in times.items()),
    ]


def unchanged(rounds: int = 15) -> list[Result]:
    """What a second object that did not change costs when the first did: to find out what there is to draw, and with
    the drawing, for which the second object's triangles count like the first's. In turns, in two scenes."""
    alone = fresh()
    changing = [_changing()]
    both = alone.copy()
    bpy.context.window.scene = both
    changing.append(_changing())
    both.collection.objects.unlink(changing[0])
    monkey(1.7, 4)
    scenes = {"alone": (alone, changing[0]), "both": (both, changing[1])}
    times: dict[str, list[float]] = {f"{name} {what}": [] for name in scenes for what in ("read", "frame")}
    with Live(alone) as one, Live(both) as two:
        for what, count in (("read", 4 * rounds), ("frame", rounds)):
            for i in range(count + 2):
                for (name, (scene, ob)), live in zip(scenes.items(), (one, two), strict=True):
                    bpy.context.window.scene = scene
                    ob.data.shape_keys.key_blocks["Other"].value = 0.1 * (i % 7 + 1)
                    camera = cameras.from_object(scene, scene.camera, SIZE, SIZE)
                    scene.view_layers[0].update()
                    # Processor time: a few milliseconds by the clock are mostly what else the machine does.
                    start = time.process_time()
                    if what == "read":
                        live.read()
                    else:
                        live.frame(camera, edges=EdgeStyle())
                    if i > 1:
                        times[f"{name} {what}"].append(time.process_time() - start)
    median = {name: statistics.median(values) for name, values in times.items()}
    share = {what: median[f"both {what}"] / median[f"alone {what}"] - 1 for what in ("read", "frame")}
    return [
        Result("unchanged_object_cost", max(0.0, share["read"]), "of the changed one's", at_most=0.05),
        Result("unchanged_object_cost_drawn", max(0.0, share["frame"]), "of the changed one's"),
        Result("changed_252k_triangles_read_ms", 1000 * median["alone read"], "ms"),
    ]


def _changing() -> bpy.types.Object:
    ob = monkey(-1.7, 4)
    bpy.ops.object.convert(target="MESH")  # else most of the time is Blender's, subdividing
    ob.shape_key_add(name="Basis")
    ob.shape_key_add(name="Other").data[0].co.x += 0.1
    return ob


def instances(rounds: int = 9) -> list[Result]:
    """10,000 instances of a cube against one mesh of as many triangles."""
    times = {}
    for name in ("one", "instances", "moving", "duplicates"):
        scene = fresh()
        block = passes_parts.cube((0, 0, 50), 0.04)
        bpy.ops.mesh.primitive_grid_add(x_subdivisions=99, y_subdivisions=99, size=7)
        grid = bpy.context.object
        if name == "duplicates":
            for vertex in grid.data.vertices:
                copy = bpy.data.objects.new("Copy", block.data)
                copy.location = vertex.co
                scene.collection.objects.link(copy)
            bpy.data.objects.remove(grid)
        else:
            modifier = passes_parts.instances_on_points(grid, block)
            if name == "one":
                _realize(modifier)
        orbit = Orbit(scene)
        with Live(scene) as live:

            def frame(name: str = name, live: Live = live, orbit: Orbit = orbit, grid: Any = grid) -> None:
                if name == "moving":
                    grid.location.z += 0.001
                live.frame(orbit.next(), edges=EdgeStyle())

            times[name] = in_turns({name: frame}, rounds)[name]
    return [
        Result("instances_10000_over_one", times["instances"] / times["one"], "x", at_most=4),
        Result("linked_duplicates_10000_over_one", times["duplicates"] / times["one"], "x"),
        Result("moving_instances_10000_over_one", times["moving"] / times["one"], "x"),
        Result("one_object_of_120k_triangles_ms", 1000 * times["one"], "ms"),
    ]


def _realize(modifier: bpy.types.Modifier) -> None:
    """Make one mesh of the instances."""
    tree = modifier.node_group
    node = tree.nodes.new("GeometryNodeRealizeInstances")
    (link,) = (one for one in tree.links if one.to_node.type == "GROUP_OUTPUT")
    source, end = link.from_socket, link.to_socket
    tree.links.new(source, node.inputs[0])
    tree.links.new(node.outputs[0], end)
