"""What painted views know about points in the world: the one projection that baking and inpainting share.

Gather, not scatter: every point looks up its colour in each view that sees it, so no holes open between samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from paintover.bridge.scene import Passes

from .view import View, bilinear

KEYS = ((0.0, 1.0, 0.0, 0.0), (-0.5, 0.0, 0.5, 0.0), (1.0, -2.5, 2.0, -0.5), (-0.5, 1.5, -1.5, 0.5))
"""Keys' kernel with a = −1/2: powers of t by neighbours."""
SHARPNESS = 6.0
"""Exponent of the facing weight: how strongly the view that faces a surface best wins."""
LAST_RESORT = 1e-6
"""Weight of paint at depth edges: nothing beside clear paint, but enough to paint what is too thin to have any."""


@dataclass(frozen=True, eq=False)
class PaintedView:
    """A view and the picture painted in it."""

    view: View
    image: Tensor
    """float32 (H, W, C) on the view's device, usually sRGB 0…1; may be larger than the passes."""
    fresh: Tensor | None = None
    """float32 (H, W), 0…1: how much of each pixel was painted in this view, and not taken over from others (whose
    own picture is sharper there). None: all of it."""

    @classmethod
    def of(
        cls, passes: Passes, image: NDArray[np.uint8] | NDArray[np.float32], device: torch.device | str = "cpu"
    ) -> PaintedView:
        """From passes and an image (H, W, C) that was painted whole: uint8, or float32 0…1."""
        return cls(View(passes, device), to_tensor(image, device))


class Gathered(NamedTuple):
    """What the views know about N points."""

    color: Tensor
    """float32 (N, C): the weighted mean of the views' colours; 0 where no view sees the point."""
    weight: Tensor
    """float32 (N,): the sum of the views' weights; > 0 where any view sees the point at 75° or less."""
    facing: Tensor
    """float32 (N,): best cosine among the views with clear paint there; 0 where only a depth edge knows the point."""


def gather(
    points: Tensor,
    normals: Tensor,
    views: Sequence[PaintedView],
    *,
    object_id: int | None = None,
    sharpness: float = SHARPNESS,
) -> Gathered:
    """The views' colours at world `points` (N, 3) with `normals` (N, 3), float32 on the views' device.

    Each view weighs clarity · facing^sharpness (see Sight). This is the form V · (cos / max cos)^α of SyncMVD and its
    kin, without the common factor that cancels in the mean: as facing ends at cos 75°, its power does not underflow,
    and weights of several copies of a texel can be compared. With `object_id`, only pixels of that object count.
    """
    channels = views[0].image.shape[2] if views else 3
    # Coordinate by coordinate in memory, as `see` reads them.
    points = points.T.contiguous().T
    normals = F.normalize(normals, dim=1).T.contiguous().T
    color = points.new_zeros(len(points), channels)
    weight, facing = points.new_zeros(len(points)), points.new_zeros(len(points))
    for painted in views:
        sight = painted.view.see(points, normals, object_id)
        scale_x = painted.image.shape[1] / painted.view.width
        scale_y = painted.image.shape[0] / painted.view.height
        sample = catmull_rom(painted.image, sight.x * scale_x, sight.y * scale_y)
        clarity = sight.clarity
        if painted.fresh is not None:
            clarity = clarity * bilinear(painted.fresh, sight.x, sight.y)
        share = (clarity + LAST_RESORT) * sight.facing**sharpness
        color[sight.index] += sample * share[:, None]
        weight[sight.index] += share
        clear = torch.where(clarity > 0, sight.facing, 0.0)
        facing[sight.index] = torch.maximum(facing[sight.index], clear)
    return Gathered(color / weight.clamp_min(1e-30)[:, None], weight, facing)


def catmull_rom(image: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Values (M, C) of `image` (H, W, C) at pixel coordinates x, y (M,) by cubic convolution, clamped at the border.

    Keys' kernel with a = −1/2, third-order accurate (IEEE ASSP 29, 1981); torch's own bicubic has a = −3/4, which is
    not.
    """
    height, width, _ = image.shape
    left, top = (x - 0.5).floor(), (y - 0.5).floor()
    taps = torch.arange(-1, 3, device=x.device)
    columns = (left.long()[:, None] + taps).clamp_(0, width - 1)
    rows = (top.long()[:, None] + taps).clamp_(0, height - 1) * width
    index = (rows[:, :, None] + columns[:, None, :]).view(-1, 16)
    weight = (_keys(y - 0.5 - top)[:, :, None] * _keys(x - 0.5 - left)[:, None, :]).view(-1, 16)
    flat = image.reshape(height * width, -1)
    if image.device.type == "mps":  # has no embedding_bag
        return (flat[index] * weight[..., None]).sum(1)
    return F.embedding_bag(index, flat, per_sample_weights=weight, mode="sum")


def _keys(t: Tensor) -> Tensor:
    """Weights (M, 4) of the four neighbours at −1, 0, 1, 2 for places t (M,) in 0…1."""
    powers = torch.stack([torch.ones_like(t), t, t * t, t * t * t], 1)
    return powers @ t.new_tensor(KEYS)


def to_tensor(image: NDArray[np.uint8] | NDArray[np.float32], device: torch.device | str = "cpu") -> Tensor:
    """An image (H, W, C), uint8 or float32 0…1, as a float32 tensor 0…1."""
    tensor = torch.tensor(np.ascontiguousarray(image), device=device)
    return tensor.float() / 255 if tensor.dtype == torch.uint8 else tensor.float()
