"""What the timeline says of a shot: its frames in their order, the camera of each, where it is cut, and the words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import bpy

from ..bridge.errors import NoCamera, SceneError

PROMPT = "paint:"
"""How the names of markers begin whose rest is the prompt from there on."""
MOST = 100_000
"""Frames of a shot."""


def numbers(scene: bpy.types.Scene) -> list[int]:
    """The scene's frames in order of showing: every n-th, backwards if that was chosen. Raises SceneError."""
    found = list(range(scene.frame_start, scene.frame_end + 1, scene.frame_step))
    if not found or len(found) > MOST:
        raise SceneError(
            reason=f"its range has {len(found):,} frames",
            hint=f"Set Start, End and Step of the timeline so that there are 1 to {MOST:,}.",
        )
    return found[::-1] if scene.paintover.shot_backwards else found


def camera_at(scene: bpy.types.Scene, number: int) -> bpy.types.Object:
    """The camera at a frame, by the markers that cameras are bound to, as Blender switches them. Raises NoCamera."""
    bound = [marker for marker in scene.timeline_markers if marker.camera and not marker.camera.hide_render]
    if bound:
        passed = [marker for marker in bound if marker.frame <= number]
        marker = max(passed, key=_frame) if passed else min(bound, key=_frame)
        return marker.camera
    if scene.camera is None:
        raise NoCamera(hint="Add one with Add > Camera, or bind cameras to markers: Marker > Bind Camera to Markers.")
    return scene.camera


def _frame(marker: bpy.types.TimelineMarker) -> int:
    return marker.frame


def parts(shown: Sequence[int], camera_of: Callable[[int], Any]) -> list[tuple[int, ...]]:
    """The frames from cut to cut: where another camera takes over, the picture starts anew. Raises NoCamera."""
    found: list[list[int]] = []
    before: Any = None
    for number in shown:
        camera = camera_of(number)
        if not found or camera != before:
            found.append([])
        found[-1].append(number)
        before = camera
    return [tuple(part) for part in found]


def words_at(markers: Sequence[tuple[int, str]], number: int) -> str | None:
    """The prompt of the last marker at or before a frame that has one. `markers`: frame and name of each."""
    found = [(frame, name) for frame, name in markers if frame <= number and name.strip().lower().startswith(PROMPT)]
    if not found:
        return None
    return max(found, key=lambda one: one[0])[1].strip()[len(PROMPT) :].strip()


def markers(scene: bpy.types.Scene) -> list[tuple[int, str]]:
    """Frame and name of the scene's markers."""
    return [(marker.frame, marker.name) for marker in scene.timeline_markers]
