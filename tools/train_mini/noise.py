"""Procedural noise over space: hashed lattice values, their fractal sum, and cellular noise (Worley 1996)."""

import math

from .vectors import Vector, jit


@jit
def lattice(x: int, y: int, z: int) -> float:
    """A number in 0..1 that looks random but belongs to the lattice point (an integer avalanche hash)."""
    h = (x * 0x1B873593 + y * 0x2C1B3C6D + z * 0x165667B1) & 0xFFFFFFFF
    h = ((h ^ (h >> 15)) * 0x2C1B3C6D) & 0xFFFFFFFF
    h = ((h ^ (h >> 12)) * 0x297A2D39) & 0xFFFFFFFF
    return ((h ^ (h >> 15)) & 0xFFFFFF) / 16777216.0


@jit
def value_noise(p: Vector) -> float:
    """Smoothly interpolated lattice values, 0..1, one feature a unit."""
    x, y, z = math.floor(p[0]), math.floor(p[1]), math.floor(p[2])
    u, v, w = p[0] - x, p[1] - y, p[2] - z
    u, v, w = u * u * (3 - 2 * u), v * v * (3 - 2 * v), w * w * (3 - 2 * w)
    i, j, k = int(x), int(y), int(z)
    total = 0.0
    for c in range(2):
        for b in range(2):
            weight = (v if b else 1 - v) * (w if c else 1 - w)
            left = lattice(i, j + b, k + c)
            total += weight * (left + u * (lattice(i + 1, j + b, k + c) - left))
    return total


@jit
def fractal_noise(p: Vector, octaves: int) -> float:
    """Value noise summed over octaves of half the size and strength each, 0..1."""
    total, weight, strength = 0.0, 0.0, 0.5
    for _ in range(octaves):
        total += strength * value_noise(p)
        weight += strength
        strength *= 0.5
        p = (p[0] * 2.03 + 17.1, p[1] * 2.03 + 9.2, p[2] * 2.03 + 3.7)
    return total / weight


@jit
def cells(p: Vector) -> tuple[float, float, float]:
    """Worley noise: distances to the nearest and second nearest point, and the nearest's number 0..1."""
    i, j, k = math.floor(p[0]), math.floor(p[1]), math.floor(p[2])
    first, second, name = 9.0, 9.0, 0.0
    for a in range(i - 1, i + 2):
        for b in range(j - 1, j + 2):
            for c in range(k - 1, k + 2):
                dx = a + 0.1 + 0.8 * lattice(a, b, c) - p[0]
                dy = b + 0.1 + 0.8 * lattice(a + 57, b + 11, c) - p[1]
                dz = c + 0.1 + 0.8 * lattice(a + 5, b, c + 91) - p[2]
                d = dx * dx + dy * dy + dz * dz
                if d < first:
                    first, second, name = d, first, lattice(a + 7, b + 3, c + 1)
                elif d < second:
                    second = d
    return math.sqrt(first), math.sqrt(second), name
