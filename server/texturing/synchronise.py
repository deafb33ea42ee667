"""Views that are painted together agree at every step, by way of the surface that they share (SyncMVD, Liu 2023).

Each view foresees its finished latents. For every latent pixel on a surface, those of all views that see the same point
are averaged, and the view goes on as if it had foreseen the average. Averaging the foreseen latents and not the noisy
ones keeps the noise Gaussian (SyncTweedies, Kim et al. 2024).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from paintover.bridge.scene import Passes

from .gather import SHARPNESS, PaintedView, gather
from .view import View

UNTIL = 0.8
"""Share of the steps in which views are held together. After that each finishes its own details."""
MOST = 1.5
"""By how much the spread that averaging takes away is made up at the most (VCD-Texture, Liu et al. 2024)."""


class Agreement:
    """See engine.Agree. The views are those of the pictures, in the same order."""

    def __init__(self, passes: Sequence[Passes], views: Sequence[View]) -> None:
        self._passes, self._views = passes, views
        self._places: list[tuple[Tensor, Tensor, Tensor]] = []

    def __call__(self, share: float, foreseen: Sequence[Tensor]) -> Sequence[Tensor]:
        """Latents (h, w, channels) of every view, agreed; unchanged from UNTIL on."""
        if share >= UNTIL:
            return foreseen
        if not self._places:
            self._places = [
                _surface(passes, latents.shape[0], latents.shape[1], latents.device)
                for passes, latents in zip(self._passes, foreseen, strict=True)
            ]
        painted = [PaintedView(view, latents.contiguous()) for view, latents in zip(self._views, foreseen, strict=True)]
        agreed = []
        for (points, normals, hit), own in zip(self._places, foreseen, strict=True):
            # At first all that see a point have a say, in the end the one that faces it best.
            found = gather(points, normals, painted, sharpness=SHARPNESS * share)
            before = own[hit]
            after = torch.where((found.facing > 0)[:, None], found.color, before)
            latents = own.clone()
            latents[hit] = _as_spread(after, before)
            agreed.append(latents)
        return agreed


def _surface(passes: Passes, height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """World points and normals (N, 3) at the latent pixels' centres, and which of them (height, width) are on one."""
    rows = ((np.arange(height) + 0.5) * passes.camera.height / height).astype(int)
    columns = ((np.arange(width) + 0.5) * passes.camera.width / width).astype(int)
    chosen = np.ix_(rows, columns)
    hit = np.isfinite(passes.depth)[chosen]
    points = passes.camera.unproject(passes.depth)[chosen][hit]
    normals = (passes.normal[chosen][hit].astype(np.float64)) @ passes.camera.view[:3, :3]
    to_device = [torch.from_numpy(array.astype(np.float32)).to(device) for array in (points, normals)]
    return to_device[0], to_device[1], torch.from_numpy(hit).to(device)


def _as_spread(latents: Tensor, before: Tensor) -> Tensor:
    """Latents (N, channels) with the contrast that they had before: averages are duller than what they are made of."""
    if len(latents) < 2:
        return latents
    mean, deviation = latents.mean(0), latents.std(0)
    gain = (before.std(0) / deviation.clamp_min(1e-6)).clamp(1.0, MOST)
    return (latents - mean) * gain + mean
