"""Random scenes: a few simple shapes, what they are made of, and a camera that lets them fill the picture."""

from dataclasses import asdict, dataclass

import numpy as np

from . import render, shapes
from .materials import MATERIALS

PLAIN, FLOOR, TWO = "plain", "floor", "two"  # kinds of scenes, from easy to hard to learn
ARRANGEMENTS = ("loose", "pile", "wall")
BACKGROUNDS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {  # top and bottom colour
    "white": ((0.97, 0.97, 0.97), (0.90, 0.90, 0.90)),
    "gray": ((0.62, 0.62, 0.63), (0.50, 0.50, 0.51)),
    "black": ((0.05, 0.05, 0.06), (0.03, 0.03, 0.03)),
    "sky": ((0.35, 0.60, 0.92), (0.80, 0.90, 0.98)),
}
_MOST_SHAPES = 8


@dataclass(frozen=True)
class Content:
    """What a picture shows, in the terms that captions are made of. Materials are numbers, -1 for none."""

    material: int
    second: int
    floor: int
    background: str
    shape: str  # the first object's; "" if several or a wall
    second_shape: str
    arrangement: str
    count: int

    def as_dict(self) -> dict:
        return asdict(self)


def _turn(rng: np.random.Generator, upright: bool) -> np.ndarray:
    """A random rotation (3, 3), about the vertical axis only if upright."""
    if upright:
        c, s = np.cos(angle := rng.uniform(0, 2 * np.pi)), np.sin(angle)
        return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else -q


def _shape_row(
    rng: np.random.Generator,
    kind: int,
    size: np.ndarray,
    center: np.ndarray,
    turn: np.ndarray,
    material: int,
    seed: float,
    pattern_scale: float,
) -> np.ndarray:
    row = np.zeros(shapes.COLUMNS)
    row[shapes.KIND], row[shapes.MATERIAL], row[shapes.SEED] = kind, material, seed
    row[shapes.CENTER : shapes.CENTER + 3] = center
    row[shapes.ROTATION : shapes.ROTATION + 9] = turn.ravel()
    row[shapes.SIZE : shapes.SIZE + 3] = size
    row[shapes.PATTERN_SCALE] = pattern_scale
    row[shapes.RADIUS] = shapes.bounding_radius(kind, size)
    return row


_BASE_SIZES = np.array([(0.60, 0, 0), (0.5, 0.5, 0.5), (0.42, 0.55, 0), (0.55, 0.6, 0), (0.5, 0.2, 0), (0.34, 0.42, 0)])


def _objects(rng: np.random.Generator, arrangement: str, count: int, on_floor: bool) -> list[tuple]:
    """(kind, size, center, turn) of each shape. A pile stands on itself; loose ones stand or float apart."""
    if arrangement == "wall":
        size = np.array([rng.uniform(2.5, 4), rng.uniform(2.0, 3), 0.2])
        return [(shapes.CUBE, size, np.array([0.0, size[1], 0.0]), _turn(rng, True))]
    out, centers, top = [], [], 0.0
    for _ in range(count):
        kind = int(rng.integers(6))
        size = _BASE_SIZES[kind] * rng.uniform(0.75, 1.3) * rng.uniform(0.8, 1.25, size=3)
        upright = arrangement == "pile" or rng.random() < 0.6
        turn = _turn(rng, upright)
        radius = shapes.bounding_radius(kind, size)
        half = size[1] if kind in (shapes.CUBE, shapes.CYLINDER, shapes.CONE, shapes.TORUS) else radius
        if kind == shapes.CAPSULE:
            half = size[0] + size[1]
        half = half if upright else radius
        if arrangement == "pile":
            center = np.array([rng.normal() * 0.12, top + half * 0.98, rng.normal() * 0.12])
            top += 2 * half * 0.96
            if kind in (shapes.CONE, shapes.SPHERE, shapes.CAPSULE):
                top -= 0.2 * half  # the next one sinks in a little
        else:
            spread = 0.25 if count == 1 else 0.55 + 0.2 * count
            for _ in range(20):
                center = np.array([rng.uniform(-spread, spread), 0, rng.uniform(-spread, spread)])
                if all(np.hypot(*(center - other)[[0, 2]]) > 0.8 for other in centers):
                    break
            centers.append(center)
            lift = 0.0 if on_floor and rng.random() < 0.8 else rng.uniform(0, 0.7) * (count > 1)
            center = center + np.array([0, half + lift, 0])
        out.append((kind, size, center, turn))
    return out


