"""What artists ask of Blender over OSC: to start and stop jobs, to move the scene's camera, to follow timecode."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix, Vector

from ..bridge.errors import SceneError
from ..bridge.live_messages import Value

CAMERA = ("camera_orbit", "camera_elevation", "camera_distance")
OPERATORS = {"texture/run": "texture", "animation/run": "render_shot", "cancel": "cancel"}
"""Event -> operator of this extension."""
UNKNOWN_DISTANCE = 10.0
"""Of what a camera looks at that looks at nothing."""


def run(address: str, found: tuple[bpy.types.Window, bpy.types.Area] | None) -> None:
    """Do what was asked for, as its button would. Raises SceneError where that button is greyed out or fails."""
    operator: Any = getattr(bpy.ops.paintover, OPERATORS.get(address, ""), None) if address in OPERATORS else None
    with contextlib.ExitStack() as stack:
        if found:
            window, area = found
            region = next(region for region in area.regions if region.type == "WINDOW")
            stack.enter_context(bpy.context.temp_override(window=window, area=area, region=region))
        try:
            operator("EXEC_DEFAULT")
        except (RuntimeError, AttributeError, TypeError) as reason:  # poll, a report, or no such operator
            words = str(reason).strip().split("\n")[0].removeprefix("Error: ")
            raise SceneError(reason=f"“{address}” was asked for over OSC: {words}", hint="") from reason


class Rig:
    """Moves the scene's camera around what it looks at, as far as the stage's parameters say. Where it stands when
    the stage is joined, or when somebody else has moved it since, is where these parameters had it."""

    def __init__(self) -> None:
        self._values: tuple[float, ...] | None = None
        self._placed: np.ndarray | None = None
        """The matrix that was set last."""
        self._pivot = Vector()
        self._start = (0.0, 0.0, 0.0)
        """Azimuth and elevation in degrees, and distance, less the parameters of then."""

    def move(self, scene: bpy.types.Scene, values: Mapping[str, Value]) -> None:
        """Follow the parameters, if they changed. Raises SceneError if the camera cannot be moved."""
        if not values:
            return  # the stage has not told them yet
        wanted = tuple(float(values.get(name, 0.0)) for name in CAMERA)
        before, self._values = self._values, wanted
        camera = scene.camera
        if before is None or wanted == before or camera is None:
            return
        matrix = np.array(camera.matrix_world)
        if self._placed is None or not np.allclose(matrix, self._placed, atol=1e-5):
            self._look(scene, camera, before)
        azimuth, elevation = np.radians(self._start[0] + wanted[0]), self._start[1] + wanted[1]
        elevation = np.radians(np.clip(elevation, -89.0, 89.0))
        distance = wanted[2] or self._start[2]
        back = Vector(
            (np.sin(azimuth) * np.cos(elevation), -np.cos(azimuth) * np.cos(elevation), np.sin(elevation))
        )
        turn = back.to_track_quat("Z", "Y").to_matrix().to_4x4()
        scale = camera.matrix_world.to_scale()
        try:
            camera.matrix_world = Matrix.Translation(self._pivot + back * distance) @ turn @ Matrix.Diagonal(
                (*scale, 1.0)
            )
        except (AttributeError, RuntimeError) as reason:
            raise SceneError(reason=f"the camera {camera.name!r} cannot be moved ({reason})") from reason
        self._placed = np.array(camera.matrix_world)

    def _look(self, scene: bpy.types.Scene, camera: bpy.types.Object, before: tuple[float, ...]) -> None:
        """Find out what the camera looks at, and from where. Raises SceneError if that cannot be said."""
        place = camera.matrix_world.translation.copy()
        ahead = -camera.matrix_world.to_3x3().col[2].normalized()
        if not ahead.length > 0.5:  # its scale is zero, or a driver makes it no number
            raise SceneError(reason=f"the camera {camera.name!r} looks nowhere", hint="Give it a scale of 1.")
        layer = scene.view_layers[0]
        hit, pivot, *_ = scene.ray_cast(layer.depsgraph, place, ahead)
        self._pivot = pivot if hit else place + ahead * (max(0.0, -place.dot(ahead)) or UNKNOWN_DISTANCE)
        back = place - self._pivot
        azimuth = np.degrees(np.arctan2(back.x, -back.y))
        elevation = np.degrees(np.arcsin(np.clip(back.z / back.length, -1, 1)))
        self._start = azimuth - before[0], elevation - before[1], back.length


class Timecode:
    """Has the scene's timeline follow the stage's `timeline`, but not while Blender plays: it has its own time then."""

    def __init__(self) -> None:
        self._seconds: float | None = None

    def follow(self, scene: bpy.types.Scene, values: Mapping[str, Value]) -> None:
        """Go to the nearest frame, if the time has changed since the stage was joined."""
        if not values:
            return  # the stage has not told them yet
        seconds = float(values.get("timeline", -1.0))
        before, self._seconds = self._seconds, seconds
        if before is None or seconds == before or seconds < 0:
            return
        if any(window.screen.is_animation_playing for window in bpy.context.window_manager.windows):
            return
        frame = scene.frame_start + round(seconds * scene.render.fps / scene.render.fps_base)
        if (frame := min(frame, scene.frame_end)) != scene.frame_current:
            scene.frame_set(frame)
