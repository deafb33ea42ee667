"""Exact correspondence between two frames of a shot: where each pixel's surface is in the other, and if it is seen.

Geometry is known (bridge.shot.Link), so nothing is estimated: a pixel's surface is seen in the other frame if the
pixel there shows the same object at the depth that the surface has there. The background lies at infinity: it moves as
the camera turns. Runs on CPU, CUDA and ROCm.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from paintover.bridge.scene import Camera, Passes
from paintover.bridge.shot import Link

SLACK = 1.0
"""Depth may differ by what the surface rises over so many pixels, and by as many pixels' footprints."""
STEEPEST = 20.0
"""Slopes count up to this (87°): beyond, a pixel's depth says nothing."""
REACH = 4
"""Pixels up to which the distance to a silhouette is told."""
HALO = 8
"""Pixels up to which the distance to what is in front is told: painted objects colour so much of what is behind them,
a latent cell."""

TAPS = range(-2, 4)
"""Pixels that a resampled one is made of, in each direction, from the one at its left or above."""
FRACTIONS = 1024
"""Places between two pixels that are told apart."""
CHUNK = 2**14
"""Pixels that are resampled at a time, so that it is done in the cache: each takes 300 bytes meanwhile."""


@dataclass(frozen=True, eq=False)
class Sight:
    """What is known of a frame that others take paint from."""

    camera: Camera
    depth: Tensor
    """float32 (H, W): +inf on background."""
    object_id: Tensor
    """int32 (H, W)."""
    slope: Tensor
    """float32 (H, W): tangent of the angle between the surface's normal and the line of sight; at most STEEPEST."""
    from_edge: Tensor
    """float32 (H, W): pixels to the nearest pixel of another surface, 1 … REACH."""
    from_front: Tensor
    """float32 (H, W): pixels to the nearest pixel of another surface that is in front of this one, 1 … HALO."""

    @classmethod
    def of(cls, passes: Passes, device: torch.device | str = "cpu") -> Sight:
        """Raises BadPasses for passes with NaN or −inf."""
        passes.check_values()
        # Copies: what came off the wire is read-only, and torch knows no such arrays.
        depth = torch.tensor(passes.depth, device=device)
        object_id = torch.tensor(passes.object_id.astype(np.int32), device=device)
        slope = torch.tensor(_slope(passes), device=device)
        broken, behind = _silhouettes(passes.camera, depth, object_id, slope)
        return cls(
            passes.camera, depth, object_id, slope, _distance(broken, REACH), distance_within(behind, object_id, HALO),
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Match:
    """Where a frame's pixels are in another frame."""

    x: Tensor
    """float32 (H, W): pixels from the left; anything where it is not seen."""
    y: Tensor
    """float32 (H, W): pixels from the top."""
    seen: Tensor
    """bool (H, W): validity. The other frame shows this very surface at (x, y)."""
    depth: Tensor
    """float32 (H, W): depth there; +inf for background."""


def _slope(passes: Passes) -> np.ndarray:
    _, directions = passes.camera.rays()
    directions = directions.astype(np.float32)
    toward = -directions / np.linalg.norm(directions, axis=-1, keepdims=True)
    cosine = np.abs((passes.normal.astype(np.float32) * toward).sum(-1)).clip(1e-3, 1)
    slope = np.sqrt(1 - cosine**2) / cosine
    return np.where(passes.object_id > 0, np.minimum(slope, STEEPEST), 0).astype(np.float32)


def footprint(camera: Camera) -> float:
    """World size of a pixel (the larger of its sides) at a perspective divisor of 1."""
    p = camera.projection
    return max(2 / (abs(float(p[0, 0])) * camera.width), 2 / (abs(float(p[1, 1])) * camera.height))


def _tolerance(camera: Camera, depth: Tensor, slope: Tensor) -> Tensor:
    divisor = float(camera.projection[3, 3]) - float(camera.projection[3, 2]) * depth
    return SLACK * footprint(camera) * divisor * (1 + slope)


def _silhouettes(camera: Camera, depth: Tensor, object_id: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """bool (H, W): pixels beside another surface (another object, or a jump in depth), and those of them that are
    behind it."""
    broken, behind = torch.zeros((2, *object_id.shape), dtype=torch.bool, device=depth.device)
    for axis in (0, 1):
        length = depth.shape[axis] - 1
        a, b = (depth.narrow(axis, start, length) for start in (0, 1))
        ids = [object_id.narrow(axis, start, length) for start in (0, 1)]
        slopes = torch.minimum(*(slope.narrow(axis, start, length) for start in (0, 1)))
        near = torch.minimum(a, b)
        jump = (a - b).abs() > 2 * _tolerance(camera, near, slopes)
        apart = (ids[0] != ids[1]) | (jump & torch.isfinite(a) & torch.isfinite(b))
        for start, (own, other) in enumerate(((a, b), (b, a))):
            broken.narrow(axis, start, length).logical_or_(apart)
            behind.narrow(axis, start, length).logical_or_(apart & (own > other))
    return broken, behind


def _distance(marked: Tensor, reach: int) -> Tensor:
    """float32: pixels to the nearest marked one, itself at 1; at most `reach`."""
    distance = torch.full(marked.shape, float(reach), device=marked.device)
    for near in range(reach - 1, 0, -1):
        wide = F.max_pool2d(marked[None, None].float(), 2 * near - 1, 1, near - 1)[0, 0] > 0
        distance[wide] = float(near)
    return distance


def distance_within(marked: Tensor, object_id: Tensor, reach: int) -> Tensor:
    """The same, but the nearest of the marked pixels of the same object, on a way through its pixels."""
    distance, reached = torch.full(marked.shape, float(reach), device=marked.device), marked
    for near in range(1, reach):
        distance[reached & (distance == reach)] = float(near)
        for axis in (0, 1):
            length, wide = reached.shape[axis] - 1, reached.clone()
            for start, other in ((0, 1), (1, 0)):
                same = object_id.narrow(axis, start, length) == object_id.narrow(axis, other, length)
                wide.narrow(axis, start, length).logical_or_(reached.narrow(axis, other, length) & same)
            reached = wide
    return distance


def match(here: Sight, there: Sight, link: Link) -> Match:
    """Where the surfaces of `here` are in `there`, given the link from the one to the other."""
    device = here.depth.device
    place = torch.tensor(link.place, device=device)
    height, width = here.depth.shape
    x = torch.arange(width, device=device) + 0.5 + place[..., 0]
    y = torch.arange(height, device=device)[:, None] + 0.5 + place[..., 1]
    background = here.object_id == 0
    sky_x, sky_y = (torch.tensor(value, device=device) for value in _sky(here.camera, there.camera))
    x, y = torch.where(background, sky_x, x), torch.where(background, sky_y, y)
    depth = torch.where(background, torch.inf, place[..., 2])
    rows, columns = there.depth.shape
    inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)  # false for what is not finite
    x, y = torch.where(inside, x, 0.5), torch.where(inside, y, 0.5)
    return Match(x, y, inside & _shows(there, x.long(), y.long(), here.object_id, depth), depth)


def _shows(there: Sight, column: Tensor, row: Tensor, object_id: Tensor, depth: Tensor) -> Tensor:
    """Whether the pixels of `there` show these objects at these depths."""
    at = (row * there.depth.shape[1] + column).reshape(-1)
    found, slope = (values.reshape(-1)[at].reshape(depth.shape) for values in (there.depth, there.slope))
    same = there.object_id.reshape(-1)[at].reshape(depth.shape) == object_id
    level = (found - depth).abs() <= _tolerance(there.camera, depth, slope)
    return same & (level | (object_id == 0))


def _sky(here: Camera, there: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Pixels x and y, each float32 (H, W), where what lies at infinity behind each pixel is in the other frame."""
    if here.orthographic or there.orthographic:
        # Parallel rays see one point at infinity: its picture stays where it is.
        x, y = np.meshgrid(np.arange(here.width) + 0.5, np.arange(here.height) + 0.5)
        return x.astype(np.float32), y.astype(np.float32)
    _, directions = here.rays()
    turn = there.view[:3, :3] @ np.linalg.inv(here.view[:3, :3])
    ways = directions @ turn.T
    clip = ways @ there.projection[:, :3].T
    with np.errstate(divide="ignore", invalid="ignore"):
        ndc = np.where(clip[..., 3:] > 0, clip[..., :2] / clip[..., 3:], np.nan)
    pixels = ((ndc * (0.5, -0.5) + 0.5) * (there.width, there.height)).astype(np.float32)
    return pixels[..., 0], pixels[..., 1]


# ---------------------------------------------------------------- resampling


def sample(picture: Tensor, there: Sight, here: Sight, found: Match) -> Tensor:
    """The other frame's picture, float32 (H, W, C), at the matched places: (H, W, C) of `here`; anything where unseen.

    Within surfaces by Lanczos' kernel of six pixels (Turkowski 1990), which keeps sharp what bilinear sampling would
    blur; within three pixels of a silhouette bilinearly, from the pixels of the same surface alone, so that no other
    colour bleeds in.
    """
    height, width = there.depth.shape
    flat = picture.reshape(height * width, -1).contiguous()  # embedding_bag rounds otherwise for other layouts
    x, y = (found.x - 0.5).reshape(-1), (found.y - 0.5).reshape(-1)
    moved = torch.cat([_sharp(flat, height, width, *ends) for ends in zip(x.split(CHUNK), y.split(CHUNK), strict=True)])
    outer = (edge_distance(there, found) < REACH).reshape(-1)
    ids, depth = here.object_id.reshape(-1)[outer], found.depth.reshape(-1)[outer]
    moved[outer] = _linear(flat, there, ids, depth, x[outer], y[outer])
    return moved.reshape(*found.x.shape, -1)


def _sharp(flat: Tensor, height: int, width: int, x: Tensor, y: Tensor) -> Tensor:
    """float32 (N, C): `flat`, (pixels, C), at N places by Lanczos' kernel."""
    taps = torch.tensor(TAPS, device=flat.device, dtype=torch.int32)
    left, top = x.floor()[:, None], y.floor()[:, None]
    rows, columns = (top.int() + taps).clamp(0, height - 1), (left.int() + taps).clamp(0, width - 1)
    index = (rows * width)[:, :, None] + columns[:, None]
    kernel = _lanczos().to(flat.device)
    wy, wx = (kernel[((place - start[:, 0]) * FRACTIONS).round().long()] for place, start in ((y, top), (x, left)))
    weights = wy[:, :, None] * wx[:, None]
    return F.embedding_bag(index.flatten(1), flat, mode="sum", per_sample_weights=weights.flatten(1))


@cache
def _lanczos() -> Tensor:
    """float32 (FRACTIONS + 1, taps): weights of the pixels at TAPS for a place so far between two; they add up to 1."""
    away = torch.linspace(0, 1, FRACTIONS + 1)[:, None] - torch.tensor(TAPS)
    weights = torch.sinc(away) * torch.sinc(away / 3)
    return weights / weights.sum(-1, keepdim=True)


def _linear(flat: Tensor, there: Sight, object_id: Tensor, depth: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """float32 (N, C): `flat`, (pixels, C), at N places, from the pixels of their own surfaces."""
    height, width = there.depth.shape
    left, top = x.floor(), y.floor()
    moved, total = torch.zeros((len(x), flat.shape[1]), device=flat.device), torch.zeros_like(x)
    for row, wy in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, wx in ((left, 1 - (x - left)), (left + 1, x - left)):
            r, c = row.long().clamp(0, height - 1), column.long().clamp(0, width - 1)
            weight = wx * wy * _shows(there, c, r, object_id, depth)
            moved += weight[:, None] * flat[r * width + c]
            total += weight
    nearest = flat[(y + 0.5).long() * width + (x + 0.5).long()]
    return torch.where(total[:, None] > 1e-3, moved / total.clamp_min(1e-3)[:, None], nearest)


def at(there: Sight, found: Match) -> Tensor:
    """int64 (H, W): the matched pixels as numbers, row by row."""
    return found.y.long() * there.depth.shape[1] + found.x.long()


def edge_distance(there: Sight, found: Match) -> Tensor:
    """float32 (H, W): how far from a silhouette the matched places are, 1 … REACH."""
    return there.from_edge.reshape(-1)[at(there, found)]
