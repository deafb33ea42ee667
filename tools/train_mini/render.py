"""Renders scenes of simple shapes, with exact passes: colour, depth, camera normal, edge, material.

One thread an image; about 15 images of 256 x 256 a second and core.
"""

import math

import numpy as np
from numba import njit, prange

from .materials import BACKGROUND, surface
from .shapes import MATERIAL, PATTERN_SCALE, SEED, move_in, normal_at, shadow, trace, turn_out
from .vectors import (
    Vector,
    add,
    clamp,
    cross,
    dot,
    jit,
    mix,
    normalize,
    scale,
    smoothstep,
    sub,
    times,
)

# Columns of a scene's view row.
EYE, TARGET, TAN_HALF, LIGHT, AMBIENT, TOP, BOTTOM, FLOOR, FLOOR_MATERIAL, FLOOR_SEED, FLOOR_SCALE = (
    0,
    3,
    6,
    7,
    10,
    11,
    14,
    17,
    18,
    19,
    20,
)
VIEW_COLUMNS = 21

NOTHING, GROUND = -1, 1000  # what a ray met, beside the shapes' indices
FAR = 40.0


@jit
def _three(row: np.ndarray, at: int) -> Vector:
    return (row[at], row[at + 1], row[at + 2])


@jit
def _surroundings(ray: Vector) -> Vector:
    """What a metal mirrors: a bright softbox sky over a darker ground, uneven enough to show the shape."""
    if ray[1] > 0:
        sky = mix((1.0, 1.0, 1.0), (0.62, 0.66, 0.72), smoothstep(0.0, 0.7, ray[1]))
    else:
        sky = mix((0.60, 0.57, 0.54), (0.20, 0.18, 0.17), smoothstep(0.0, 0.8, -ray[1]))
    return scale(sky, 0.88 + 0.18 * math.sin(2 * math.atan2(ray[2], ray[0]) + 1))


@jit
def _light(material: tuple, view: np.ndarray, ray: Vector, normal: Vector, lit: float) -> Vector:
    """Colour of a surface: diffuse with a highlight, or a tinted mirror for metals."""
    color, emission, highlight, exponent, metal = material
    to_light = _three(view, LIGHT)
    diffuse = max(dot(normal, to_light), 0.0) * lit
    half = normalize(sub(to_light, ray))
    shine = max(dot(normal, half), 0.0) ** exponent * highlight * lit if diffuse > 0 else 0.0
    if metal > 0:
        mirrored = _surroundings(sub(ray, scale(normal, 2 * dot(ray, normal))))
        out = scale(times(color, mirrored), 0.62 + 0.38 * lit)
        out = add(scale(out, 0.80), scale(color, 0.10 + 0.18 * diffuse))
        out = add(out, scale((1.0, 0.97, 0.85), 0.5 * shine))
    else:
        ambient = view[AMBIENT] + 0.14 * normal[1]
        out = add(scale(color, ambient + 0.72 * diffuse), (shine, shine, shine))
    return (max(out[0], emission[0]), max(out[1], emission[1]), max(out[2], emission[2]))


@jit
def _look(view: np.ndarray, shapes: np.ndarray, count: int, ray: Vector, back: Vector) -> tuple:
    """Follow one ray: colour, distance (0 if nothing), world normal, what was met, material number."""
    eye = _three(view, EYE)
    limit, met = FAR, NOTHING
    if view[FLOOR] > 0 and ray[1] < -1e-3 and -eye[1] / ray[1] < FAR:
        limit, met = -eye[1] / ray[1], GROUND
    t, index = trace(shapes, count, eye, ray, limit)
    if index < 0 and met == NOTHING:
        return back, 0.0, (0.0, 0.0, 0.0), NOTHING, BACKGROUND
    point = add(eye, scale(ray, t))
    if index >= 0:
        met = index
        local = move_in(shapes[index], point)
        local_normal = normal_at(shapes[index], local)
        normal = turn_out(shapes[index], local_normal)
        number = int(shapes[index, MATERIAL])
        material = surface(number, scale(local, 1 / shapes[index, PATTERN_SCALE]), local_normal, shapes[index, SEED])
    else:
        normal = (0.0, 1.0, 0.0)
        number = int(view[FLOOR_MATERIAL])
        material = surface(number, scale(point, 1 / view[FLOOR_SCALE]), normal, view[FLOOR_SEED])
    lit = shadow(shapes, count, add(point, scale(normal, 0.012)), _three(view, LIGHT))
    color = _light(material, view, ray, normal, lit)
    if met == GROUND:  # a far floor melts into the background instead of flickering
        color = mix(color, back, smoothstep(9.0, 22.0, t))
    return color, t, normal, met, number


