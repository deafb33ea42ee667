"""How the cost of passes grows with triangles, instances and pixels. Runs inside Blender."""

from __future__ import annotations

import statistics
import time
from typing import Any

import bpy
import numpy as np

from paintover.bridge.parameters import EdgeStyle
from paintover.passes.live import Live

from . import passes_parts
from .passes_speed import Orbit, fresh, monkey, seconds
from .report import Result

TRIANGLES = (10_000, 50_000, 250_000, 1_000_000, 5_000_000)
INSTANCES = (1, 10, 100, 1_000, 10_000)
PIXELS = (256, 512, 1024, 2048, 4096)
SIZE = 512
PATIENCE = 4.0
"""Seconds for the frames of one case, after which no further one is begun."""
FRAMES = (3, 15)
"""At least, and at most."""


def growth() -> list[Result]:
    """Milliseconds of a frame while the camera moves and all is cached, and of the first one, which reads the scene."""
    results: list[Result] = []
    scene = fresh()
    _grid(2)
    with Live(scene) as live:
        live.frame(Orbit(scene, 64).next())  # the shaders are made
    for count in TRIANGLES:
        scene = fresh()
        _grid(count)
        results += _measure(f"growth_triangles_{count}", scene, SIZE)
    for count in INSTANCES:
        scene = fresh()
        _instances(count)
        results += _measure(f"growth_instances_{count}", scene, SIZE)
    for side in PIXELS:
        scene = fresh()
        monkey(-1.7)
        monkey(1.7)
        results += _measure(f"growth_pixels_{side}", scene, side)
    return results


def _measure(name: str, scene: bpy.types.Scene, side: int) -> list[Result]:
    orbit = Orbit(scene, side)
    scene.view_layers[0].update()
    with Live(scene) as live:

        def frame() -> Any:
            return live.frame(orbit.next(), edges=EdgeStyle())

        first = seconds(frame)
        times: list[float] = []
        end = time.perf_counter() + PATIENCE
        while len(times) < FRAMES[0] or (len(times) < FRAMES[1] and time.perf_counter() < end):
            times.append(seconds(frame))
    frame_ms, first_ms = 1000 * statistics.median(times), 1000 * first
    print(f"{name:28} {frame_ms:8.1f} ms, the first {first_ms:8.1f} ms", flush=True)
    return [Result(f"{name}_ms", frame_ms, "ms"), Result(f"{name}_first_ms", first_ms, "ms")]


def _grid(triangles: int) -> None:
    """A wavy sheet."""
    side = round((triangles / 2) ** 0.5)
    bpy.ops.mesh.primitive_grid_add(x_subdivisions=side, y_subdivisions=triangles // 2 // side, size=7)
    sheet = bpy.context.object
    passes_parts.smooth(sheet)
    flat = np.empty(len(sheet.data.vertices) * 3, np.float32)
    sheet.data.vertices.foreach_get("co", flat)
    flat[2::3] = 0.3 * np.sin(3 * flat[0::3]) * np.cos(2 * flat[1::3])
    sheet.data.vertices.foreach_set("co", flat)


def _instances(count: int) -> None:
    """Cubes on as many points, the smaller the more there are."""
    side = int(np.ceil(count**0.5))
    step = 7 / side
    places = [((i % side - (side - 1) / 2) * step, (i // side - (side - 1) / 2) * step, 0) for i in range(count)]
    mesh = bpy.data.meshes.new("Points")
    mesh.from_pydata(places, [], [])
    points = bpy.data.objects.new("Points", mesh)
    bpy.context.scene.collection.objects.link(points)
    passes_parts.instances_on_points(points, passes_parts.cube((0, 0, 50), step * 0.6))
