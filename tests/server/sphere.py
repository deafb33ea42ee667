"""An analytic scene for texture tests: a unit sphere as a mesh, and exact passes of it from any side."""

from __future__ import annotations

import math

import numpy as np

from paintover.bridge.scene import Camera, MeshData, Passes

DISTANCE = 4.0


def camera(azimuth: float, elevation: float = 0.0, size: int = 96) -> Camera:
    """Looks at the origin from DISTANCE; angles in degrees, azimuth 0 on the −y side."""
    a, e = math.radians(azimuth), math.radians(elevation)
    back = np.array([math.sin(a) * math.cos(e), -math.cos(a) * math.cos(e), math.sin(e)])
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(back, right), back])
    view = np.eye(4)
    view[:3, :3], view[:3, 3] = rotation, -rotation @ (back * DISTANCE)
    lens = 3.2
    projection = np.array([[lens, 0, 0, 0], [0, lens, 0, 0], [0, 0, -1.002, -0.2], [0, 0, -1, 0.0]])
    return Camera(f"{azimuth:g}/{elevation:g}", view, projection, size, size)


def passes(of: Camera, object_id: int = 1) -> Passes:
    origins, directions = of.rays()
    center = of.view[:3, 3]  # the world's origin in camera space
    o = origins - center
    a = (directions**2).sum(-1)
    b = (o * directions).sum(-1)
    inside = b * b - a * ((o * o).sum(-1) - 1)
    hit = inside > 0
    depth = np.where(hit, (-b - np.sqrt(np.maximum(inside, 0))) / a, np.inf)
    normal = np.where(hit[..., None], o + np.where(hit, depth, 0)[..., None] * directions, 0)
    return Passes(
        of,
        depth.astype(np.float32),
        normal.astype(np.float16),
        np.zeros(hit.shape, np.uint8),
        hit.astype(np.uint16) * np.uint16(object_id),
        {str(object_id): "Sphere"},
    )


def mesh(segments: int = 128, rings: int = 64, object_id: int = 1) -> MeshData:
    """A latitude–longitude sphere; u around, v from the south pole to the north."""
    u, v = np.meshgrid(np.arange(segments + 1) / segments, np.arange(rings + 1) / rings)
    turn, height = 2 * np.pi * u, np.pi * (v - 0.5)
    points = np.stack([np.cos(height) * np.cos(turn), np.cos(height) * np.sin(turn), np.sin(height)], -1)
    index = np.arange((segments + 1) * (rings + 1)).reshape(rings + 1, segments + 1)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    triangles = np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)]).reshape(-1, 3)
    flat, uv = points.reshape(-1, 3), np.stack([u, v], -1).reshape(-1, 2)
    corners = flat[triangles]
    keep = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) > 1e-9
    triangles = triangles[keep]
    return MeshData(
        "Sphere",
        object_id,
        flat.astype(np.float32),
        triangles.astype(np.int32),
        flat[triangles].astype(np.float32),
        uv[triangles].astype(np.float32),
        np.zeros(len(triangles), np.int32),
    )
