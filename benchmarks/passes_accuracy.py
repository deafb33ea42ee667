"""How exact passes are, scene by scene, against rays (`passes_truth`) and against Cycles. Runs inside Blender."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np

from paintover import cameras
from paintover.passes import cycles, gpu_route
from paintover.passes.live import Live

from . import passes_scenes, passes_truth


@dataclass
class Seen:
    """A scene's frame 2, drawn, and the truth about some of its pixels."""

    frame: Any
    truth: passes_truth.Truth


@dataclass
class Errors:
    """Differences between drawn and true values, of pixels away from silhouettes."""

    pixels: int
    hit: np.ndarray
    """bool: only one of the two hits."""
    id: np.ndarray
    depth: np.ndarray
    """Relative."""
    smooth: np.ndarray
    """Degrees, on smooth faces."""
    flat: np.ndarray
    """Degrees, on flat ones."""
    motion: np.ndarray
    """Pixels."""

    def bars(self) -> Mapping[str, float]:
        """The figures that are held against bars, by name. What a scene has none of is 0."""
        return {
            "hit_mismatch": float(self.hit.mean()),
            "id_mismatch": float(self.id.mean()),
            "depth_rel_median": percentile(self.depth, 50),
            "depth_rel_p99": percentile(self.depth, 99),
            "normal_deg_median": percentile(self.smooth, 50),
            "normal_deg_p99": percentile(self.smooth, 99),
            "flat_normal_deg_p99": percentile(self.flat, 99),
            "motion_px_median": percentile(self.motion, 50),
            "motion_px_p99": percentile(self.motion, 99),
        }


def percentile(values: np.ndarray, share: float) -> float:
    return float(np.percentile(values, share)) if len(values) else 0.0


def set_up(name: str) -> bpy.types.Scene:
    """The scene of that name in a file of its own, at frame 1."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    passes_scenes.SCENES[name](scene)
    scene.frame_set(1)
    return scene


def camera_of(scene: bpy.types.Scene) -> Any:
    return cameras.from_object(scene, scene.camera, scene.render.resolution_x, scene.render.resolution_y)


def look(name: str, count: int, seed: int = 0) -> Seen:
    """Draw frames 1 and 2 of a scene, and cast rays at `count` random pixels of frame 2."""
    scene = set_up(name)
    with Live(scene) as live:
        before = passes_truth.moment(scene, camera_of(scene))
        live.frame(before.camera, position=True)
        scene.frame_set(2)
        now = passes_truth.moment(scene, camera_of(scene))
        frame = live.frame(now.camera, position=True)
    height, width = frame.depth.shape
    chosen = np.random.default_rng(seed).permutation(height * width)[:count]
    pixels = np.stack(np.unravel_index(chosen, (height, width)), 1)
    return Seen(frame, passes_truth.cast(scene, now, before, pixels))


def compare(seen: Seen) -> Errors:
    """The errors of a drawn frame."""
    frame, truth = seen.frame, seen.truth
    row, column = truth.pixels.T
    depth, normal = frame.depth[row, column].astype(np.float64), frame.normal[row, column].astype(np.float64)
    hit, clear = np.isfinite(depth), ~truth.border
    name = np.array([frame.names.get(int(number), "") for number in frame.object_id[row, column]], object)
    both = clear & hit & truth.hit
    chord = np.linalg.norm(normal - truth.normal, axis=1)
    angle = np.degrees(2 * np.arcsin(np.clip(chord / 2, 0, 1)))
    motion = np.linalg.norm(frame.motion[row, column] - truth.motion, axis=1)
    known, moved = both & np.isfinite(angle), both & ~np.isnan(motion)
    return Errors(
        pixels=int(clear.sum()),
        hit=(hit != truth.hit)[clear],
        id=(name != truth.name)[clear],
        depth=np.abs(depth[both] - truth.depth[both]) / truth.depth[both],
        smooth=angle[known & truth.smooth],
        flat=angle[known & ~truth.smooth],
        motion=motion[moved],
    )


def against_cycles(name: str) -> Mapping[str, float]:
    """How far the two routes are apart on a scene as it renders, all pixels counted."""
    scene = set_up(name)
    scene.frame_set(2)
    camera = camera_of(scene)
    (ours,), (theirs,) = gpu_route.render(scene, [camera]), cycles.render(scene, [camera])
    both = np.isfinite(ours.depth) & np.isfinite(theirs.depth) & (ours.object_id == theirs.object_id)
    depth = np.abs(ours.depth[both] - theirs.depth[both]) / theirs.depth[both]
    agreement = (ours.normal.astype(np.float64) * theirs.normal.astype(np.float64)).sum(-1)[both]
    return {
        "id_mismatch": float((ours.object_id != theirs.object_id).mean()),
        "depth_rel_median": percentile(depth, 50),
        "normal_deg_median": percentile(np.degrees(np.arccos(np.clip(agreement, -1, 1))), 50),
    }
