"""An analytic scene for projection tests: rectangles, ray-cast exactly; perspective, ortho and shifted cameras."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from paintover.bridge.scene import Camera, MeshData, Passes


@dataclass(frozen=True, eq=False)
class Quad:
    """The points corner + a · across + b · along for a, b in 0…1; across and along are perpendicular."""

    corner: tuple[float, float, float]
    across: tuple[float, float, float]
    along: tuple[float, float, float]
    object_id: int = 1

    def points(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        corner, across, along = (np.array(v) for v in (self.corner, self.across, self.along))
        return corner + a[..., None] * across + b[..., None] * along

    @property
    def normal(self) -> np.ndarray:
        normal = np.cross(self.across, self.along)
        return normal / np.linalg.norm(normal)


def camera(
    size: int = 128, *, ortho: bool = False, shift: float = 0.0, at: tuple[float, float, float] = (0.0, 0.0, 4.0)
) -> Camera:
    """At `at`, looking down −z: 2 units high at a distance of 4."""
    view = np.eye(4)
    view[:3, 3] = -np.array(at)
    projection = np.diag([1.0, 1.0, -0.02, 1.0]) if ortho else np.diag([4.0, 4.0, -1.002, 0.0])
    if not ortho:
        projection[3, 2], projection[2, 3] = -1.0, -0.2
    projection[0, 3 if ortho else 2] += shift if ortho else -shift
    return Camera("test", view, projection, size, size)


def cast(quads: Sequence[Quad], of: Camera, samples: int = 1) -> tuple[np.ndarray, ...]:
    """Nearest depth (H, W), index of the quad (−1: none), and its coordinates a, b."""
    origins, directions = of.rays(of.width * samples, of.height * samples)
    rotation, moved = of.view[:3, :3], of.view[:3, 3]
    depth, index = np.full(origins.shape[:2], np.inf), np.full(origins.shape[:2], -1)
    places = np.zeros((2, *depth.shape))
    for number, quad in enumerate(quads):
        across, along, normal = (rotation @ np.array(v) for v in (quad.across, quad.along, quad.normal))
        corner = rotation @ np.array(quad.corner) + moved
        with np.errstate(divide="ignore", invalid="ignore"):
            t = ((corner - origins) @ normal) / (directions @ normal)
            point = origins + t[..., None] * directions - corner
            a, b = (point @ v / (v @ v) for v in (across, along))
            nearer = (t > 0) & (t < depth) & (a >= 0) & (a <= 1) & (b >= 0) & (b <= 1)
        depth[nearer], index[nearer] = t[nearer], number
        places[:, nearer] = a[nearer], b[nearer]
    return depth, index, places[0], places[1]


def passes(quads: Sequence[Quad], of: Camera) -> Passes:
    depth, index, _, _ = cast(quads, of)
    normals = np.array([of.view[:3, :3] @ quad.normal for quad in quads] + [np.zeros(3)])
    normals *= np.where(normals[:, 2:] < 0, -1, 1)
    ids = np.array([quad.object_id for quad in quads] + [0])
    edge = np.zeros(depth.shape, np.uint8)
    return Passes(of, depth.astype(np.float32), normals[index].astype(np.float16), edge, ids[index].astype(np.uint16))


def picture(
    quads: Sequence[Quad], of: Camera, color: Callable[[int, np.ndarray, np.ndarray], np.ndarray], samples: int = 4
) -> np.ndarray:
    """Anti-aliased float32 (H, W, 3): color(quad's index, a, b) -> (N, 3); the background is white."""
    _, index, a, b = cast(quads, of, samples)
    image = np.ones((*index.shape, 3))
    for number in range(len(quads)):
        where = index == number
        image[where] = color(number, a[where], b[where])
    blocks = image.reshape(of.height, samples, of.width, samples, 3)
    return blocks.mean((1, 3)).astype(np.float32)


def mesh(
    quads: Sequence[Quad], rectangles: Sequence[tuple[float, float, float, float]], object_id: int = 1
) -> MeshData:
    """Quads as a mesh; every quad's a, b map linearly to its rectangle (u0, v0, u1, v1)."""
    unit = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    fan = np.array([[0, 1, 2], [0, 2, 3]])
    positions = np.concatenate([quad.points(unit[:, 0], unit[:, 1]) for quad in quads])
    uvs = [np.array(r[:2]) + unit * (np.array(r[2:]) - np.array(r[:2])) for r in rectangles]
    return MeshData(
        "Quads",
        object_id,
        positions.astype(np.float32),
        np.concatenate([fan + 4 * i for i in range(len(quads))]).astype(np.int32),
        np.repeat([quad.normal for quad in quads], 6, axis=0).reshape(-1, 3, 3).astype(np.float32),
        np.concatenate([uv[fan] for uv in uvs]).astype(np.float32),
        np.zeros(2 * len(quads), np.int32),
    )
