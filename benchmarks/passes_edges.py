"""Edges against the lines of analytic solids, and how steady they are while the solids turn. Runs inside Blender.

The truth knows nothing of meshes: the edges of boxes, the rims and generators of a cylinder, the contour of a torus
from its parametrisation, the segments in which faces of boxes cut each other, all sampled densely, each sample hidden
where a ray to the eye, cast at the solids' equations, meets one of them before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix

from paintover import cameras
from paintover.bridge.parameters import EdgeStyle
from paintover.passes.live import Live

from . import passes_parts
from .report import Result

SIZE = 512
STEP = 0.2
"""Pixels between samples of a true line."""
NEAR = 1.0
"""Pixels that an edge pixel's centre may be off a true line, and the other way around."""
EDGE = 128
"""A pixel that is at least half covered by a line is an edge pixel."""
FRAMES = 24
TURN = np.radians(1.0)
RADIUS, HEIGHT, RING, TUBE = 1.0, 1.6, 1.2, 0.45


@dataclass
class Solid:
    """A scene, and the truth about it."""

    build: Callable[[bpy.types.Scene], list[bpy.types.Object]]
    lines: Callable[[np.ndarray], list[np.ndarray]]
    """Eye (3,) -> polylines, each (n, 3): edges, and contours as seen from there; hidden ones too."""
    hidden: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """Points (n, 3) and eye -> bool (n,)."""


BOXES = (
    Matrix.LocRotScale((-0.35, 0, 0), Matrix.Rotation(0.2, 3, "Z"), (1.0, 0.7, 0.5)),
    Matrix.LocRotScale((0.45, 0.1, 0.2), Matrix.Rotation(0.7, 3, (1, 1, 0.3)), (0.6, 0.6, 0.9)),
)
"""Of cubes from −1 to 1, that pass through each other."""


def solids() -> dict[str, Solid]:
    cube, boxes = [np.eye(4)], [np.array(matrix, np.float64) for matrix in BOXES]
    return {
        "cube": Solid(lambda scene: _boxes(cube), lambda eye: _box_lines(cube), lambda p, e: _behind_boxes(cube, p, e)),
        "cylinder": Solid(_cylinder, _cylinder_lines, _behind_cylinder),
        "torus": Solid(_torus, _torus_lines, _behind_torus),
        "intersecting boxes": Solid(
            lambda scene: _boxes(boxes),
            lambda eye: [*_box_lines(boxes), *_cuts(*boxes)],
            lambda p, e: _behind_boxes(boxes, p, e),
        ),
    }


# ------------------------------------------------------------ boxes


def _boxes(matrices: list[np.ndarray]) -> list[bpy.types.Object]:
    made = []
    for matrix in matrices:
        bpy.ops.mesh.primitive_cube_add(size=2)
        passes_parts.added().matrix_world = Matrix(matrix.tolist())
        made.append(passes_parts.added())
    return made


def _corners(matrix: np.ndarray) -> np.ndarray:
    """(2, 2, 2, 3)."""
    grid = np.stack(np.meshgrid((-1, 1), (-1, 1), (-1, 1), indexing="ij"), -1).astype(np.float64)
    return grid @ matrix[:3, :3].T + matrix[:3, 3]


def _box_lines(matrices: list[np.ndarray]) -> list[np.ndarray]:
    lines: list[np.ndarray] = []
    for matrix in matrices:
        corners = _corners(matrix)
        for axis in range(3):
            lines += list(np.moveaxis(corners, axis, 2).reshape(4, 2, 3))
    return lines


def _cuts(one: np.ndarray, other: np.ndarray) -> list[np.ndarray]:
    """Where a face of one box cuts a face of another: two points each."""
    lines = []
    to_one, to_other = np.linalg.inv(one), np.linalg.inv(other)
    for a in range(6):
        for b in range(6):
            normal_a, offset_a = _face(to_one, a)
            normal_b, offset_b = _face(to_other, b)
            direction = np.cross(normal_a, normal_b)
            start = np.linalg.lstsq(np.stack([normal_a, normal_b]), np.array([offset_a, offset_b]), rcond=None)[0]
            low, high = -np.inf, np.inf
            for inverse in (to_one, to_other):  # inside both boxes
                p, d = inverse[:3, :3] @ start + inverse[:3, 3], inverse[:3, :3] @ direction
                for axis in range(3):
                    if abs(d[axis]) < 1e-9:
                        if abs(p[axis]) > 1 + 1e-9:
                            low, high = 1.0, 0.0
                        continue
                    ends = sorted(((-1 - p[axis]) / d[axis], (1 - p[axis]) / d[axis]))
                    low, high = max(low, ends[0]), min(high, ends[1])
            if low < high:
                lines.append(np.stack([start + low * direction, start + high * direction]))
    return lines


