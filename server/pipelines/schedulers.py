"""The sampling methods of parameters.SCHEDULERS, made from a model's own scheduler configuration."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_euler_ancestral_discrete import EulerAncestralDiscreteScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_lcm import LCMScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

from paintover.bridge.errors import BadParameter

_CLASSES: dict[str, Any] = {
    "ddim": DDIMScheduler,
    "euler": EulerDiscreteScheduler,
    "euler_a": EulerAncestralDiscreteScheduler,
    "dpmpp_2m": DPMSolverMultistepScheduler,
    "unipc": UniPCMultistepScheduler,
    "lcm": LCMScheduler,
}


def make_scheduler(name: str, own_class: Any, config: Mapping[str, Any], steps: int, device: torch.device) -> Any:
    """A fresh diffusers scheduler with its timesteps set; "default" is the model's own class.

    BadParameter if the method cannot take that many steps.
    """
    scheduler = (own_class if name == "default" else _CLASSES[name]).from_config(config)
    try:
        scheduler.set_timesteps(steps, device=device)
    except ValueError as error:
        raise BadParameter(
            name="steps", reason=f"{steps} steps do not suit the scheduler {name!r} ({error})", hint="Use fewer steps."
        ) from error
    return scheduler


def step_options(scheduler: Any, generator: Any) -> dict[str, Any]:
    """What `scheduler.step` takes besides the prediction: the generator, where the method adds noise of its own."""
    return {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}


def clean_latents(scheduler: Any, model_input: torch.Tensor, prediction: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The finished latents that the UNet foresees at timestep `t` (x0), as float32.

    `model_input` is what the UNet saw: variance-preserving for every scheduler, since scale_model_input makes it so.
    With α² = alphas_cumprod[t] and σ² = 1 − α²: (x − σ ε) / α (Ho et al. 2020), or α x − σ v (Salimans & Ho 2022).
    """
    alpha, sigma = _alpha_sigma(scheduler, t)
    kind = scheduler.config.prediction_type
    if kind == "v_prediction":
        return alpha * model_input - sigma * prediction
    if kind == "sample":
        return prediction
    return (model_input - sigma * prediction) / alpha


def prediction_of(scheduler: Any, model_input: torch.Tensor, clean: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """What the UNet would have to say for `clean` to be foreseen: the inverse of `clean_latents`."""
    alpha, sigma = _alpha_sigma(scheduler, t)
    kind = scheduler.config.prediction_type
    if kind == "v_prediction":
        return (alpha * model_input - clean) / sigma
    if kind == "sample":
        return clean
    return (model_input - alpha * clean) / sigma


def _alpha_sigma(scheduler: Any, t: torch.Tensor) -> tuple[float, float]:
    index = t.round().long().clamp(0, len(scheduler.alphas_cumprod) - 1).cpu()
    alpha2 = float(scheduler.alphas_cumprod[index])
    return max(alpha2, 1e-8) ** 0.5, max(1 - alpha2, 1e-8) ** 0.5
