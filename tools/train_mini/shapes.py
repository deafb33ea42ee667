"""Simple shapes as signed distance functions, and finding where a ray meets them by sphere tracing.

The distance functions are the well-known ones (Quilez, "Distance functions"), the tracing is Hart's (1996).
A shape is one row of numbers, see the columns below; sizes are (a, b, c) as each shape means them.
"""

import math

import numpy as np

from .vectors import Vector, add, clamp, dot, jit, length, normalize, scale, sub

SHAPES = ("sphere", "cube", "cylinder", "cone", "torus", "capsule")
SPHERE, CUBE, CYLINDER, CONE, TORUS, CAPSULE = range(6)

# Columns of a shape's row.
KIND, CENTER, ROTATION, SIZE, MATERIAL, SEED, PATTERN_SCALE, RADIUS = 0, 1, 4, 13, 16, 17, 18, 19
COLUMNS = 20


def bounding_radius(kind: int, size: np.ndarray) -> float:
    """Radius of the sphere around the shape's centre that holds all of it."""
    a, b, c = size
    return (a, math.sqrt(a * a + b * b + c * c), math.hypot(a, b), math.hypot(a, b), a + b, a + b)[kind]


@jit
def distance(shape: np.ndarray, p: Vector) -> float:
    """Signed distance from p (in the shape's own space) to its surface."""
    kind, a, b, c = int(shape[KIND]), shape[SIZE], shape[SIZE + 1], shape[SIZE + 2]
    if kind == SPHERE:  # radius a
        return length(p) - a
    if kind == CUBE:  # half sides a, b, c
        x, y, z = abs(p[0]) - a, abs(p[1]) - b, abs(p[2]) - c
        return length((max(x, 0.0), max(y, 0.0), max(z, 0.0))) + min(max(x, max(y, z)), 0.0)
    across = math.sqrt(p[0] * p[0] + p[2] * p[2])
    if kind == CYLINDER:  # radius a, half height b
        x, y = across - a, abs(p[1]) - b
        return min(max(x, y), 0.0) + math.sqrt(max(x, 0.0) ** 2 + max(y, 0.0) ** 2)
    if kind == CONE:  # base radius a, half height b; a lower bound, which tracing needs
        height = 2 * b
        return max((across * height + (p[1] - b) * a) / math.sqrt(a * a + height * height), -(p[1] + b))
    if kind == TORUS:  # ring radius a, tube radius b
        return math.sqrt((across - a) ** 2 + p[1] * p[1]) - b
    y = p[1] - clamp(p[1], -b, b)  # capsule: radius a, half length b
    return math.sqrt(across * across + y * y) - a


@jit
def normal_at(shape: np.ndarray, p: Vector) -> Vector:
    """Outward normal at p, in the shape's own space, by forward differences."""
    step, here = 1e-3, distance(shape, p)
    return normalize(
        (
            distance(shape, (p[0] + step, p[1], p[2])) - here,
            distance(shape, (p[0], p[1] + step, p[2])) - here,
            distance(shape, (p[0], p[1], p[2] + step)) - here,
        )
    )


@jit
def turn_in(shape: np.ndarray, v: Vector) -> Vector:
    """A world direction in the shape's own axes."""
    r = shape[ROTATION : ROTATION + 9]
    return (
        r[0] * v[0] + r[3] * v[1] + r[6] * v[2],
        r[1] * v[0] + r[4] * v[1] + r[7] * v[2],
        r[2] * v[0] + r[5] * v[1] + r[8] * v[2],
    )


@jit
def turn_out(shape: np.ndarray, v: Vector) -> Vector:
    """A direction in the shape's own axes, in the world's."""
    r = shape[ROTATION : ROTATION + 9]
    return (
        r[0] * v[0] + r[1] * v[1] + r[2] * v[2],
        r[3] * v[0] + r[4] * v[1] + r[5] * v[2],
        r[6] * v[0] + r[7] * v[1] + r[8] * v[2],
    )


@jit
def move_in(shape: np.ndarray, p: Vector) -> Vector:
    """A world point in the shape's own space."""
    return turn_in(shape, sub(p, (shape[CENTER], shape[CENTER + 1], shape[CENTER + 2])))


@jit
def _through_bounds(shape: np.ndarray, origin: Vector, ray: Vector, grow: float) -> tuple[float, float]:
    """Where the ray enters and leaves the shape's bounding sphere; (1, 0) if it misses."""
    to = sub(origin, (shape[CENTER], shape[CENTER + 1], shape[CENTER + 2]))
    radius = shape[RADIUS] * grow + 0.01
    along = dot(to, ray)
    inside = along * along - dot(to, to) + radius * radius
    if inside < 0:
        return 1.0, 0.0
    root = math.sqrt(inside)
    return max(-along - root, 0.0), -along + root


@jit
def trace(shapes: np.ndarray, count: int, origin: Vector, ray: Vector, limit: float) -> tuple[float, int]:
    """The nearest hit before `limit`: its distance and the shape's index, or (limit, -1)."""
    best, found = limit, -1
    for i in range(count):
        t, leave = _through_bounds(shapes[i], origin, ray, 1.0)
        start, direction = move_in(shapes[i], origin), turn_in(shapes[i], ray)
        for _ in range(64):
            if t > leave or t > best:
                break
            gap = distance(shapes[i], add(start, scale(direction, t)))
            if gap < 8e-4:
                best, found = t, i
                break
            t += gap
    return best, found


@jit
def shadow(shapes: np.ndarray, count: int, origin: Vector, to_light: Vector) -> float:
    """How much of the light arrives, 0..1, with a soft edge (Quilez, "Soft shadows")."""
    light = 1.0
    for i in range(count):
        t, leave = _through_bounds(shapes[i], origin, to_light, 1.25)
        t = max(t, 0.02)
        start, direction = move_in(shapes[i], origin), turn_in(shapes[i], to_light)
        for _ in range(24):
            if t > leave:
                break
            gap = distance(shapes[i], add(start, scale(direction, t)))
            light = min(light, 7 * gap / t)
            if gap < 1e-3:
                return 0.0
            t += max(gap, 0.02)
    return clamp(light, 0.0, 1.0)