def _face(inverse: np.ndarray, number: int) -> tuple[np.ndarray, float]:
    """World plane of a face: normal · p = offset."""
    axis, side = number // 2, (-1, 1)[number % 2]
    return inverse[axis, :3], side - inverse[axis, 3]


def _behind_boxes(matrices: list[np.ndarray], points: np.ndarray, eye: np.ndarray) -> np.ndarray:
    hidden = np.zeros(len(points), bool)
    for matrix in matrices:
        inverse = np.linalg.inv(matrix)
        start = inverse[:3, :3] @ eye + inverse[:3, 3]
        way = (points - eye) @ inverse[:3, :3].T
        with np.errstate(divide="ignore", invalid="ignore"):
            low, high = (-1 - start) / way, (1 - start) / way
        enter, leave = np.minimum(low, high).max(1), np.maximum(low, high).min(1)
        hidden |= (enter < leave - 1e-6) & (enter < 1 - 1e-6) & (leave > 0)
    return hidden


# ------------------------------------------------------------ cylinder


def _cylinder(scene: bpy.types.Scene) -> list[bpy.types.Object]:
    bpy.ops.mesh.primitive_cylinder_add(vertices=96, radius=RADIUS, depth=HEIGHT)
    ob = passes_parts.added()
    for polygon in ob.data.polygons:
        polygon.use_smooth = len(polygon.vertices) == 4
    return [ob]


def _circle(z: float, radius: float = RADIUS) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 721)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), np.full(721, z)], 1)


def _cylinder_lines(eye: np.ndarray) -> list[np.ndarray]:
    lines = [_circle(-HEIGHT / 2), _circle(HEIGHT / 2)]
    middle, spread = np.arctan2(eye[1], eye[0]), np.arccos(RADIUS / np.hypot(eye[0], eye[1]))
    for angle in (middle - spread, middle + spread):
        x, y = RADIUS * np.cos(angle), RADIUS * np.sin(angle)
        lines.append(np.array([(x, y, -HEIGHT / 2), (x, y, HEIGHT / 2)]))
    return lines


def _behind_cylinder(points: np.ndarray, eye: np.ndarray) -> np.ndarray:
    way = points - eye
    a, b, c = (way[:, :2] ** 2).sum(1), way[:, :2] @ eye[:2], (eye[:2] ** 2).sum() - RADIUS**2
    root = np.sqrt(np.maximum(b * b - a * c, 0))
    caps = (np.array([-HEIGHT / 2, HEIGHT / 2]) - eye[2])[None] / way[:, 2:]
    enter = np.maximum((-b - root) / a, caps.min(1))
    leave = np.minimum((-b + root) / a, caps.max(1))
    hidden: np.ndarray = (enter < leave - 1e-6) & (enter < 1 - 1e-6)
    return hidden


# ------------------------------------------------------------ torus


def _torus(scene: bpy.types.Scene) -> list[bpy.types.Object]:
    bpy.ops.mesh.primitive_torus_add(
        major_radius=RING, minor_radius=TUBE, major_segments=192, minor_segments=96, rotation=(0, 0, 0)
    )
    passes_parts.smooth(passes_parts.added())
    return [passes_parts.added()]


def _torus_lines(eye: np.ndarray) -> list[np.ndarray]:
    """Points of the contour, where the normal is across the ray: roots around each of many rings, and along them."""
    u, v = (np.linspace(0, 2 * np.pi, n + 1) for n in (6000, 1500))
    found = []
    for across, along in ((u, v), (v, u)):
        for part in np.array_split(across, 8):
            first, second = part[:, None], along[None]
            facing = _facing(eye, first, second) if across is u else _facing(eye, second, first)
            row, column = np.nonzero(facing[:, :-1] * facing[:, 1:] < 0)
            before, after = facing[row, column], facing[row, column + 1]
            root = along[column] + before / (before - after) * (along[1] - along[0])
            found.append(_on_torus(part[row], root)[0] if across is u else _on_torus(root, part[row])[0])
    return [point[None] for point in np.concatenate(found)]


