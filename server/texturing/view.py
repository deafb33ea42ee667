"""What one camera sees, on the device: where points land in its picture, which of them it sees, and how well.

Written for CPU, CUDA, ROCm and MPS alike: float32 throughout (MPS has no float64), and coordinates are computed term by
term instead of by matrix products, which may run in TF32 (10 bits) on CUDA.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from paintover.bridge.scene import Camera, Passes

GRAZING = math.cos(math.radians(75))
"""Surfaces steeper than 75° to the view are not painted from it."""
JUMP = 2.0
"""Neighbouring pixels further than this from one plane, in pixel footprints, belong to different surfaces."""
ERODED, CLEAR = 2.0, 8.0
"""Pixels from a depth edge: up to ERODED paint counts for nothing (the sampler reaches into pixels that mix two
surfaces), from CLEAR on it counts fully."""
BORDER = 1 / 32
"""Paint counts fully from this share of the picture's sides on."""


@dataclass(frozen=True, eq=False)
class Sight:
    """The points that a view sees at 75° or less."""

    index: Tensor
    """int64 (M,): which of the points."""
    x: Tensor
    """float32 (M,): pixels from the left."""
    y: Tensor
    """float32 (M,): pixels from the top."""
    facing: Tensor
    """float32 (M,): cosine between the surface's normal and the direction to the camera, 0.26…1."""
    clarity: Tensor
    """float32 (M,): 1 well inside a surface, falling to 0 at depth edges, object borders and the picture's border."""


