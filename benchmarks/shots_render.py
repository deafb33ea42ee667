"""Renders shots to numpy files, once: passes by the add-on's own route, and where every surface is in other frames.

Run in Blender's Python: python -m benchmarks.shots_render NAME FRAMES WIDTH HEIGHT INTERVAL FOLDER
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import bpy
import numpy as np

BACK = (1, 4, 16)
"""Frames are linked to those so many before them: by these flicker is measured."""


def from_aside(camera: Any) -> Any:
    """A camera under which a point's pixel column is its depth before `camera`, plus half the width."""
    turn = np.array([[0, 0, -1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
    return replace(camera, view=turn @ camera.view, projection=np.diag([2 / camera.width, 1.0, -1e-3, 1.0]))


def link(draw: Any, before: Any, stage: Any, camera: Any, to_stage: Any, to_camera: Any) -> np.ndarray:
    """bridge.shot.Link.place, of two drawings: the second shows depth as motion."""
    motion = draw(stage, camera, before(to_camera, to_stage)).motion
    aside = draw(stage, camera, before(from_aside(to_camera), to_stage)).motion[..., 0]
    depth = np.arange(camera.width) + 0.5 + aside - camera.width / 2
    return np.concatenate([motion, depth[..., None]], -1).astype(np.float32)


def render(name: str, frames: int, width: int, height: int, interval: int, folder: Path) -> None:
    from benchmarks import shots_scenes
    from paintover import cameras
    from paintover.bridge import shot
    from paintover.bridge.parameters import EdgeStyle
    from paintover.passes import gpu_route
    from paintover.passes.assemble import assemble
    from paintover.passes.draw import Before
    from paintover.passes.live import Live

    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    shots_scenes.SHOTS[name](scene, frames)
    numbers = list(range(1, frames + 1))
    with Live(scene) as live:
        seen = {}
        for number in numbers:
            scene.frame_set(number)
            seen[number] = live.read(), cameras.from_object(scene, scene.camera, width, height)
        for place in shot.plan(numbers, interval):
            stage, camera = seen[place.number]
            drawn = gpu_route.draw(stage, camera, edges=EdgeStyle())
            passes = assemble(camera, drawn.depth, drawn.normal, drawn.object_id, drawn.edge, drawn.names)
            others = {place.before, place.after, place.previous, 1, *(place.number - back for back in BACK)}
            links = {
                f"link_{other}": link(gpu_route.draw, Before, stage, camera, *seen[other])
                for other in _known(others, seen, place.number)
            }
            np.savez(
                folder / f"{place.number:04}.npz", view=camera.view, projection=camera.projection, depth=passes.depth,
                normal=passes.normal, edge=passes.edge, object_id=passes.object_id, **links,
            )  # fmt: skip
            print(name, place.number, flush=True)


def _known(numbers: Iterable[int | None], seen: dict[int, Any], own: int) -> list[int]:
    return sorted(number for number in set(numbers) if number in seen and number != own)


def main() -> None:
    import build_addon

    stage = tempfile.TemporaryDirectory(prefix="paintover-stage-")
    build_addon.stage(Path(stage.name))
    sys.path.insert(0, stage.name)
    name, frames, width, height, interval, folder = sys.argv[1:]
    render(name, int(frames), int(width), int(height), int(interval), Path(folder))


if __name__ == "__main__":
    main()
