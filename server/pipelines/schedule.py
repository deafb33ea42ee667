"""Few-step sampling as a table of numbers, so that a captured graph can do it from tensors.

A step of every sampler here is linear in the latents, the network's output and fresh noise. Consistency models (LCM,
Luo et al. 2023, and what is distilled like it) go to the clean latents and noise them anew; all others follow the
probability flow's ODE in first-order steps (DDIM, Song et al. 2021; Euler in σ is the same thing), which is what turbo
and Lightning models are made for. With strength below 1 the whole schedule moves to lower noise, however few steps it
has, so that strength acts smoothly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_euler_ancestral_discrete import EulerAncestralDiscreteScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_lcm import LCMScheduler

from . import schedulers
from .loading import Model

_SIGMA_DATA = 0.5
"""LCM's boundary condition (its scheduler's constant)."""
FIRST_ORDER = ("ddim", "euler", "lcm")


@dataclass(frozen=True)
class Schedule:
    """All numbers of one frame."""

    timesteps: torch.Tensor
    """float32 (steps,)."""
    start: torch.Tensor
    """float32 (2,): the first latents are start[0] · image's latents + start[1] · noise."""
    table: torch.Tensor
    """float32 (steps, 7), a row a step: next latents from latents, output, noise; then for guidance a perfect network's
    output from latents and the clean latents that it would see; then the clean latents from latents and output."""


def make_schedule(model: Model, name: str, steps: int, strength: float) -> Schedule:
    """The schedule of `steps` steps from noise that `strength` (0…1] leaves of the start image nothing to all.

    `name` is one of parameters.SCHEDULERS; "default" is what suits the model. Methods of higher order need more steps
    than a stream has: DDIM takes their place.
    """
    name = str(model.entry.defaults.get("scheduler", name)) if name == "default" else name
    own: Any = model.scheduler_class
    if name not in FIRST_ORDER and not (
        name == "default" and issubclass(own, LCMScheduler | DDIMScheduler | EulerDiscreteScheduler)
    ):
        name = "ddim"
    # Few steps have to begin at pure noise (“trailing”, Lin et al. 2024), whatever many steps of the model begin at.
    config = {**model.scheduler_config, "timestep_spacing": "trailing"}
    scheduler = schedulers.make_scheduler(name, own, config, steps, torch.device("cpu"))
    alphas = scheduler.alphas_cumprod.double()
    times = (scheduler.timesteps.double() * strength).round().clamp(1, len(alphas) - 1)
    signal, noise = alphas[times.long()].sqrt(), (1 - alphas[times.long()]).sqrt()
    consistency = isinstance(scheduler, LCMScheduler)
    rows = []
    for step in range(len(times)):
        a, s = float(signal[step]), float(noise[step])
        last = step == len(times) - 1
        next_a, next_s = (1.0, 0.0) if last else (float(signal[step + 1]), float(noise[step + 1]))
        (cx, co), (nx, nc) = _clean(scheduler.config.prediction_type, a, s)
        if consistency:
            time = float(times[step]) * scheduler.config.timestep_scaling
            skip = _SIGMA_DATA**2 / (time**2 + _SIGMA_DATA**2)
            out = time / (time**2 + _SIGMA_DATA**2) ** 0.5
            rows.append((next_a * (skip + out * cx), next_a * out * co, next_s, nx, nc, cx, co))
        else:  # noise = (latents − a · clean) / s
            x, o = (1 - a * cx) / s * next_s + next_a * cx, (-a * co) / s * next_s + next_a * co
            rows.append((x, o, 0.0, nx, nc, cx, co))
    pure = 1.0
    if isinstance(scheduler, EulerDiscreteScheduler | EulerAncestralDiscreteScheduler):
        pure = float(scheduler.init_noise_sigma) / float(scheduler.sigmas[0] ** 2 + 1) ** 0.5
    start = (0.0, pure) if strength >= 1 else (float(signal[0]), float(noise[0]))
    return Schedule(times.float(), torch.tensor(start), torch.tensor(rows, dtype=torch.float32))


def _clean(kind: str, a: float, s: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Clean latents from latents and output, and a perfect network's output from latents and clean latents.

    With latents = a · clean + s · noise: the output is the noise (Ho et al. 2020), v = a · noise − s · clean (Salimans
    & Ho 2022), or the clean latents.
    """
    if kind == "v_prediction":
        return (a, -s), (a / s, -(a * a / s + s))
    if kind == "sample":
        return (0.0, 1.0), (0.0, 1.0)
    a = max(a, 1e-4)
    return (1 / a, -s / a), (1 / s, -a / s)
