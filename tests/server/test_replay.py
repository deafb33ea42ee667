"""What is captured as a graph on a GPU waits for nothing and reads no values: shown here on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from paintover.bridge.live import LiveSettings
from paintover.bridge.parameters import CONTROLS
from paintover.bridge.prompts import Blend
from paintover.server.pipelines import frame
from paintover.server.pipelines.engine import DiffusersEngine
from paintover.server.pipelines.live_hints import device_hint
from paintover.server.worker_messages import StreamControl, StreamSettings

from .tiny_models import make_passes

PASSES = make_passes(128, 128)
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


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("normals", ["bae", "camera"])
def test_hints_can_be_captured(control: str, normals: str) -> None:
    values = torch.from_numpy(np.array(getattr(PASSES, control)))
    with Capturable():
        assert torch.isfinite(device_hint(values, control, normals)).all().shape == ()


@pytest.mark.parametrize("values", [
    {"steps": 1},
    {"steps": 2, "feedback_amount": 0.3},
    {"steps": 2, "in_flight": True},
    {"steps": 2, "guidance": 3.0, "negative_prompt": "rust"},
    {"steps": 1, "guidance": 3.0},
])  # fmt: skip
def test_frames_can_be_captured(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    captured = []

    def replayable(work: Callable[[], None], device: torch.device, kept: Any = ()) -> Callable[[], None]:
        def run() -> None:
            with Capturable():
                work()
            captured.append(work)

        return run

    monkeypatch.setattr(frame, "replayable", replayable)
    base: dict[str, Any] = {
        "model": "mini-turbo", "prompt": "brick", "seed": 3, "guidance": 1.0, "output_width": 128,
        "output_height": 128, "control_depth": True, "control_edge": True,
    }  # fmt: skip
    wanted = StreamSettings(1, LiveSettings(**{**base, **values}), (Blend("brick", 1.0),), 0)
    stream = DiffusersEngine("cpu").stream(lambda message: None)
    for _ in range(2):  # the second has a last frame
        assert stream.frame(StreamControl(1, PASSES), wanted, lambda: wanted) is not None
    assert captured
