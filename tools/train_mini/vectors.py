"""Three-component vectors as tuples of floats, compiled: the renderer's small change."""

import math

from numba import njit

Vector = tuple[float, float, float]
jit = njit(fastmath=True, cache=True, error_model="numpy")


@jit
def add(a: Vector, b: Vector) -> Vector:
    return (a[0] + b[0], a[1] + b[1], a[2] + b[2])


@jit
def sub(a: Vector, b: Vector) -> Vector:
    return (a[0] - b[0], a[1] - b[1], a[2] - b[2])


@jit
def scale(a: Vector, s: float) -> Vector:
    return (a[0] * s, a[1] * s, a[2] * s)


@jit
def times(a: Vector, b: Vector) -> Vector:
    return (a[0] * b[0], a[1] * b[1], a[2] * b[2])


@jit
def dot(a: Vector, b: Vector) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@jit
def cross(a: Vector, b: Vector) -> Vector:
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


@jit
def length(a: Vector) -> float:
    return math.sqrt(dot(a, a))


@jit
def normalize(a: Vector) -> Vector:
    return scale(a, 1.0 / (length(a) + 1e-9))


@jit
def mix(a: Vector, b: Vector, t: float) -> Vector:
    return (a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t)


@jit
def clamp(x: float, low: float, high: float) -> float:
    return min(max(x, low), high)


@jit
def smoothstep(low: float, high: float, x: float) -> float:
    t = clamp((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)
