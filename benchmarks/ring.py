"""Ground truth for the bake benchmark: a ring with a known texture and a box before it, rendered independently.

Nothing here uses the code under test: pictures come from a z-buffer of its own (4 × 4 samples a pixel), texel positions
and normals from the ring's formula.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from paintover.bridge.scene import Camera, MeshData, Passes

SIZE = 1024
"""Side of the texture, in texels."""
ISLAND = 960
"""Side of the ring's UV island in the middle of the texture, in texels: divisible by all periods."""
MAJOR, MINOR = 1.0, 0.45
SEGMENTS = (256, 128)
SAMPLES = 4
RING, BOX = 1, 2
BOX_COLOR = np.array([1.0, 0.0, 1.0], np.float32)
BACKGROUND = np.array([0.0, 1.0, 0.0], np.float32)

Colors = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Texel coordinates in the island (N,), (N,) -> colours (N, 3) in 0…1."""


def waves(finest: float) -> Colors:
    """Products of sines about 0.5, standard deviation 0.25, in three channels; the finest period in texels is given."""
    periods = [(finest, finest), (finest * 5 / 3, finest), (finest, finest * 2.5)]

    def colors(s: np.ndarray, t: np.ndarray) -> np.ndarray:
        channels = [0.5 + 0.5 * _sine(s / a + 0.1 * i) * _sine(t / b + 0.2 * i) for i, (a, b) in enumerate(periods)]
        return np.stack(channels, -1)

    return colors


def _sine(turns: np.ndarray) -> np.ndarray:
    return np.sin((2 * math.pi * turns).astype(np.float32))


def checks(s: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Hard edges: squares of 60 texels, 0.2 and 0.8."""
    odd = (np.floor(s / 60) + np.floor(t / 60)) % 2
    return np.repeat((0.2 + 0.6 * odd)[..., None], 3, -1).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Soup:
    """All triangles of the scene: corners (T, 3, 3), normals (T, 3, 3), island coordinates (T, 3, 2), ids (T,)."""

    corners: np.ndarray
    normals: np.ndarray
    island: np.ndarray
    ids: np.ndarray


