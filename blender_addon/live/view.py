"""From where live frames are painted: a part of a viewport, or the scene's camera; and where that is in a viewport."""

from __future__ import annotations

import math
from dataclasses import dataclass

import bpy
import numpy as np

from .. import cameras
from ..bridge.errors import NoCamera
from ..bridge.live import LIVE_BY_NAME
from ..bridge.scene import Camera

LARGEST = 4096
"""Longer sides of viewports are drawn smaller, and stretched."""
Rectangle = tuple[float, float, float, float]
"""Left, bottom, right and top as shares of a viewport."""
WHOLE: Rectangle = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Viewport:
    """A 3D viewport, known by a number that is only compared: that of what it shows. One that is maximised, or back
    again, shows that in another area."""

    space: int

    @classmethod
    def of(cls, area: bpy.types.Area) -> Viewport:
        return cls(area.spaces.active.as_pointer())

    def find(self) -> tuple[bpy.types.Window, bpy.types.Area] | None:
        """The window and the area; None while no window shows it."""
        for window in bpy.context.window_manager.windows:
            for area in window.screen.areas:
                if self._is(area):
                    return window, area
        return None

    @property
    def exists(self) -> bool:
        """False once it is closed or shows something else: it may be in another workspace, or behind an area that is
        maximised."""
        return any(self._is(area) for screen in bpy.data.screens for area in screen.areas)

    def _is(self, area: bpy.types.Area) -> bool:
        return area.type == "VIEW_3D" and area.spaces.active.as_pointer() == self.space


def canvas(area: bpy.types.Area) -> bpy.types.Region:
    """The region of a viewport that shows the scene."""
    return next(region for region in area.regions if region.type == "WINDOW")


def camera_of(view: bpy.types.RegionView3D, width: int, height: int) -> Camera:
    """What a viewport of that size sees, drawn with as many pixels (LARGEST at the most)."""
    scale = min(1.0, LARGEST / max(width, height, 1))
    return cameras.from_view(view, max(1, round(width * scale)), max(1, round(height * scale)))


def frame_in(width: int, height: int, frame_width: int, frame_height: int) -> Rectangle:
    """The largest part in the middle of a viewport that has the proportions of the frame."""
    aspect = (frame_width / frame_height) / (max(width, 1) / max(height, 1))
    across, up = min(1.0, aspect), min(1.0, 1 / aspect)
    return (1 - across) / 2, (1 - up) / 2, (1 + across) / 2, (1 + up) / 2


def sized(width: int, height: int, across: float, up: float) -> tuple[int, int]:
    """A size with about as many pixels as width × height and the proportions across : up, as far as sides divisible by
    8 and the stage's limits allow; the same one if it has them already."""
    if of_proportions(width, height, across, up):
        return width, height
    row = LIVE_BY_NAME["output_width"]
    step, least, most = row.step or 1, int(row.minimum or 1), int(row.maximum or LARGEST)
    longer = max(across, up) / min(across, up)
    # One side is rounded after the other, so that the error is that of the longer one alone.
    short = min(max(round((width * height / longer) ** 0.5 / step) * step, least), most)
    long = min(max(round(short * longer / step) * step, least), most)
    return (long, short) if across >= up else (short, long)


def of_proportions(width: int, height: int, across: float, up: float) -> bool:
    """Whether a size has the proportions across : up, but for a side rounded to a multiple of 8."""
    return abs(width * up - height * across) <= 4 * max(across, up)


def part_of(whole: Camera, part: Rectangle, width: int, height: int) -> Camera:
    """The camera that sees a part of what another one sees, in an image of that size."""
    left, bottom, right, top = part
    window = np.eye(4)
    window[0, 0], window[0, 3] = 1 / (right - left), (1 - left - right) / (right - left)
    window[1, 1], window[1, 3] = 1 / (top - bottom), (1 - bottom - top) / (top - bottom)
    return Camera(whole.name, whole.view, window @ whole.projection, width, height)


def scene_camera(
    scene: bpy.types.Scene, layer: str, width: int, height: int, *, evaluated: bool = False
) -> Camera:
    """The scene's camera in a view layer; `evaluated`, as while Blender draws, it is not again. Raises NoCamera or
    SceneError."""
    if scene.camera is None or scene.camera.type != "CAMERA":
        raise NoCamera(hint="Add one with Add > Camera, or paint the viewport: View > Viewport.")
    return cameras.from_object(scene, scene.camera, width, height, view_layer=layer, evaluated=evaluated)


def place_of(camera: Camera, whole: Camera) -> Rectangle | None:
    """Where the frame of a camera is in the view of another one that stands at the same place and looks the same way;
    None if it does not."""
    if camera.orthographic != whole.orthographic or not np.allclose(camera.view, whole.view, atol=1e-4):
        return None
    corners = np.linalg.inv(camera.projection) @ np.array([(-1, -1, 0, 1), (1, 1, 0, 1)], np.float64).T
    clip = whole.projection @ corners
    (left, right), (bottom, top) = (clip[:2] / clip[3] * 0.5 + 0.5).tolist()
    found = max(0.0, left), max(0.0, bottom), min(1.0, right), min(1.0, top)
    if not all(map(math.isfinite, found)) or found[0] >= found[2] or found[1] >= found[3]:
        return None
    return found


def same(a: Camera | None, b: Camera | None) -> bool:
    """Whether both see the same."""
    if a is None or b is None:
        return a is b
    return (
        (a.width, a.height) == (b.width, b.height)
        and np.array_equal(a.view, b.view)
        and np.array_equal(a.projection, b.projection)
    )
