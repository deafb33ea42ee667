"""What a picture looks like so far, without the VAE's decoder: a linear map from latents to RGB.

The map is fitted to each VAE by least squares: the encoder sees a made-up picture of soft colours, and its latents
are matched with the picture's colours. That takes one small encoding, and suits any VAE.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

LARGEST = 128
"""Pixels of a preview's longer side at most."""


class Previewer:
    """Shows latents as small pictures."""

    def __init__(self, vae: Any, scale_factor: int) -> None:
        """Fit the map (encodes one picture of 128 pixels)."""
        generator = torch.Generator("cpu").manual_seed(0)
        colors = torch.rand(1, 3, 8, 8, generator=generator)
        picture = torch.nn.functional.interpolate(colors, size=(128, 128), mode="bilinear")
        encoded = vae.encode((picture * 2 - 1).to(vae.device, vae.dtype)).latent_dist.mean
        latents = (encoded * vae.config.scaling_factor).float().cpu()
        targets = torch.nn.functional.avg_pool2d(picture, scale_factor)
        channels = latents.shape[1]
        rows = latents[0].reshape(channels, -1).T
        rows = torch.cat([rows, torch.ones(len(rows), 1)], dim=1)
        solution = torch.linalg.lstsq(rows, targets[0].reshape(3, -1).T).solution
        self._weights, self._offset = solution[:channels], solution[channels]

    def picture(self, latents: torch.Tensor) -> np.ndarray:
        """uint8 (h, w, 3), one pixel a latent cell or fewer, for latents (1, channels, h, w)."""
        stride = -(-max(latents.shape[-2:]) // LARGEST)
        small = torch.nn.functional.avg_pool2d(latents.float(), stride) if stride > 1 else latents.float()
        rgb = small[0].permute(1, 2, 0).cpu() @ self._weights + self._offset
        return (rgb.nan_to_num(0.5).clamp(0, 1) * 255).round().to(torch.uint8).numpy()
