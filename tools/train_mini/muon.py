"""Muon (Jordan et al. 2024): momentum whose every matrix is made orthogonal before it is applied.

All directions of a weight matrix then learn at one speed, not only the few that dominate the gradient. Updates
are scaled to the size that AdamW's have (Liu et al. 2025, "Muon is scalable for LLM training"), so both share
one learning rate. Everything that is not a matrix (biases, norms, embeddings) goes on with AdamW.
"""

import torch
from torch import nn

MOMENTUM = 0.95
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration, chosen for speed by Jordan et al.
_ITERATIONS = 5


def orthogonalize(matrices: torch.Tensor) -> torch.Tensor:
    """Matrices (…, m, n) with the singular vectors of the given ones and singular values near 1 (Newton-Schulz)."""
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)).bfloat16()
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    x = x.to(matrices.dtype)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """For weights with two or more dimensions; a convolution's is taken as (outputs, everything else).

    Weights of one size are worked on together: on a GPU, starting the many small products would take longest.
    """

    def __init__(self, parameters: list[nn.Parameter], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            sizes: dict[torch.Size, list[nn.Parameter]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    sizes.setdefault(weight.flatten(1).shape, []).append(weight)
            for size, weights in sizes.items():
                gradients = [weight.grad for weight in weights]
                momenta = [self.state[w].setdefault("momentum", torch.zeros_like(w)) for w in weights]
                torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
                updates = torch._foreach_lerp(gradients, momenta, MOMENTUM)
                straight = orthogonalize(torch.stack([update.flatten(1) for update in updates]))
                scale = 0.2 * max(size) ** 0.5
                changes = [one.view_as(weight) for one, weight in zip(straight, weights, strict=True)]
                torch._foreach_add_(weights, changes, alpha=-group["lr"] * scale)
