"""The `reproject` benchmark inside Blender: scenes, paint that is known everywhere, and what an orbit gives."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np
from mathutils import Vector

from paintover import cameras
from paintover.bridge.scene import Camera
from paintover.operators import export_passes
from paintover.passes import gpu_route
from paintover.passes.draw import Frame
from paintover.passes.live import Live
from paintover.passes.reproject import Known, Painted

from . import passes_parts

SIZE = 512
STEP = 2.0
"""Degrees a frame."""
EVERY = 6
"""Frames from one painting to the next."""


@dataclass(frozen=True)
class Outcome:
    error: float
    hold: float
    rms: float
    rms_hold: float
    error_known: float
    known: float
    milliseconds: float

    @property
    def over_hold(self) -> float:
        return self.error / self.hold

    @property
    def rms_over_hold(self) -> float:
        return self.rms / self.rms_hold


def build(name: str) -> bpy.types.Scene:
    """A scene of that name, in an empty file."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    passes_parts.camera(scene).animation_data_clear()
    bpy.ops.mesh.primitive_plane_add(size=16, location=(0, 0, -1.2))
    if name == "columns":  # thin things in front of each other
        for index in range(12):
            angle = 2 * np.pi * index / 12
            bpy.ops.mesh.primitive_cylinder_add(
                radius=0.18, depth=3, location=(2.4 * np.cos(angle), 2.4 * np.sin(angle), 0.3)
            )
        bpy.ops.mesh.primitive_torus_add(major_radius=1.2, minor_radius=0.25, rotation=(1, 0.3, 0))
        return scene
    bpy.ops.mesh.primitive_monkey_add(size=2.4)
    monkey = bpy.context.object
    monkey.modifiers.new("Subdivision", "SUBSURF").levels = 2
    passes_parts.smooth(monkey)
    bpy.ops.mesh.primitive_cube_add(size=1.2, location=(2.2, 0.8, -0.5))
    bpy.ops.mesh.primitive_uv_sphere_add(radius=0.7, location=(-2.0, -0.9, -0.4))
    return scene


def move(scene: bpy.types.Scene, number: int) -> None:
    """Objects turn by 3° a frame, and one flies."""
    for ob in scene.objects:
        if ob.type == "MESH" and ob.name != "Plane":
            ob.rotation_euler.z = np.radians(3) * number
    scene.objects["Sphere"].location.z = 0.6 + 0.8 * np.sin(0.15 * number)


def view(scene: bpy.types.Scene, number: int) -> Camera:
    angle = np.radians(STEP * number)
    ob = scene.camera
    ob.location = (7 * np.sin(angle), -7 * np.cos(angle), 2.6)
    ob.rotation_euler = (-Vector(ob.location)).to_track_quat("-Z", "Y").to_euler()
    return cameras.from_object(scene, ob, SIZE, SIZE)


def paint(frame: Frame) -> np.ndarray:
    """float64 (H, W, 3), 0…1: the pattern on every surface, in the object's own space; in the sky, by direction."""
    rays = frame.camera.rays()[1] @ frame.camera.view[:3, :3]
    place = 3 * rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    color = np.broadcast_to((0.45, 0.6, 0.8), place.shape).copy()
    for number, name in frame.names.items():
        mask = frame.object_id == number
        inverse = np.linalg.inv(np.array(bpy.data.objects[name].matrix_world, np.float64))
        assert frame.position is not None
        place[mask] = frame.position[mask] @ inverse[:3, :3].T + inverse[:3, 3]
        color[mask] = 0.5 + 0.22 * np.sin(2.4 * number + np.arange(3) * 2.1)
    for octave, share in enumerate((0.14, 0.08, 0.05)):
        wave = np.sin(place * (2.0 * 2.3**octave) + octave)
        color += share * (wave * np.roll(wave, 1, -1) + wave * 0.3)
    return np.clip(color, 0, 1)


def orbit(name: str, frames: int, *, late: int = 0, folder: Path | None = None) -> Outcome:
    """Go around the scene. Paintings arrive `late` frames after their moment; the first frames, which have none, do
    not count."""
    scene = build(name)
    arriving: dict[int, tuple[Known, np.ndarray]] = {}
    painted: Painted | None = None
    errors, times = [], []
    with Live(scene) as live:
        for number in range(frames + late):
            if name == "moving":
                move(scene, number)
            camera = view(scene, number)
            frame, stage = live.frame(camera, position=True), live.read()
            truth = paint(frame)
            if number % EVERY == 0:
                arriving[number + late] = Known.of(stage, frame), np.round(truth * 255).astype(np.uint8)
            if number in arriving:
                known, held = arriving.pop(number)
                painted = Painted.upload(known, held)
            if painted is None:
                continue
            start = time.perf_counter()
            reprojector = gpu_route.reproject(stage, camera, lambda painted=painted: painted)  # type: ignore[misc]
            reprojector.finish()
            times.append(time.perf_counter() - start)
            shown, bare = reprojector.image(), reprojector.image(fill=False)
            off, off_held = np.abs(shown[..., :3] - truth), np.abs(held / 255 - truth)
            was_known = bare[..., 3] > 0
            errors.append(
                (off.mean(), off_held.mean(), (off**2).mean(), (off_held**2).mean(), off[was_known].mean(),
                 was_known.mean())
            )  # fmt: skip
            if folder and number % EVERY == EVERY - 1 and number < 4 * EVERY:
                save(folder / f"{name}_{number:02}.png", truth, shown[..., :3], bare[..., :3], off * 4)
    error, hold, square, square_hold, error_known, known_share = np.mean(errors, 0).tolist()
    return Outcome(
        error, hold, square**0.5, square_hold**0.5, error_known, known_share, 1000 * statistics.median(times)
    )


def save(path: Path, *pictures: np.ndarray) -> None:
    """Fresh and reprojected above; without filling and the error below."""
    a, b, c, d = pictures
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = np.concatenate([np.concatenate([a, b], 1), np.concatenate([c, d], 1)])
    export_passes.save_png(np.clip(whole, 0, 1).astype(np.float32), path)
