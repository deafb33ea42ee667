"""Self-attention across pictures: one that is painted looks at the features of finished ones, too.

The finished ones run beside it in the batch, noised as far as the step is, and attend to themselves alone; the picture
attends to itself and to them (cross-frame attention: Wu et al., Tune-A-Video, 2023; Khachatryan et al.,
Text2Video-Zero, 2023). Nothing is kept from step to step or from picture to picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor2_0


@dataclass(frozen=True)
class Shared:
    """Finished pictures."""

    latents: torch.Tensor
    """float32 (n, channels, h, w)."""
    noise: torch.Tensor
    """Likewise: what they are noised with."""

    @property
    def group(self) -> int:
        """Rows of a batch that belong together: the picture first, then the finished ones."""
        return 1 + len(self.latents)


class _Across(AttnProcessor2_0):
    """Attention in which the first row of each group also sees the others."""

    def __init__(self, group: int) -> None:
        super().__init__()
        self._group = group

    def __call__(
        self, attn: Any, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None, temb: torch.Tensor | None = None, *args: Any, **options: Any,
    ) -> torch.Tensor:  # fmt: skip
        rows = hidden_states.unflatten(0, (-1, self._group))
        own = super().__call__(attn, rows[:, 0], rows.flatten(1, 2))
        others = super().__call__(attn, rows[:, 1:].flatten(0, 1))
        return torch.cat([own[:, None], others.unflatten(0, (-1, self._group - 1))], 1).flatten(0, 1)


@contextmanager
def sharing(unet: Any, group: int) -> Iterator[None]:
    """Self-attention of a UNet across groups of rows; with groups of one, as it is."""
    if group == 1:
        yield
        return
    before = unet.attn_processors
    across = _Across(group)
    unet.set_attn_processor({name: across if ".attn1." in name else old for name, old in before.items()})
    try:
        yield
    finally:
        unet.set_attn_processor(before)
