"""Control frames to hints at the size of the painted frame.

On the CPU numpy makes them (bridge/hints.py, which says what they are); on other devices the same is computed there,
since numpy would take longer than a fast GPU takes for the whole frame.
"""

from __future__ import annotations

import numpy as np
import torch

from paintover.bridge.hints import make_hint
from paintover.bridge.scene import Passes


def live_hint(
    passes: Passes, control: str, normals: str, width: int, height: int, device: torch.device
) -> torch.Tensor:
    """float32 (1, 3, height, width) in 0…1 on the device. `normals` as in hints.normal_hint."""
    if device.type == "cpu":
        hint = torch.from_numpy(make_hint(passes, control, normals)).permute(2, 0, 1)[None]
    else:
        hint = device_hint(passes, control, normals, device)
    return fitted(hint, width, height)


def fitted(picture: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """float32 (1, C, h, w), scaled to width and height where it has another size."""
    if picture.shape[-2:] == (height, width):
        return picture
    return torch.nn.functional.interpolate(picture, (height, width), mode="bilinear", antialias=True)


def image_of(image: np.ndarray, width: int, height: int, device: torch.device) -> torch.Tensor:
    """uint8 (h, w, 3…) -> float32 (1, 3, height, width) in 0…1."""
    tensor = torch.from_numpy(np.ascontiguousarray(image[..., :3])).to(device)
    return fitted(tensor.permute(2, 0, 1)[None].float() / 255, width, height)


def device_hint(passes: Passes, control: str, normals: str, device: torch.device) -> torch.Tensor:
    """What hints.make_hint makes, float32 (1, 3, h, w), without ever waiting for the device."""
    if control == "depth":
        return _depth(_sent(passes.depth, device)).expand(1, 3, -1, -1)
    if control == "edge":
        return (_sent(passes.edge, device).float() / 255).expand(1, 3, -1, -1)
    normal = _sent(passes.normal, device).float().permute(2, 0, 1)[None]
    if normals == "bae":
        background = ~normal.any(dim=1, keepdim=True)
        normal = normal * torch.tensor([-1.0, 1.0, 1.0], device=device).reshape(1, 3, 1, 1)
        normal = torch.where(background, torch.tensor([0.0, 0.0, 1.0], device=device).reshape(1, 3, 1, 1), normal)
    return _quantised(normal * 0.5 + 0.5)


def _sent(array: np.ndarray, device: torch.device) -> torch.Tensor:
    # A copy, since torch warns of arrays that must not be written, as those are that came over the wire.
    return torch.from_numpy(array.copy()).to(device)


def _depth(depth: torch.Tensor) -> torch.Tensor:
    hit = torch.isfinite(depth) & (depth > 0)
    disparity = torch.where(hit, 1 / depth, torch.inf)
    ordered = disparity.flatten().sort().values
    last = hit.sum() - 1

    def percentile(share: float) -> torch.Tensor:
        at = (last * share).clamp(min=0)
        below = at.floor().long()
        above = torch.minimum(below + 1, last.clamp(min=0))
        return torch.lerp(ordered[below], ordered[above], (at - below).float())

    low, high = percentile(0.01), percentile(0.99)
    flat = high - low < 0.001 * high
    spread = torch.where(flat, torch.ones_like(high), high - low)
    value = torch.where(flat, torch.ones_like(disparity), 0.2 + 0.8 * ((disparity - low) / spread).clamp(0, 1))
    return _quantised(torch.where(hit, value, torch.zeros_like(value)))


def _quantised(hint: torch.Tensor) -> torch.Tensor:
    return (hint.clamp(0, 1) * 255).round() / 255