def _camera(rng: np.random.Generator, view: np.ndarray, rows: list[np.ndarray], arrangement: str, floor: bool) -> None:
    """Place the eye so that the objects fill about the picture's height, seen from a little above."""
    low = np.min([row[shapes.CENTER : shapes.CENTER + 3] - row[shapes.RADIUS] for row in rows], 0)
    high = np.max([row[shapes.CENTER : shapes.CENTER + 3] + row[shapes.RADIUS] for row in rows], 0)
    middle = (low + high) / 2
    radius = np.linalg.norm(high - low) / 2 / 1.5  # the box's ball is too generous
    tan_half = np.tan(np.radians(rng.uniform(14, 26)))
    elevation = np.radians(rng.uniform(8, 45) if floor or rng.random() < 0.7 else rng.uniform(-40, 70))
    azimuth = rng.uniform(0, 2 * np.pi)
    if arrangement == "wall":  # from the front, near enough that it fills most of the picture
        turn = rows[0][shapes.ROTATION : shapes.ROTATION + 9].reshape(3, 3)
        facing = turn[:, 2] * np.sign(rng.normal())
        azimuth = np.arctan2(facing[2], facing[0]) + np.radians(rng.uniform(-45, 45))
        elevation = np.radians(rng.uniform(2, 25))
        radius, tan_half = rng.uniform(0.9, 1.6), np.tan(np.radians(18))
        middle = middle + np.array([0, rng.uniform(-0.6, 0.3), 0])
    fill = rng.uniform(0.65, 1.25) if not floor else rng.uniform(0.6, 1.05)
    away = max(radius / (tan_half * fill), 0.8 * radius + 0.7)
    direction = np.array([np.cos(elevation) * np.cos(azimuth), np.sin(elevation), np.cos(elevation) * np.sin(azimuth)])
    target = middle + rng.uniform(-0.18, 0.18, size=3) * radius
    eye = target + away * direction
    if floor:
        eye[1] = max(eye[1], 0.25)
    view[render.EYE : render.EYE + 3], view[render.TARGET : render.TARGET + 3] = eye, target
    view[render.TAN_HALF] = tan_half
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, [0, 1, 0])
    right /= np.linalg.norm(right)
    # The sun stands behind the viewer's shoulder, left or right: what is seen is lit, with shading.
    light = -0.6 * forward + rng.choice([-0.6, 0.6]) * right + [0, 0.85, 0] + rng.normal(size=3) * 0.12
    view[render.LIGHT : render.LIGHT + 3] = light / np.linalg.norm(light)


def scene(
    rng: np.random.Generator, kind: str, material: int | None = None
) -> tuple[np.ndarray, np.ndarray, int, Content]:
    """A random scene: its view row, shape rows (8, COLUMNS), number of shapes, and content."""
    first = int(rng.integers(len(MATERIALS))) if material is None else material
    others = [m for m in range(len(MATERIALS)) if m != first]
    arrangement = str(rng.choice(ARRANGEMENTS, p=(0.62, 0.26, 0.12) if kind == PLAIN else (0.7, 0.3, 0.0)))
    count = 1 if arrangement == "wall" else int(rng.choice([1, 2, 3, 4, 6], p=[0.36, 0.26, 0.2, 0.12, 0.06]))
    if (kind == TWO or arrangement == "pile") and count < 2:
        count = 2
    on_floor = kind == FLOOR or (kind == TWO and rng.random() < 0.5)
    second = int(rng.choice(others)) if kind == TWO else -1
    floor = int(rng.choice([m for m in others if m != second])) if on_floor else -1
    background = str(rng.choice(list(BACKGROUNDS)))
    found = _objects(rng, arrangement, count, on_floor)
    # Patterns keep about their size in the picture: bigger groups get bigger patterns.
    extent = np.ptp([c for _, _, c, _ in found], axis=0).max() + 1.1
    pattern_scale = float(np.clip(extent / 1.6, 0.75, 1.8)) if arrangement != "wall" else 1.1
    rows, seed = [], rng.random()
    for i, (shape, size, center, turn) in enumerate(found):
        made_of = first if second < 0 or i % 2 == 0 else second
        rows.append(
            _shape_row(
                rng,
                shape,
                size,
                center,
                turn,
                made_of,
                (seed + 0.37 * i) % 1,
                pattern_scale * rng.uniform(0.9, 1.15),
            )
        )
    view = np.zeros(render.VIEW_COLUMNS)
    top, bottom = BACKGROUNDS[background]
    view[render.TOP : render.TOP + 3], view[render.BOTTOM : render.BOTTOM + 3] = top, bottom
    view[render.AMBIENT] = rng.uniform(0.34, 0.46)
    view[render.FLOOR], view[render.FLOOR_MATERIAL] = on_floor, max(floor, 0)
    view[render.FLOOR_SEED], view[render.FLOOR_SCALE] = rng.random(), pattern_scale
    _camera(rng, view, rows, arrangement, on_floor)
    table = np.zeros((_MOST_SHAPES, shapes.COLUMNS))
    table[: len(rows)] = rows
    kinds = [shapes.SHAPES[k] for k, *_ in found]
    content = Content(
        first,
        second,
        floor,
        background,
        kinds[0] if len(kinds) == 1 or second >= 0 else "",
        kinds[1] if second >= 0 else "",
        arrangement,
        count,
    )
    return view, table, len(rows), content


def scenes(
    seeds: list[int], kinds: list[str], material: list[int] | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[Content]]:
    """One scene a seed, stacked for `render`: the same seed, kind and material give the same scene."""
    made = [
        scene(np.random.default_rng(seed), kind, None if material is None else material[i])
        for i, (seed, kind) in enumerate(zip(seeds, kinds, strict=True))
    ]
    views, tables, counts, contents = zip(*made, strict=True)
    return np.stack(views), np.stack(tables), np.array(counts), list(contents)
