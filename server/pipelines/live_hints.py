"""Control frames to hints at the size of the painted frame.

On the CPU numpy makes them (bridge/hints.py, which says what they are); on other devices the same is computed there,
since numpy would take longer than a fast GPU takes for the whole frame.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from paintover.bridge.hints import make_hint
from paintover.bridge.scene import Passes

from ..worker_messages import StreamControl
from .replay import replayable


class HintFunction:
    """Fills a hint's buffer, (1, 3, height, width) in 0…1, from passes. `normals` as in hints.normal_hint."""

    def __init__(self, control: str, normals: str, into: torch.Tensor, device: torch.device) -> None:
        self._control, self._normals, self._into, self._device = control, normals, into, device
        self._staged = self._sent = torch.empty(0)
        """The pass in memory that the device can read by itself, and on the device."""
        self._make: Callable[[], None] = lambda: None

    def __call__(self, passes: Passes) -> None:
        """Without waiting for the device; but it must have made the last hint before the next one is asked for."""
        if self._device.type == "cpu":
            hint = torch.from_numpy(make_hint(passes, self._control, self._normals)).permute(2, 0, 1)[None]
            self._put(hint)
            return
        array = getattr(passes, self._control)
        if self._staged.shape != array.shape:
            # An empty tensor of the array's type: torch warns of arrays that must not be written, as these are.
            kind = torch.from_numpy(np.empty(0, array.dtype)).dtype
            self._staged = torch.empty(array.shape, dtype=kind, pin_memory=self._device.type == "cuda")
            self._sent = torch.zeros(array.shape, dtype=kind, device=self._device)
            self._make = replayable(self._make_hint, self._device)
        self._staged.numpy()[...] = array
        self._sent.copy_(self._staged, non_blocking=True)
        self._make()

    def _make_hint(self) -> None:
        self._put(device_hint(self._sent, self._control, self._normals))

    def _put(self, hint: torch.Tensor) -> None:
        height, width = self._into.shape[-2:]
        self._into.copy_(fitted(hint, width, height))


def fitted(picture: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """float32 (1, C, h, w), scaled to width and height where it has another size."""
    if picture.shape[-2:] == (height, width):
        return picture
    return torch.nn.functional.interpolate(picture, (height, width), mode="bilinear", antialias=True)


def source_of(control: StreamControl | None) -> np.ndarray | None:
    """uint8 (h, w, 3…): where image-to-image starts from, if not from the last frame alone."""
    if control is None or control.image is not None:
        return control.image if control else None
    return control.passes.color if control.passes else None


def image_of(image: np.ndarray, width: int, height: int, device: torch.device) -> torch.Tensor:
    """uint8 (h, w, 3…) -> float32 (1, 3, height, width) in 0…1."""
    tensor = torch.from_numpy(np.ascontiguousarray(image[..., :3])).to(device)
    return fitted(tensor.permute(2, 0, 1)[None].float() / 255, width, height)


def device_hint(values: torch.Tensor, control: str, normals: str) -> torch.Tensor:
    """What hints.make_hint makes of a pass, (h, w) or (h, w, 3): float32 (1, 3, h, w). Never waits for the device."""
    if control == "depth":
        return _depth(values).expand(1, 3, -1, -1)
    if control == "edge":
        return (values.float() / 255).expand(1, 3, -1, -1)
    normal = values.float().permute(2, 0, 1)[None]
    if normals == "bae":
        background = ~normal.any(dim=1, keepdim=True)
        ahead = torch.zeros_like(normal)
        ahead[:, 2].fill_(1)
        normal = torch.where(background, ahead, torch.cat([-normal[:, :1], normal[:, 1:]], 1))
    return _quantised(normal * 0.5 + 0.5)


def _depth(depth: torch.Tensor) -> torch.Tensor:
    hit = torch.isfinite(depth) & (depth > 0)
    disparity = torch.where(hit, 1 / depth, torch.inf)
    ordered = disparity.flatten().sort().values
    last = hit.sum() - 1

    def percentile(share: float) -> torch.Tensor:
        at = (last * share).clamp(min=0)
        below = at.floor().long()
        above = torch.minimum(below + 1, last.clamp(min=0))
        # `take`, since ordered[below] would have Python read the number.
        return torch.lerp(ordered.take(below), ordered.take(above), (at - below).float())

    low, high = percentile(0.01), percentile(0.99)
    flat = high - low < 0.001 * high
    spread = torch.where(flat, torch.ones_like(high), high - low)
    value = torch.where(flat, torch.ones_like(disparity), 0.2 + 0.8 * ((disparity - low) / spread).clamp(0, 1))
    return _quantised(torch.where(hit, value, torch.zeros_like(value)))


def _quantised(hint: torch.Tensor) -> torch.Tensor:
    return (hint.clamp(0, 1) * 255).round() / 255
