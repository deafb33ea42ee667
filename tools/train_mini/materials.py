"""The materials that `mini` knows, each a small procedure over object space.

A material gives colour, emission, and how it shines; the pattern is made so that it can be named at a
glance at 256 pixels. The order of MATERIALS is the material's number in the passes and in the classifier.
"""

import math

import numpy as np

from .noise import cells, fractal_noise, lattice, value_noise
from .vectors import Vector, add, jit, mix, scale, smoothstep

COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.82, 0.10, 0.09),
    "green": (0.12, 0.60, 0.16),
    "blue": (0.10, 0.22, 0.80),
    "yellow": (0.96, 0.85, 0.12),
    "orange": (0.97, 0.50, 0.07),
    "purple": (0.48, 0.14, 0.66),
    "pink": (0.97, 0.52, 0.70),
    "white": (0.95, 0.95, 0.95),
    "black": (0.06, 0.06, 0.07),
    "gray": (0.50, 0.50, 0.51),
    "cyan": (0.12, 0.76, 0.78),
    "brown": (0.40, 0.24, 0.13),
}
PATTERNS = (
    "brick",
    "wood",
    "stone",
    "marble",
    "gold",
    "silver",
    "copper",
    "moss",
    "grass",
    "lava",
    "ice",
    "checkered",
    "sand",
    "water",
    "snow",
    "rust",
    "striped",
    "bark",
)
MATERIALS: tuple[str, ...] = (*COLORS, *PATTERNS)
BACKGROUND = len(MATERIALS)  # the material number of pixels that show no surface

_COLOR_TABLE = np.array(list(COLORS.values()))
_FIRST_PATTERN = len(COLORS)

# What a material procedure returns: colour, emission, highlight strength, highlight exponent, metal (0 or 1).
Surface = tuple[Vector, Vector, float, float, float]
_DARK = (0.0, 0.0, 0.0)


@jit
def _brick(p: Vector, u: float, v: float) -> Surface:
    height, width = 0.20, 0.44
    row = math.floor(v / height)
    along = u + (row % 2) * width / 2
    column = math.floor(along / width)
    x, y = along - column * width, v - row * height
    to_edge = min(min(x, width - x), min(y, height - y))
    tone = mix((0.55, 0.16, 0.10), (0.78, 0.34, 0.22), lattice(int(row), int(column), 3))
    clay = scale(tone, 0.75 + 0.5 * fractal_noise(scale(p, 9.0), 3))
    return mix((0.74, 0.71, 0.66), clay, smoothstep(0.016, 0.030, to_edge)), _DARK, 0.02, 30.0, 0.0


@jit
def _wood(p: Vector) -> Surface:
    warp = fractal_noise((p[0] * 3, p[1] * 0.75, p[2] * 3), 3)
    ring = 0.5 + 0.5 * math.sin(p[0] * 9 + warp * 14)
    grain = value_noise((p[0] * 30, p[1] * 3, p[2] * 30))
    color = mix((0.40, 0.22, 0.09), (0.76, 0.52, 0.28), smoothstep(0.05, 0.9, ring))
    return scale(color, 0.88 + 0.24 * grain), _DARK, 0.08, 15.0, 0.0


@jit
def _stone(p: Vector) -> Surface:
    first, second, name = cells(scale(p, 3.4))
    gray = (0.38 + 0.28 * name) * (0.7 + 0.6 * fractal_noise(scale(p, 8.0), 3))
    joint = smoothstep(0.02, 0.14, second - first)
    return mix((0.14, 0.13, 0.12), (gray, gray * 0.98, gray * 0.94), joint), _DARK, 0.03, 30.0, 0.0


@jit
def _marble(p: Vector) -> Surface:
    warp = fractal_noise(scale(p, 2.2), 4)
    vein = abs(math.sin(2.6 * p[0] + 2.1 * p[1] + 1.7 * p[2] + 9 * warp))
    color = mix((0.33, 0.34, 0.37), (0.93, 0.92, 0.90), smoothstep(0.0, 0.35, vein))
    return scale(color, 0.92 + 0.12 * fractal_noise(scale(p, 5.0), 2)), _DARK, 0.35, 60.0, 0.0


@jit
def _moss(p: Vector) -> Surface:
    tuft = smoothstep(0.25, 0.75, fractal_noise(scale(p, 7.0), 4))
    bare = 0.6 * smoothstep(0.55, 0.75, fractal_noise(scale(p, 2.0), 2))
    color = mix(mix((0.10, 0.17, 0.04), (0.46, 0.58, 0.14), tuft), (0.30, 0.27, 0.16), bare)
    return color, _DARK, 0.0, 30.0, 0.0


@jit
def _grass(p: Vector, u: float, v: float, seed: float) -> Surface:
    blade = value_noise((u * 34, v * 9, seed * 9))
    patch = fractal_noise(scale(p, 3.0), 2)
    return mix((0.08, 0.34, 0.05), (0.52, 0.86, 0.20), 0.7 * blade + 0.3 * patch), _DARK, 0.0, 30.0, 0.0


@jit
def _lava(p: Vector) -> Surface:
    q = scale(p, 3.0)
    bend = (fractal_noise(q, 2) * 0.35, fractal_noise(add(q, (9.0, 9.0, 9.0)), 2) * 0.35, 0.0)
    first, second, _ = cells(scale(add(p, bend), 2.6))
    glow = 1 - smoothstep(0.02, 0.22, second - first)
    crust = scale((0.16, 0.10, 0.09), 0.6 + 0.8 * fractal_noise(scale(p, 9.0), 2))
    light = scale(mix((0.95, 0.22, 0.02), (1.0, 0.80, 0.20), glow * glow), glow)
    return crust, light, 0.02, 30.0, 0.0