def _on_torus(u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points and normals."""
    u, v = np.broadcast_arrays(u, v)
    normal = np.stack([np.cos(u) * np.cos(v), np.sin(u) * np.cos(v), np.sin(v)], -1)
    ring = np.stack([np.cos(u), np.sin(u), np.zeros_like(u)], -1) * RING
    return ring + TUBE * normal, normal


def _facing(eye: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    point, normal = _on_torus(u, v)
    facing: np.ndarray = ((eye - point) * normal).sum(-1)
    return facing


def _behind_torus(points: np.ndarray, eye: np.ndarray) -> np.ndarray:
    """Whether (√(x² + y²) − R)² + z² < r² at one of 800 places of the ray, from the torus' bounding ball on."""
    start = 1 - 2 * (RING + TUBE + 0.1) / np.linalg.norm(points - eye, axis=1)
    hidden = np.zeros(len(points), bool)
    for share in np.linspace(0, 1, 800, endpoint=False):
        at = eye + (points - eye) * (start + (1 - start) * share)[:, None]
        inside = (np.hypot(at[:, 0], at[:, 1]) - RING) ** 2 + at[:, 2] ** 2 < TUBE**2 - 1e-5
        hidden |= inside
    return hidden


# ------------------------------------------------------------ measures


def true_points(solid: Solid, camera: Any) -> np.ndarray:
    """(n, 2): the visible lines in the picture, a sample every STEP pixels or denser."""
    eye = camera.position
    samples = [_dense(line, camera) for line in solid.lines(eye)]
    points = np.concatenate(samples)
    pixels, depth = camera.project(points[~solid.hidden(points, eye)])
    inside = (depth > 0) & (pixels >= 0).all(1) & (pixels < (camera.width, camera.height)).all(1)
    found: np.ndarray = pixels[inside]
    return found


def _dense(line: np.ndarray, camera: Any) -> np.ndarray:
    if len(line) == 1:
        return line
    pixels, _ = camera.project(line)
    parts = []
    for a, b, length in zip(line[:-1], line[1:], np.linalg.norm(np.diff(pixels, axis=0), axis=1), strict=True):
        share = np.linspace(0, 1, max(2, int(np.ceil(length / STEP)) + 1))[:, None]
        parts.append(a + (b - a) * share)
    return np.concatenate(parts)


def compare(edge: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Precision: the share of edge pixels whose centre is at most NEAR from a true line. Recall: the share of pixels
    that a true line passes with an edge pixel's centre at most NEAR from where it does."""
    height, width = edge.shape
    ours = edge >= EDGE
    close = np.zeros(edge.shape, bool)
    corner = np.floor(truth).astype(int)
    reached = np.zeros(len(truth), bool)
    for dy in (-2, -1, 0, 1, 2):
        for dx in (-2, -1, 0, 1, 2):
            at = corner + np.array((dx, dy))
            near = (np.linalg.norm(at + 0.5 - truth, axis=1) <= NEAR) & (at >= 0).all(1) & (at < (width, height)).all(1)
            x, y = at[near].T
            close[y, x] = True
            reached[near] |= ours[y, x]
    passed = np.unique(corner[:, 1] * width + corner[:, 0])
    missed = np.unique((corner[:, 1] * width + corner[:, 0])[~reached])
    return float((close & ours).sum() / max(1, ours.sum())), 1 - len(missed) / max(1, len(passed))


def views(scene: bpy.types.Scene, count: int) -> Iterator[Any]:
    """Cameras around the origin."""
    places = np.random.default_rng(4).normal(size=(count, 3))
    for place in places / np.linalg.norm(places, axis=1, keepdims=True):
        passes_parts.camera(scene, tuple(6.0 * place), (0, 0, 0)).animation_data_clear()
        bpy.context.view_layer.update()
        yield cameras.from_object(scene, scene.camera, SIZE, SIZE)


def accuracy(count: int = 8) -> list[Result]:
    """Precision and recall over all solids, each seen from `count` places; the worst solid is told apart."""
    found: dict[str, list[tuple[float, float]]] = {}
    for name, solid in solids().items():
        bpy.ops.wm.read_factory_settings(use_empty=True)
        scene = bpy.context.scene
        solid.build(scene)
        with Live(scene) as live:
            found[name] = [
                compare(live.frame(camera, edges=EdgeStyle()).edge, true_points(solid, camera))
                for camera in views(scene, count)
            ]
        values = np.array(found[name])
        print(f"{name:26} precision {values[:, 0].mean():.4f} recall {values[:, 1].mean():.4f}"
              f" (worst view {values[:, 0].min():.4f} {values[:, 1].min():.4f})", flush=True)  # fmt: skip
    means = {name: np.mean(values, axis=0) for name, values in found.items()}
    return [
        Result("edge_precision", min(float(one[0]) for one in means.values()), "", at_least=0.98),
        Result("edge_recall", min(float(one[1]) for one in means.values()), "", at_least=0.98),
    ]


def flicker() -> Result:
    """Edge pixels seen in one frame only while the solids turn by 1° a frame, as a share of all edge pixels.

    An edge pixel was seen before if the previous frame has one among the 3 × 3 pixels around where the surface at it,
    or at one of its eight neighbours (a line lies between surfaces), was: p + motion(p). It is seen again if it is
    among the 3 × 3 pixels around where an edge pixel of the next frame was. One that was not seen before and is not
    seen again is a flicker. What comes from outside the picture, or leaves it, counts as seen.
    """
    single = pixels = 0
    for name, solid in solids().items():
        bpy.ops.wm.read_factory_settings(use_empty=True)
        scene = bpy.context.scene
        empty = bpy.data.objects.new("Turntable", None)
        scene.collection.objects.link(empty)
        for ob in solid.build(scene):
            ob.parent = empty
        (camera,) = views(scene, 1)
        with Live(scene) as live:
            frames = []
            for number in range(FRAMES):
                empty.rotation_euler = (0.3 * TURN * number, 0.2 * TURN * number, TURN * number)
                frame = live.frame(camera, edges=EdgeStyle())
                frames.append((frame.edge >= EDGE, frame.motion))
        one, all_ = unsteady(frames)
        print(f"{name:26} flicker {one / all_:.5f} of {all_} edge pixels", flush=True)
        single, pixels = single + one, pixels + all_
    return Result("edge_flicker", single / pixels, "", at_most=0.01)


def unsteady(frames: list[tuple[np.ndarray, np.ndarray]]) -> tuple[int, int]:
    """Edge pixels seen in one frame only, and all, of the frames between the first and the last. A frame is its edge
    pixels, bool (H, W), and its motion (H, W, 2)."""
    single = pixels = 0
    for before, now, after in zip(frames[:-2], frames[1:-1], frames[2:], strict=True):
        seen_before, _ = _traced(now, before)
        _, seen_again = _traced(after, now)
        single += int((now[0] & ~seen_before & ~seen_again).sum())
        pixels += int(now[0].sum())
    return single, pixels


def _traced(now: tuple[np.ndarray, np.ndarray], before: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """bool (H, W) each: edge pixels of `now` that `before` has, and those of `before` that `now` has."""
    (edge, motion), (edge_before, _) = now, before
    height, width = edge.shape
    around = np.zeros((height + 2, width + 2), bool)
    around[1:-1, 1:-1] = edge_before
    grown = np.max([around[y : y + height, x : x + width] for y in range(3) for x in range(3)], axis=0)
    row, column = np.nonzero(edge)
    seen, again = np.zeros(edge.shape, bool), np.zeros((height + 2, width + 2), bool)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            y, x = np.clip(row + dy, 0, height - 1), np.clip(column + dx, 0, width - 1)
            place = np.stack([column, row], 1) + 0.5 + motion[y, x]
            to = np.floor(np.nan_to_num(place, nan=-9, posinf=-9, neginf=-9)).astype(int)
            inside = (to >= 0).all(1) & (to < (width, height)).all(1)
            seen[row[~inside], column[~inside]] = True
            tx, ty = to[inside].T
            seen[row[inside], column[inside]] |= grown[ty, tx]
            for v in range(3):
                for u in range(3):
                    again[ty + v, tx + u] = True
    return seen, again[1:-1, 1:-1]
