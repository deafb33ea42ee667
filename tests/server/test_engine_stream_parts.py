"""Parts of the stream's engine by themselves: schedules, what moves the last frame, hints made on the device, noise."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch

from paintover.bridge.hints import make_hint
from paintover.bridge.parameters import CONTROLS
from paintover.server import models
from paintover.server.pipelines import loading
from paintover.server.pipelines.blending import slerp, warp, warp_matrix
from paintover.server.pipelines.live_hints import device_hint
from paintover.server.pipelines.schedule import make_schedule

from .tiny_models import make_passes

PASSES = make_passes(128, 128)


@pytest.mark.parametrize("name", ["ddim", "euler", "dpmpp_2m"])
def test_first_order_schedules_are_the_schedulers_own(name: str) -> None:
    """On the model of a perfect world, where the output is known, step by step against diffusers' own scheduler."""
    from paintover.server.pipelines import schedulers

    model = loading.shared_model(models.MINI, torch.device("cpu"), torch.float32, lambda share: None)
    schedule = make_schedule(model, name, 4, 1.0)
    own = "ddim" if name == "dpmpp_2m" else name
    scheduler = schedulers.make_scheduler(own, model.scheduler_class, model.scheduler_config, 4, torch.device("cpu"))
    assert torch.allclose(schedule.timesteps, scheduler.timesteps.float().round(), atol=1)
    generator = torch.Generator().manual_seed(1)
    noise, outputs = torch.randn(1, 4, 8, 8, generator=generator), torch.randn(4, 1, 4, 8, 8, generator=generator)
    theirs = noise * scheduler.init_noise_sigma
    ours = schedule.start[1] * noise
    for row, output, time in zip(schedule.table, outputs, scheduler.timesteps, strict=True):
        assert torch.allclose(scheduler.scale_model_input(theirs, time), ours, atol=2e-2), "what the network sees"
        theirs = scheduler.step(output, time, theirs, return_dict=False)[0]
        ours = row[0] * ours + row[1] * output
    assert torch.allclose(theirs, ours, atol=2e-2)


def centre(image: np.ndarray) -> np.ndarray:
    """Of what is bright: x to the right, y upward, in shares of the sides."""
    weights = image.astype(float).sum(-1) - image.astype(float).sum(-1).min()
    y, x = np.mgrid[0 : image.shape[0], 0 : image.shape[1]]
    middle = np.array([(x * weights).sum(), (y * weights).sum()]) / weights.sum()
    return np.array([middle[0] / image.shape[1] - 0.5, 0.5 - middle[1] / image.shape[0]])


def spot(x: float, y: float, side: int = 200) -> torch.Tensor:
    rows, columns = np.mgrid[0:side, 0:side]
    distance = (columns / side - 0.5 - x) ** 2 + (0.5 - rows / side - y) ** 2
    return torch.from_numpy(np.exp(-distance / 0.001).astype(np.float32)).expand(1, 3, -1, -1)


@pytest.mark.parametrize(
    ("move", "expected"),
    [
        ((1.0, 0.0, 0.1, 0.0), (0.3, 0.1)),
        ((1.0, 0.0, 0.0, 0.1), (0.2, 0.2)),
        ((1.5, 0.0, 0.0, 0.0), (0.3, 0.15)),
        ((1.0, 90.0, 0.0, 0.0), (-0.1, 0.2)),
        ((1.2, 90.0, 0.05, 0.0), (-0.07, 0.24)),
    ],
)
def test_the_last_frame_is_moved_as_asked(move: tuple[float, ...], expected: tuple[float, float]) -> None:
    picture = spot(0.2, 0.1)
    moved = warp(picture, warp_matrix(*move, picture.shape[-1] / picture.shape[-2]))
    image = (moved[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    assert np.allclose(centre(image), expected, atol=0.01)


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("normals", ["bae", "camera"])
def test_hints_made_on_the_device_are_numpys(control: str, normals: str) -> None:
    values = torch.from_numpy(np.array(getattr(PASSES, control)))
    hint = device_hint(values, control, normals)[0].permute(1, 2, 0).numpy()
    assert np.abs(hint - make_hint(PASSES, control, normals)).max() <= 1.01 / 255
    assert not device_hint(torch.full(PASSES.depth.shape, torch.inf), "depth", normals).any()


def test_slerp_keeps_the_variance_of_noise() -> None:
    a, b = torch.randn(2, 1, 4, 32, 32, generator=torch.Generator().manual_seed(1))
    assert abs(float(slerp(a, b, 0.5, dims=3).std()) - 1) < 0.02
    assert torch.equal(slerp(a, b, 0.0), a)
    assert torch.equal(slerp(a, b, 1.0), b)
    assert torch.allclose(slerp(a, a, 0.3), a, atol=1e-5)
