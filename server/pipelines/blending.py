"""What a stream travels through: between prompts, between seeds' noises, between frames."""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from paintover.bridge.prompts import Blend

from . import conditioning
from .conditioning import Conditioning

if TYPE_CHECKING:
    from .loading import Model

KEPT = 128
"""Prompts whose embeddings are kept."""


def slerp(a: torch.Tensor, b: torch.Tensor, share: float, dims: int = 1) -> torch.Tensor:
    """Spherical interpolation (Shoemake 1985) from a to b, of vectors that lie in the last `dims` dimensions.

    At 0 and 1 it is exactly a and b; between noises it keeps their variance. Nearly parallel ones are mixed linearly.
    """
    if share <= 0 or share >= 1:
        return a if share <= 0 else b
    flat_a, flat_b = a.flatten(-dims).float(), b.flatten(-dims).float()
    cosine = torch.nn.functional.cosine_similarity(flat_a, flat_b, dim=-1).clamp(-1, 1)
    angle = torch.acos(cosine)[..., None]
    near = torch.sin(angle) < 1e-4
    safe = torch.where(near, torch.full_like(angle, math.pi / 2), angle)
    weight_a = torch.where(near, torch.full_like(angle, 1 - share), torch.sin((1 - share) * safe) / torch.sin(safe))
    weight_b = torch.where(near, torch.full_like(angle, share), torch.sin(share * safe) / torch.sin(safe))
    return (weight_a * flat_a + weight_b * flat_b).reshape(a.shape).to(a.dtype)


def mix(parts: Sequence[tuple[torch.Tensor, float]]) -> torch.Tensor:
    """Several of them by weights that sum to 1, one after the other."""
    result, total = parts[0]
    for value, weight in parts[1:]:
        total += weight
        result = slerp(result, value, weight / total if total > 0 else 0.0)
    return result


class Prompts:
    """Embeddings of prompts and blends, each prompt encoded once."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._known: OrderedDict[tuple[Any, ...], Conditioning] = OrderedDict()

    def embed(self, text: str, width: int, height: int) -> Conditioning:
        key = text, width, height, self._model.loras.text_state
        if key not in self._known:
            self._known[key] = conditioning.encode(self._model, text, "", width, height, guided=False)
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]

    def blend(self, prompts: Sequence[Blend], width: int, height: int) -> Conditioning:
        """The conditioning between the prompts; without one, that of the empty text."""
        wanted = [blend for blend in prompts if blend.weight > 0] or [Blend("", 1.0)]
        return between([(self.embed(blend.text, width, height), blend.weight) for blend in wanted])


def between(parts: Sequence[tuple[Conditioning, float]]) -> Conditioning:
    """The conditioning between several of one size, by weights that sum to 1. One alone is left as it is."""
    first = parts[0][0]
    if len(parts) == 1:
        return first
    added = first.added and {
        **first.added,
        "text_embeds": mix([(part.added["text_embeds"], weight) for part, weight in parts if part.added]),
    }
    return Conditioning(mix([(part.embeds, weight) for part, weight in parts]), added)


class Travel:
    """Draws what lies between the noises of a seed and the next one, as a torch.Generator would."""

    def __init__(self, seed: int, share: float) -> None:
        self.share = share
        self.ends = torch.Generator("cpu"), torch.Generator("cpu")
        self.manual_seed(seed)

    def manual_seed(self, seed: int) -> None:
        for number, end in enumerate(self.ends):
            end.manual_seed((seed + number) % 2**31)

    def randn(self, shape: Sequence[int]) -> torch.Tensor:
        """float32 normal noise."""
        a, b = (torch.randn(tuple(shape), generator=end, dtype=torch.float32) for end in self.ends)
        return slerp(a, b, self.share, dims=len(shape))

    def step(self, scheduler: Any, *arguments: Any) -> torch.Tensor:
        """What a scheduler that draws noise of its own gives for a step: it is linear in that noise."""
        drawn = [
            torch.randn(arguments[2].shape, generator=_clone(end), dtype=torch.float32).to(arguments[2].device)
            for end in self.ends
        ]
        a, b = (
            one.step(*arguments, generator=end, return_dict=False)[0]
            for one, end in zip((copy.deepcopy(scheduler), scheduler), self.ends, strict=True)
        )
        apart = drawn[0] - drawn[1]
        scale = ((a - b) * apart).sum() / apart.square().sum()
        return a + scale * (slerp(drawn[0], drawn[1], self.share, dims=drawn[0].ndim) - drawn[0])


def _clone(generator: torch.Generator) -> torch.Generator:
    copied = torch.Generator("cpu")
    copied.set_state(generator.get_state())
    return copied


def source(seed: int, travel: float) -> torch.Generator | Travel:
    """Where a picture's noise is drawn from."""
    if 0 < travel < 1:
        return Travel(seed, travel)
    return torch.Generator("cpu").manual_seed(seed if travel <= 0 else (seed + 1) % 2**31)


def noises(seed: int, travel: float, shape: tuple[int, ...], count: int) -> torch.Tensor:
    """float32 (count, *shape): what a job with this seed draws at its steps; `travel` of the way to the next seed's."""
    drawn: list[torch.Tensor] = []
    draw: Callable[[torch.Generator], torch.Tensor] = lambda source: torch.cat(  # noqa: E731
        [torch.randn((1, *shape), generator=source, dtype=torch.float32) for _ in range(count)]
    )
    for number in (seed, (seed + 1) % 2**31):
        if number == seed or travel > 0:
            drawn.append(draw(torch.Generator("cpu").manual_seed(number)))
    return slerp(drawn[0], drawn[-1], travel if len(drawn) > 1 else 0.0, dims=len(shape))


def warp_matrix(zoom: float, degrees: float, x: float, y: float, aspect: float) -> torch.Tensor:
    """float32 (1, 2, 3): where each pixel of the warped picture comes from, as affine_grid wants it (y down, −1…1).

    It is scaled about its centre, turned counter-clockwise, then shifted by shares of its width and height, right and
    up. `aspect` is its width / height.
    """
    cosine, sine = math.cos(math.radians(degrees)) / zoom, math.sin(math.radians(degrees)) / zoom
    right, down = 2 * x, -2 * y
    rows = [[cosine, -sine / aspect], [sine * aspect, cosine]]
    offsets = [-(row[0] * right + row[1] * down) for row in rows]
    return torch.tensor([[[*row, offset] for row, offset in zip(rows, offsets, strict=True)]])


def warp(picture: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    """The picture, float32 (1, 3, H, W), so moved (warp_matrix). What comes in from outside is the picture mirrored."""
    grid = torch.nn.functional.affine_grid(theta, list(picture.shape), align_corners=False)
    return torch.nn.functional.grid_sample(
        picture, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
