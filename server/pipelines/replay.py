"""Work on tensors that stay where they are, to be done again and again: on CUDA and ROCm captured once as a graph and
replayed as one launch; on other devices done as it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

WARM_UPS = 2
"""Runs before a graph is captured: libraries choose their kernels in them."""


def replayable(work: Callable[[], None], device: torch.device, kept: Sequence[torch.Tensor] = ()) -> Callable[[], None]:
    """What does `work` when it is called. `kept` tensors have their values of before afterwards: to capture work, it is
    run."""
    if device.type != "cuda":
        return work
    before = [value.clone() for value in kept]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        work()
    for value, old in zip(kept, before, strict=True):
        value.copy_(old)
    return graph.replay
