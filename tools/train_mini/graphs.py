"""Losses and their gradients as CUDA graphs: starting a small model's many kernels takes longer than running them."""

from collections.abc import Callable

import torch
from torch import nn

from .feed import Batch

WARM_UPS = 3  # before a graph is captured, libraries choose their kernels

Loss = Callable[[str, Batch], torch.Tensor]


class Gradients:
    """Calls `loss(kind, batch)` and leaves its gradients in the parameters.

    On CUDA each kind is captured once: batches of a kind must have one shape, and `loss` may neither draw random
    numbers nor read values of tensors.
    """

    def __init__(self, parameters: list[nn.Parameter], loss: Loss, device: torch.device) -> None:
        self._parameters, self._loss, self._device = parameters, loss, device
        self._captured: dict[tuple, Callable[[Batch], torch.Tensor]] = {}

    def __call__(self, kind: str, batch: Batch) -> torch.Tensor:
        """The loss, detached."""
        if self._device.type != "cuda":
            return self._run(kind, batch)
        key = kind, *(value.shape for value in batch.values())
        if key not in self._captured:
            self._captured[key] = self._capture(kind, batch)
        return self._captured[key](batch)

    def _run(self, kind: str, batch: Batch) -> torch.Tensor:
        for parameter in self._parameters:
            parameter.grad = None
        loss = self._loss(kind, batch)
        loss.backward()
        return loss.detach()

    def _capture(self, kind: str, batch: Batch) -> Callable[[Batch], torch.Tensor]:
        inputs = {name: value.clone() for name, value in batch.items()}
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                self._run(kind, inputs)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            loss = self._run(kind, inputs)
        gradients = [parameter.grad for parameter in self._parameters]  # in the graph's own memory

        def replay(batch: Batch) -> torch.Tensor:
            for name, value in batch.items():
                inputs[name].copy_(value)
            graph.replay()
            for parameter, gradient in zip(self._parameters, gradients, strict=True):
                parameter.grad = gradient
            return loss.clone()

        return replay