class View:
    """One camera's passes, ready to be asked what they see of any points. Holds no picture."""

    def __init__(self, passes: Passes, device: torch.device | str = "cpu") -> None:
        """Raises BadPasses for passes with NaN or −inf."""
        passes.check_values()
        camera = passes.camera
        self.device = torch.device(device)
        self.width, self.height = camera.width, camera.height
        self.orthographic = camera.orthographic
        self._position = [float(v) for v in camera.position]
        self._rotation = [[float(v) for v in row] for row in camera.view[:3, :3]]
        self._projection = [[float(v) for v in row] for row in camera.projection]
        self._pixel = _pixel_size(camera)
        # Copies (torch.tensor): what came off the wire is read-only, and torch knows no such arrays.
        self._depth = torch.tensor(passes.depth, device=self.device)
        self._id = torch.tensor(passes.object_id.astype(np.int32), device=self.device)
        self._clarity = self._clarity_map(torch.tensor(passes.normal, device=self.device).permute(2, 0, 1).float())

    def see(self, points: Tensor, normals: Tensor, object_id: int | None = None) -> Sight:
        """Which of `points` (N, 3) with world unit `normals` (N, 3) this view sees, and where.

        A point is seen if it lies on the surface in the depth pass: within the pixel's footprint, more on slopes. With
        `object_id`, the pixel must show that object. Surfaces are two-sided, as Blender draws them: a normal that
        points away counts like its opposite (a hidden back is still hidden by the depth pass).
        """
        offset = [points[:, i] - self._position[i] for i in range(3)]
        right, up, back = (_dot(row, offset) for row in self._rotation)
        if self.orthographic:
            facing = _dot(self._rotation[2], list(normals.unbind(1))).abs_()
        else:
            along = _dot3(list(normals.unbind(1)), offset).abs()
            facing = along * torch.rsqrt(_dot3(offset, offset).clamp_min(1e-30))
        x, y, divisor = self._to_pixels(right, up, back)
        inside = (divisor > 0) & (x >= 0) & (x < self.width) & (y >= 0) & (y < self.height)
        index = torch.nonzero(inside & (facing >= GRAZING)).squeeze(1)
        x, y, facing, depth, divisor = (value[index] for value in (x, y, facing.clamp_max(1.0), -back, divisor))

        pixel = y.long() * self.width + x.long()
        slope = torch.sqrt(1 - facing.square()) / facing
        seen = (self._depth.view(-1)[pixel] - depth).abs() <= self._pixel * divisor * (1 + slope)
        if object_id is not None:
            seen &= self._id.view(-1)[pixel] == object_id
        seen_at = torch.nonzero(seen).squeeze(1)
        index, x, y, facing = (value[seen_at] for value in (index, x, y, facing))
        return Sight(index, x, y, facing, bilinear(self._clarity, x, y))

    def _to_pixels(self, right: Tensor, up: Tensor, back: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Camera space to pixels x, y and the perspective divisor (clip-space w)."""
        p = self._projection
        divisor = p[3][2] * back + p[3][3]
        safe = torch.where(divisor > 0, divisor, 1.0)
        x = (p[0][0] * right + p[0][1] * up + p[0][2] * back + p[0][3]) / safe
        y = (p[1][0] * right + p[1][1] * up + p[1][2] * back + p[1][3]) / safe
        return (x * 0.5 + 0.5) * self.width, (0.5 - y * 0.5) * self.height, divisor

    def _clarity_map(self, normal: Tensor) -> Tensor:
        """From normals (3, H, W) the clarity (H, W): 0 at depth edges and object borders, 1 well inside surfaces;
        likewise at the picture's border."""
        distance = _distance(self._edges(normal), int(CLEAR))
        clarity = _smoothstep((distance - ERODED) / (CLEAR - ERODED))
        for axis, length in ((0, self.height), (1, self.width)):
            place = torch.arange(length, device=self.device) + 0.5
            ramp = _smoothstep(torch.minimum(place, length - place) / (BORDER * length))
            clarity = clarity * (ramp[:, None] if axis == 0 else ramp[None, :])
        return clarity

    def _edges(self, normal: Tensor) -> Tensor:
        """bool (H, W): pixels that have a 4-neighbour on another surface.

        Two neighbours are on one surface if the nearer one's point lies close to the plane of the farther one. (The
        nearer one's plane says nothing at a smooth silhouette, where it contains the line of sight.)
        """
        point, normals = self._points(), list(normal.unbind(0))
        edges = torch.zeros_like(self._id, dtype=torch.bool)
        for axis in (0, 1):
            (a, b), (id_a, id_b) = _neighbours(self._depth, axis), _neighbours(self._id, axis)
            first_is_far, gap = a > b, torch.zeros_like(a)
            for place, direction in zip(point, normals, strict=True):
                (place_a, place_b), (direction_a, direction_b) = _neighbours(place, axis), _neighbours(direction, axis)
                gap.addcmul_(torch.where(first_is_far, direction_a, direction_b), place_a - place_b)
            divisor = self._projection[3][3] - self._projection[3][2] * torch.maximum(a, b)
            broken = (gap.abs_() > JUMP * self._pixel * divisor) | (id_a != id_b)
            broken |= torch.isfinite(a) != torch.isfinite(b)
            for side in _neighbours(edges, axis):
                side.logical_or_(broken)
        return edges

    def _points(self) -> list[Tensor]:
        """x, y and z (H, W) of the surface's points in camera space; background is anywhere finite."""
        p = self._projection
        depth = torch.where(torch.isfinite(self._depth), self._depth, 0.0)
        x = (torch.arange(self.width, device=self.device) + 0.5) / self.width * 2 - 1
        y = 1 - (torch.arange(self.height, device=self.device) + 0.5) / self.height * 2
        divisor = p[3][3] - p[3][2] * depth
        # Blender's projections have no shear: x depends on clip x alone, y on clip y alone.
        right = (x[None, :] * divisor + p[0][2] * depth - p[0][3]) / p[0][0]
        up = (y[:, None] * divisor + p[1][2] * depth - p[1][3]) / p[1][1]
        return [right, up, -depth]


def bilinear(image: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Values (M,) of `image` (H, W) at pixel coordinates x, y (M,), clamped at the border."""
    height, width = image.shape
    left, top = (x - 0.5).floor(), (y - 0.5).floor()
    fx, fy = x - 0.5 - left, y - 0.5 - top
    columns = [(left.long() + i).clamp(0, width - 1) for i in (0, 1)]
    rows = [(top.long() + i).clamp(0, height - 1) * width for i in (0, 1)]
    flat = image.reshape(-1)
    upper = torch.lerp(flat[rows[0] + columns[0]], flat[rows[0] + columns[1]], fx)
    lower = torch.lerp(flat[rows[1] + columns[0]], flat[rows[1] + columns[1]], fx)
    return torch.lerp(upper, lower, fy)


def _pixel_size(camera: Camera) -> float:
    """World size of a pixel (the larger of its sides), for a perspective divisor of 1."""
    p = camera.projection
    return max(2 / (abs(float(p[0, 0])) * camera.width), 2 / (abs(float(p[1, 1])) * camera.height))


def _neighbours(image: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """An image without its last and without its first row (axis 0) or column (1): pixels next to each other."""
    length = image.shape[axis] - 1
    return image.narrow(axis, 0, length), image.narrow(axis, 1, length)


def _distance(marked: Tensor, limit: int) -> Tensor:
    """float32 (H, W): Euclidean distance in pixels to the nearest marked pixel, no more than limit."""
    squared = torch.where(marked, 0.0, float(limit * limit))
    for axis in (0, 1):
        pad = [0, 0, limit, limit] if axis == 0 else [limit, limit, 0, 0]
        padded = F.pad(squared, pad, value=float(limit * limit))
        length = squared.shape[axis]
        for step in range(-limit, limit + 1):
            squared = torch.minimum(squared, padded.narrow(axis, limit + step, length) + step * step)
    return squared.sqrt()


def _smoothstep(t: Tensor) -> Tensor:
    t = t.clamp(0, 1)
    return t * t * (3 - 2 * t)


def _dot(row: list[float], vector: list[Tensor]) -> Tensor:
    return row[0] * vector[0] + row[1] * vector[1] + row[2] * vector[2]


def _dot3(a: list[Tensor], b: list[Tensor]) -> Tensor:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