def ring_point(s: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Position and normal, each (…, 3), at texel coordinates s (around the ring) and t (around its tube)."""
    a, b = 2 * math.pi * s / ISLAND, 2 * math.pi * t / ISLAND
    normal = np.stack([np.cos(a) * np.cos(b), np.sin(a) * np.cos(b), np.sin(b)], -1)
    centre = MAJOR * np.stack([np.cos(a), np.sin(a), np.zeros_like(a)], -1)
    return centre + MINOR * normal, normal


def facet_point(s: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Position (…, 3) on the mesh's own facets, which lie a little inside the ring's formula. See scene()."""
    steps = ISLAND / np.array(SEGMENTS)
    i, j = np.floor(s / steps[0]), np.floor(t / steps[1])
    across, along = (s / steps[0] - i)[..., None], (t / steps[1] - j)[..., None]
    a, b, c, d = (ring_point((i + m) * steps[0], (j + n) * steps[1])[0] for m, n in ((0, 0), (1, 0), (1, 1), (0, 1)))
    lower = a + across * (b - a) + along * (c - b)
    upper = a + along * (d - a) + across * (c - d)
    return np.where(across >= along, lower, upper)


def scene() -> tuple[MeshData, Soup]:
    """The ring as the mesh to texture, and the ring with the box as triangles to render."""
    s, t = np.meshgrid(*(np.linspace(0, ISLAND, n + 1) for n in SEGMENTS), indexing="ij")
    index = np.arange(s.size).reshape(s.shape)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    triangles = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    positions, normals = (value.reshape(-1, 3).astype(np.float32) for value in ring_point(s, t))
    island = np.stack([s, t], -1).reshape(-1, 2)
    margin = (SIZE - ISLAND) / 2
    uvs = np.stack([island[:, 0] + margin, SIZE - margin - island[:, 1]], -1) / SIZE
    mesh = MeshData(
        "Ring",
        RING,
        positions,
        triangles.astype(np.int32),
        normals[triangles],
        uvs.astype(np.float32)[triangles],
        np.zeros(len(triangles), np.int32),
    )
    corners, facing = _box(np.array([0.95, 0.1, 0.75]), 0.28)
    soup = Soup(
        np.concatenate([positions[triangles].astype(np.float64), corners]),
        np.concatenate([normals[triangles], facing]),
        np.concatenate([island[triangles], np.zeros((len(corners), 3, 2))]),
        np.repeat([RING, BOX], [len(triangles), len(corners)]).astype(np.uint16),
    )
    return mesh, soup


def _box(centre: np.ndarray, half: float) -> tuple[np.ndarray, np.ndarray]:
    corners, normals = [], []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            n, u, v = (np.roll([1.0, 0.0, 0.0], axis + i) for i in range(3))
            quad = [centre + half * (sign * n + i * u + sign * j * v) for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
            corners += [[quad[0], quad[1], quad[2]], [quad[0], quad[2], quad[3]]]
            normals += [[sign * n] * 3] * 2
    return np.array(corners), np.array(normals)


def cameras(count: int = 8, size: int = 1024) -> list[Camera]:
    """Around the ring, elevations alternating +30° and −30°, the ring filling the picture."""
    return [
        _camera(f"view {i}", 2 * math.pi * (i + 0.37) / count, math.radians(30 if i % 2 == 0 else -30), size)
        for i in range(count)
    ]


def _camera(name: str, azimuth: float, elevation: float, size: int) -> Camera:
    flat = math.cos(elevation)
    back = np.array([flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(elevation)])
    right = np.array([-math.sin(azimuth), math.cos(azimuth), 0.0])
    view = np.eye(4)
    view[:3, :3] = [right, np.cross(back, right), back]
    view[2, 3] = -4.5
    focal, near, far = 1 / math.tan(math.radians(21)), 0.1, 100.0
    projection = np.diag([focal, focal, (far + near) / (near - far), 0.0])
    projection[2, 3], projection[3, 2] = 2 * far * near / (near - far), -1.0
    return Camera(name, view, projection, size, size)


class ZBuffer:
    """What a camera sees at samples × samples points in every pixel (1: at the centre). For closed meshes."""

    def __init__(self, soup: Soup, camera: Camera, samples: int) -> None:
        self.width = camera.width * samples
        pixels, depth = camera.project(soup.corners.reshape(-1, 3))
        self._screen = pixels.reshape(-1, 3, 2) * samples
        self._depth = depth.reshape(-1, 3)
        self._slopes, area = self._plane()
        nothing = np.uint64(0xFFFFFFFFFFFFFFFF)
        # The nearest depth wins; the triangle rides in the lower bits. Positive floats sort like their bits.
        nearest = np.full(self.width * camera.height * samples, nothing)
        for triangle, pixel in self._candidates(np.flatnonzero(area < 0)):
            weights = self._weights(triangle, pixel)
            within = np.minimum(np.minimum(weights[0], weights[1]), weights[2]) >= 0
            triangle, pixel = triangle[within], pixel[within]
            depth = self._perspective(triangle, [weight[within] for weight in weights])[0]
            bits = depth.astype(np.float32).view(np.uint32).astype(np.uint64)
            np.minimum.at(nearest, pixel, bits << np.uint64(32) | triangle.astype(np.uint64))
        self.hit = np.flatnonzero(nearest != nothing)
        self.triangle = (nearest[self.hit] & np.uint64(0xFFFFFFFF)).astype(np.int64)
        self.depth, self.weights = self._perspective(self.triangle, self._weights(self.triangle, self.hit))

    def _plane(self) -> tuple[np.ndarray, np.ndarray]:
        """How corner weights 1 and 2 change with x and y, (T, 2, 2), and twice the signed area (negative: front)."""
        u, v = (self._screen[:, i] - self._screen[:, 0] for i in (1, 2))
        area = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
        second, third = np.stack([v[:, 1], -v[:, 0]], -1), np.stack([-u[:, 1], u[:, 0]], -1)
        return np.stack([second, third], 1) / np.where(area == 0, np.inf, area)[:, None, None], area

    def _candidates(self, front: np.ndarray, chunk: int = 1 << 20) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Front triangles and flat sample indices (K,) whose sample lies in the triangle's bounding box."""
        low = np.floor(self._screen[front].min(1)).astype(np.int64)
        extent = np.ceil(self._screen[front].max(1)).astype(np.int64) - low
        counts = extent.prod(1)
        for start, stop in _runs(counts, chunk):
            part = counts[start:stop]
            item = np.repeat(np.arange(start, stop), part)
            step = np.arange(len(item)) - np.repeat(np.cumsum(part) - part, part)
            down, across = np.divmod(step, extent[item, 0])
            yield front[item], (low[item, 1] + down) * self.width + low[item, 0] + across

    def _weights(self, triangle: np.ndarray, pixel: np.ndarray) -> list[np.ndarray]:
        """Screen-space weights of the three corners, each (K,), at sample centres."""
        row, column = np.divmod(pixel, self.width)
        x, y = column + 0.5 - self._screen[triangle, 0, 0], row + 0.5 - self._screen[triangle, 0, 1]
        second, third = (self._slopes[triangle, i, 0] * x + self._slopes[triangle, i, 1] * y for i in (0, 1))
        return [1 - second - third, second, third]

    def _perspective(self, triangle: np.ndarray, weights: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Depth (K,) and perspective-correct corner weights (K, 3)."""
        over = np.stack(weights, -1) / self._depth[triangle]
        depth = 1 / over.sum(1)
        return depth, over * depth[:, None]


def _runs(counts: np.ndarray, chunk: int) -> Iterator[tuple[int, int]]:
    total, start = np.cumsum(counts), 0
    while start < len(counts):
        done = total[start - 1] if start else 0
        stop = max(int(np.searchsorted(total, done + chunk, side="right")), start + 1)
        yield start, stop
        start = stop


def render_passes(soup: Soup, camera: Camera) -> Passes:
    """Depth, normal and object id at pixel centres, without anti-aliasing (the edge pass is empty: nobody reads it)."""
    seen = ZBuffer(soup, camera, 1)
    pixels = camera.width * camera.height
    depth, ids = np.full(pixels, np.inf, np.float32), np.zeros(pixels, np.uint16)
    normal = np.zeros((pixels, 3), np.float16)
    depth[seen.hit], ids[seen.hit] = seen.depth, soup.ids[seen.triangle]
    world = np.einsum("kc,kci->ki", seen.weights, soup.normals[seen.triangle])
    normal[seen.hit] = world / np.linalg.norm(world, axis=1, keepdims=True) @ camera.view[:3, :3].T
    shape = (camera.height, camera.width)
    edge = np.zeros(shape, np.uint8)
    return Passes(camera, depth.reshape(shape), normal.reshape(*shape, 3), edge, ids.reshape(shape))


def render_colors(soup: Soup, camera: Camera, textures: list[Colors]) -> tuple[list[np.ndarray], np.ndarray]:
    """Each texture's picture, float32 (H, W, 3), box-filtered from 4 × 4 samples; and the samples' depth (4 H, 4 W)."""
    seen = ZBuffer(soup, camera, SAMPLES)
    side = (camera.height * SAMPLES, camera.width * SAMPLES)
    island = np.einsum("kc,kci->ki", seen.weights, soup.island[seen.triangle])
    boxed = soup.ids[seen.triangle] == BOX
    row, column = np.divmod(seen.hit, side[1])
    pixel, pixels = row // SAMPLES * camera.width + column // SAMPLES, camera.width * camera.height
    empty = 1 - np.bincount(pixel, minlength=pixels) / SAMPLES**2
    pictures = []
    for texture in textures:
        color = np.where(boxed[:, None], BOX_COLOR, texture(island[:, 0], island[:, 1]))
        channels = [np.bincount(pixel, color[:, i], pixels) / SAMPLES**2 + empty * BACKGROUND[i] for i in range(3)]
        pictures.append(np.stack(channels, -1).astype(np.float32).reshape(camera.height, camera.width, 3))
    depth = np.full(side[0] * side[1], np.inf, np.float32)
    depth[seen.hit] = seen.depth
    return pictures, depth.reshape(side)


def texel_grid(samples: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Island coordinates s, t of samples × samples points in every texel inside, each (ISLAND · n, ISLAND · n)."""
    place = (np.arange(ISLAND * samples) + 0.5) / samples
    t, s = np.meshgrid(place, place, indexing="ij")
    return s, t


def visible_texels(views: list[tuple[Camera, np.ndarray]]) -> np.ndarray:
    """bool (ISLAND, ISLAND): texels whose centre any camera sees at 75° or less, from the ring's formula.

    `views`: cameras and their sampled depth (see render_colors).
    """
    point, normal = (value.reshape(-1, 3) for value in ring_point(*texel_grid()))
    visible = np.zeros(len(point), bool)
    for camera, sampled in views:
        pixels, depth = camera.project(point)
        toward = camera.position - point
        cosine = (normal * toward).sum(1) / np.linalg.norm(toward, axis=1)
        column, row = (pixels * SAMPLES).astype(np.int64).T
        footprint = 2 * depth / camera.projection[0, 0] / sampled.shape[1]
        slope = np.tan(np.arccos(cosine.clip(0.01, 1)))
        front = depth <= sampled[row, column] + footprint * (0.5 + slope)
        visible |= front & (cosine >= math.cos(math.radians(75)))
    return visible.reshape(ISLAND, ISLAND)
