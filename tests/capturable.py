"""Shows on the CPU that work on tensors can be captured as a CUDA graph."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

HOST = ("_local_scalar_dense", "nonzero", "masked_select", "lift_fresh", "is_nonzero", "_unique2", "equal")
"""Operations that read a tensor's values, or make one from Python's: a graph cannot be captured around them."""


class Capturable(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masked = name in ("index", "index_put_") and any(
            one is not None and one.dtype == torch.bool for one in (args[1] or ())
        )
        if name in HOST or masked:
            raise AssertionError(f"{func} cannot be captured")
        return func(*args, **(kwargs or {}))
