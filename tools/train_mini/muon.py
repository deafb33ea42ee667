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


def orthogonalize(matrix: torch.Tensor) -> torch.Tensor:
    """A matrix (m, n) with the singular vectors of the given one and singular values near 1 (Newton-Schulz)."""
    a, b, c = _COEFFICIENTS
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = (x / (x.norm() + 1e-7)).bfloat16()
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    x = x.to(matrix.dtype)
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class Muon(torch.optim.Optimizer):
    """For weights with two or more dimensions; a convolution's is taken as (outputs, everything else)."""

    def __init__(self, parameters: list[nn.Parameter], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                momentum = state.setdefault("momentum", torch.zeros_like(weight))
                momentum.lerp_(weight.grad, 1 - MOMENTUM)
                update = weight.grad.lerp(momentum, MOMENTUM).flatten(1)
                scale = 0.2 * max(update.shape) ** 0.5
                weight.add_(orthogonalize(update).view_as(weight), alpha=-group["lr"] * scale)