@jit
def _edge(ids: np.ndarray, normals: np.ndarray, depths: np.ndarray, y: int, x: int, y2: int, x2: int) -> bool:
    """Whether a line runs between two neighbouring pixels: another object, a crease, or a jump in depth."""
    if ids[y, x] != ids[y2, x2]:
        return True
    if ids[y, x] == NOTHING or ids[y, x] == GROUND:
        return False
    bend = (
        normals[y, x, 0] * normals[y2, x2, 0]
        + normals[y, x, 1] * normals[y2, x2, 1]
        + normals[y, x, 2] * normals[y2, x2, 2]
    )
    jump = abs(depths[y, x] - depths[y2, x2])
    return bend < 0.8 or jump > 0.05 * min(depths[y, x], depths[y2, x2])


@jit
def _render_one(
    view: np.ndarray,
    shapes: np.ndarray,
    count: int,
    rgb: np.ndarray,
    depth: np.ndarray,
    normal: np.ndarray,
    edge: np.ndarray,
    material: np.ndarray,
) -> None:
    side = rgb.shape[0]
    eye = _three(view, EYE)
    forward = normalize(sub(_three(view, TARGET), eye))
    right = normalize(cross(forward, (0.0, 1.0, 0.0)))
    up = cross(right, forward)
    ids = np.empty((side, side), np.int32)
    for y in range(side):
        back = mix(_three(view, TOP), _three(view, BOTTOM), y / side)
        for x in range(side):
            total = (0.0, 0.0, 0.0)
            for sample in range(4):
                px = ((x + 0.25 + 0.5 * (sample % 2)) / side * 2 - 1) * view[TAN_HALF]
                py = (1 - (y + 0.25 + 0.5 * (sample // 2)) / side * 2) * view[TAN_HALF]
                ray = normalize(add(forward, add(scale(right, px), scale(up, py))))
                color, t, n, met, number = _look(view, shapes, count, ray, back)
                total = add(total, (clamp(color[0], 0.0, 1.0), clamp(color[1], 0.0, 1.0), clamp(color[2], 0.0, 1.0)))
                if sample == 0:  # passes are not averaged: a mean of two depths is no surface
                    ids[y, x], material[y, x] = met, number
                    depth[y, x] = t * dot(ray, forward)
                    normal[y, x, 0], normal[y, x, 1], normal[y, x, 2] = (
                        dot(n, right),
                        dot(n, up),
                        -dot(n, forward),
                    )
            for c in range(3):
                rgb[y, x, c] = np.uint8(total[c] * 0.25 * 255 + 0.5)
    for y in range(side):
        for x in range(side):
            line = (x + 1 < side and _edge(ids, normal, depth, y, x, y, x + 1)) or (
                y + 1 < side and _edge(ids, normal, depth, y, x, y + 1, x)
            )
            edge[y, x] = 255 if line else 0


@njit(parallel=True, cache=True)
def _render_all(views, shapes, counts, rgb, depth, normal, edge, material):
    for i in prange(len(views)):
        _render_one(views[i], shapes[i], counts[i], rgb[i], depth[i], normal[i], edge[i], material[i])


def render(views: np.ndarray, shapes: np.ndarray, counts: np.ndarray, side: int = 256) -> dict[str, np.ndarray]:
    """Render n scenes: views (n, VIEW_COLUMNS), shapes (n, most, COLUMNS), counts (n,).

    Returns rgb (n, side, side, 3) uint8 sRGB; depth (n, side, side) float32 along the camera axis, +inf on
    background; normal (n, side, side, 3) float32, x right, y up, z toward the camera, 0 on background;
    edge (n, side, side) uint8, 0 or 255; material (n, side, side) uint8, BACKGROUND where nothing is hit.
    """
    n = len(views)
    out = {
        "rgb": np.empty((n, side, side, 3), np.uint8),
        "depth": np.empty((n, side, side), np.float32),
        "normal": np.empty((n, side, side, 3), np.float32),
        "edge": np.empty((n, side, side), np.uint8),
        "material": np.empty((n, side, side), np.uint8),
    }
    _render_all(views, shapes, counts, *out.values())
    out["depth"][out["depth"] == 0] = np.inf  # here, as fastmath must not see infinities
    return out