@jit
def _ice(p: Vector) -> Surface:
    cloud = smoothstep(0.3, 0.7, fractal_noise(scale(p, 3.0), 3))
    ridge = abs(2 * fractal_noise(add(scale(p, 2.6), (5.0, 1.0, 9.0)), 3) - 1)
    crack = 0.85 * (1 - smoothstep(0.0, 0.07, ridge))
    color = mix(mix((0.50, 0.76, 0.93), (0.84, 0.95, 1.0), cloud), (1.0, 1.0, 1.0), crack)
    return color, _DARK, 0.6, 70.0, 0.0


@jit
def _checkered(p: Vector) -> Surface:
    side = 0.26
    # The shift keeps a face that lies exactly on a cell border from flickering between black and white.
    q = add(scale(p, 1 / side), (0.003, 0.003, 0.003))
    tone = 0.92 if (math.floor(q[0]) + math.floor(q[1]) + math.floor(q[2])) % 2 else 0.07
    return (tone, tone, tone), _DARK, 0.25, 30.0, 0.0


@jit
def _sand(p: Vector, u: float, v: float) -> Surface:
    ripple = math.sin(26 * v + 6 * u + 9 * fractal_noise(scale(p, 2.5), 3))
    grain = value_noise(scale(p, 40.0))
    return scale((0.88, 0.75, 0.50), 0.81 + 0.11 * ripple + 0.10 * grain), _DARK, 0.0, 30.0, 0.0


@jit
def _water(p: Vector) -> Surface:
    q = scale(p, 3.0)
    bend = (value_noise(q), value_noise(add(q, (7.0, 7.0, 7.0))), value_noise(add(q, (3.0, 1.0, 8.0))))
    first, second, _ = cells(scale(add(p, scale(bend, 0.25)), 3.3))
    caustic = 1 - smoothstep(0.0, 0.28, second - first)
    color = mix((0.03, 0.24, 0.48), (0.50, 0.86, 0.93), 0.85 * caustic * caustic + 0.12 * first)
    return color, _DARK, 0.6, 60.0, 0.0


@jit
def _snow(p: Vector) -> Surface:
    drift = smoothstep(0.3, 0.65, fractal_noise(scale(p, 5.0), 3))
    return mix((0.80, 0.86, 0.95), (1.0, 1.0, 1.0), drift), _DARK, 0.05, 30.0, 0.0


@jit
def _rust(p: Vector) -> Surface:
    eaten = smoothstep(0.40, 0.52, fractal_noise(scale(p, 3.2), 4))
    flake = mix((0.42, 0.17, 0.06), (0.80, 0.42, 0.14), fractal_noise(scale(p, 9.0), 2))
    return mix((0.34, 0.33, 0.34), flake, eaten), _DARK, 0.08, 30.0, 0.0


@jit
def _striped(v: float) -> Surface:
    phase = v / 0.36 - math.floor(v / 0.36)
    red = smoothstep(0.0, 0.04, phase) * (1 - smoothstep(0.50, 0.54, phase))
    return mix((0.95, 0.94, 0.92), (0.80, 0.10, 0.12), red), _DARK, 0.2, 30.0, 0.0


@jit
def _bark(p: Vector, u: float, v: float, seed: float) -> Surface:
    furrow = abs(2 * fractal_noise((u * 7, v * 1.6, seed * 5), 3) - 1)
    color = mix((0.13, 0.08, 0.05), (0.50, 0.36, 0.23), smoothstep(0.0, 0.45, furrow))
    return scale(color, 0.85 + 0.3 * value_noise(scale(p, 25.0))), _DARK, 0.0, 30.0, 0.0


@jit
def surface(material: int, p: Vector, normal: Vector, seed: float) -> Surface:
    """The material at point p (object space, patterns about a unit wide) with the surface normal there."""
    p = add(p, (13.7 * seed + 3, 7.3 * seed + 11, 3.1 * seed + 5))
    if material < _FIRST_PATTERN:
        shift = (lattice(int(seed * 1000), material, 7) - 0.5) * 0.10
        color = (
            _COLOR_TABLE[material, 0] + shift,
            _COLOR_TABLE[material, 1] + shift,
            _COLOR_TABLE[material, 2] + shift,
        )
        return color, _DARK, 0.3, 40.0, 0.0
    # Flat patterns are laid on the side of a box that the normal looks out of.
    ax, ay, az = abs(normal[0]), abs(normal[1]), abs(normal[2])
    u, v = (p[0], p[2]) if ay > ax and ay > az else ((p[2], p[1]) if ax > az else (p[0], p[1]))
    pattern = material - _FIRST_PATTERN
    if pattern == 0:
        return _brick(p, u, v)
    if pattern == 1:
        return _wood(p)
    if pattern == 2:
        return _stone(p)
    if pattern == 3:
        return _marble(p)
    if pattern == 4:
        return (1.0, 0.76, 0.20), _DARK, 0.8, 40.0, 1.0
    if pattern == 5:
        return (0.90, 0.92, 0.95), _DARK, 0.8, 40.0, 1.0
    if pattern == 6:
        return (0.95, 0.50, 0.30), _DARK, 0.8, 40.0, 1.0
    if pattern == 7:
        return _moss(p)
    if pattern == 8:
        return _grass(p, u, v, seed)
    if pattern == 9:
        return _lava(p)
    if pattern == 10:
        return _ice(p)
    if pattern == 11:
        return _checkered(p)
    if pattern == 12:
        return _sand(p, u, v)
    if pattern == 13:
        return _water(p)
    if pattern == 14:
        return _snow(p)
    if pattern == 15:
        return _rust(p)
    if pattern == 16:
        return _striped(v)
    return _bark(p, u, v, seed)
