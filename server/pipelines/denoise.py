"""The denoising loop: from noise, or a noised picture, to finished latents.

On the CPU in float32 it computes exactly what the stock diffusers pipelines compute, bit for bit (a test compares
them). The latents and the scheduler are float32 everywhere and all noise is drawn on the CPU, so that a seed means
the same picture on every device, up to rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from . import schedulers
from .blending import Travel
from .conditioning import Conditioning
from .loading import Model
from .sharing import Shared, sharing


@dataclass(frozen=True)
class ActiveControl:
    """A ControlNet at work."""

    net: Any
    hint: torch.Tensor
    """(batch, 3, H, W) in 0…1."""
    scale: float
    start: float
    end: float

    def acts(self, step: int, steps: int) -> bool:
        """Whether it takes part in a step."""
        return acts(self, step, steps)


def acts(control: Any, step: int, steps: int) -> bool:
    """Whether what has a start and an end takes part in a step: only if the whole step lies within them."""
    return not (step / steps < control.start or (step + 1) / steps > control.end)


@dataclass(frozen=True)
class Start:
    """Where denoising starts, and what inpainting holds it to."""

    latents: torch.Tensor
    """float32 (1, channels, h, w)."""
    timesteps: torch.Tensor
    noise: torch.Tensor
    kept: torch.Tensor | None = None
    """Latents of the picture that the mask keeps; None if nothing is kept."""
    mask: torch.Tensor | None = None
    """(1, 1, h, w): 1 is painted."""
    extra: torch.Tensor | None = None
    """Mask and masked latents (1, 1 + channels, h, w) for UNets that were trained to inpaint (9 input channels)."""


@dataclass(frozen=True)
class Held:
    """Latents that the foreseen picture is held to in the first steps (x0 warping, as in Rerender-A-Video, Yang et al.
    2023, with exact correspondence in the place of flow)."""

    latents: torch.Tensor
    """float32 (1, channels, h, w)."""
    mask: torch.Tensor
    """(1, 1, h, w): 1 where they hold."""
    share: float
    """Of the steps."""


@dataclass(frozen=True)
class Prediction:
    """What the UNet says at one step."""

    output: torch.Tensor
    """Noise, v or clean latents, by the scheduler's prediction_type, with guidance applied."""
    clean: torch.Tensor
    """The finished latents that it foresees (x0)."""


def normalised(image: np.ndarray) -> torch.Tensor:
    """uint8 (H, W, 3) -> float32 (1, 3, H, W) in −1…1."""
    return 2.0 * torch.from_numpy((image.astype(np.float32) / 255.0)[None].transpose(0, 3, 1, 2)) - 1.0


def encode_image(model: Model, image: torch.Tensor, generator: torch.Generator | Travel) -> torch.Tensor:
    """Picture (1, 3, H, W) in −1…1 -> float32 latents, drawn from the VAE's distribution."""
    distribution = model.vae.encode(image.to(model.device, model.vae.dtype)).latent_dist
    noise = _noise(distribution.mean.shape, generator, model.device)
    return (distribution.mean.float() + distribution.std.float() * noise) * model.vae.config.scaling_factor


def _noise(shape: Any, generator: torch.Generator | Travel, device: torch.device) -> torch.Tensor:
    """float32 normal noise, drawn on the CPU: the same on every device."""
    if isinstance(generator, Travel):
        return generator.randn(shape).to(device)
    return torch.randn(shape, generator=generator, dtype=torch.float32).to(device)


def _start_noise(
    shape: tuple[int, ...], generator: torch.Generator | Travel, device: torch.device, given: np.ndarray | None
) -> torch.Tensor:
    """The noise that a picture starts from: what is given, where the model's latents are of that shape."""
    drawn = _noise(shape, generator, device)
    return drawn if given is None or given.shape != shape[1:] else torch.tensor(given, device=device)[None]


def remaining_timesteps(scheduler: Any, steps: int, strength: float) -> torch.Tensor:
    """The last `strength` share of the timesteps; tells the scheduler where it begins."""
    begin = (steps - min(int(steps * strength), steps)) * scheduler.order
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(begin)
    return scheduler.timesteps[begin:]


def start_from_noise(
    model: Model,
    scheduler: Any,
    width: int,
    height: int,
    generator: torch.Generator | Travel,
    given: np.ndarray | None = None,
) -> Start:
    """Text-to-image: pure noise; `given` (channels, h, w) instead of the generator's."""
    shape = (1, model.vae.config.latent_channels, height // model.scale_factor, width // model.scale_factor)
    noise = _start_noise(shape, generator, model.device, given)
    return Start(noise * scheduler.init_noise_sigma, scheduler.timesteps, noise)


def start_from_image(
    model: Model, scheduler: Any, timesteps: torch.Tensor, image: np.ndarray, generator: torch.Generator | Travel,
    given: np.ndarray | None = None,
) -> Start:  # fmt: skip
    """Image-to-image (SDEdit, Meng et al. 2021): the picture's latents, noised as far as the first timestep."""
    latents = encode_image(model, normalised(image), generator)
    noise = _start_noise(tuple(latents.shape), generator, model.device, given)
    return Start(scheduler.add_noise(latents, noise, timesteps[:1]), timesteps, noise)


def start_inpainting(
    model: Model, scheduler: Any, timesteps: torch.Tensor, image: np.ndarray, mask: np.ndarray, strength: float,
    generator: torch.Generator | Travel, given: np.ndarray | None = None,
) -> Start:  # fmt: skip
    """Inpainting: pure noise at strength 1, else the noised picture; the mask (uint8, > 127 is painted) says where.

    The order in which noise is drawn follows the stock pipelines.
    """
    picture = normalised(image)
    painted = torch.from_numpy((mask > 127).astype(np.float32))[None, None]
    for_inpainting = model.unet.config.in_channels == 9
    latents = None
    if strength < 1 or not for_inpainting:
        # Contiguous, as the stock pipelines have it: the memory layout decides how convolutions round.
        latents = encode_image(model, picture, generator).contiguous()
    shape = (1, model.vae.config.latent_channels, *(side // model.scale_factor for side in mask.shape))
    noise = _start_noise(shape, generator, model.device, given)
    pure = noise * scheduler.init_noise_sigma
    begin = scheduler.add_noise(latents, noise, timesteps[:1]) if strength < 1 else pure
    small = torch.nn.functional.interpolate(painted, size=shape[-2:]).to(model.device)
    if for_inpainting:
        masked = encode_image(model, picture * (painted < 0.5), generator)
        return Start(begin, timesteps, noise, extra=torch.cat([small, masked], dim=1))
    # The stock pipelines encode the masked picture even for UNets that do not see it. That draws noise, which only
    # shows with schedulers that draw more later.
    _noise(shape, generator, model.device)
    return Start(begin, timesteps, noise, kept=latents, mask=small)


class Denoiser:
    """Makes the steps of one picture."""

    def __init__(
        self, model: Model, scheduler: Any, conditioning: Conditioning, controls: list[ActiveControl], guidance: float,
        start: Start, generator: torch.Generator | Travel, held: Held | None = None, shared: Shared | None = None,
    ) -> None:  # fmt: skip
        self._model, self._held, self._shared = model, held, shared
        self._scheduler = scheduler
        self._fresh = copy.deepcopy(scheduler)
        self._generator = generator
        self._conditioning = conditioning
        self._controls = controls
        self._guidance = guidance
        self._start = start
        self._options = schedulers.step_options(scheduler, generator)
        self._guided = len(conditioning.embeds) == 2
        self._guidance_embedding = guidance_embedding(model, guidance)
        self.steps = len(start.timesteps)
        self.start = start.latents
        """What denoising begins with: (1, channels, h, w)."""

    def predict(self, latents: torch.Tensor, step: int) -> Prediction:
        """What the UNet, steered by the ControlNets, says about latents (1, channels, h, w) at a step."""
        t = self._start.timesteps[step]
        model_input = self._scheduler.scale_model_input(latents, t)
        if self._shared:
            others = self._scheduler.add_noise(self._shared.latents, self._shared.noise, t[None])
            rows = torch.cat([model_input, self._scheduler.scale_model_input(others, t)])
        else:
            rows = model_input
        batch = torch.cat([rows] * len(self._conditioning.embeds)).to(self._model.dtype)
        output = self._output(batch, t, step)
        if self._guided:  # classifier-free guidance (Ho & Salimans 2022)
            negative, positive = output.chunk(2)
            output = negative + self._guidance * (positive - negative)
        clean = schedulers.clean_latents(self._scheduler, model_input, output, t)
        if self._held and step < self._held.share * self.steps:
            clean = torch.lerp(clean, self._held.latents, self._held.mask)
            output = schedulers.prediction_of(self._scheduler, model_input, clean, t)
        return Prediction(output, clean)

    def begin_at(self, step: int, seed: int) -> None:
        """Go on at a step as if nothing had been before: what a method remembers of earlier steps is forgotten, and
        noise that it draws depends on seed and step alone."""
        self._scheduler = copy.deepcopy(self._fresh)
        if hasattr(self._scheduler, "set_begin_index"):
            begin = self._scheduler.begin_index or 0
            self._scheduler.set_begin_index(begin + step * self._scheduler.order)
        self._generator.manual_seed(seed + step)
        self._options = schedulers.step_options(self._scheduler, self._generator)

    def foreseeing(self, clean: torch.Tensor, latents: torch.Tensor, step: int) -> Prediction:
        """The prediction for latents (1, channels, h, w) at a step that would foresee `clean`."""
        t = self._start.timesteps[step]
        model_input = self._scheduler.scale_model_input(latents, t)
        return Prediction(schedulers.prediction_of(self._scheduler, model_input, clean, t), clean)

    def _output(self, batch: torch.Tensor, t: torch.Tensor, step: int) -> torch.Tensor:
        """The UNet's output for the picture's own rows of a batch: one, or two with guidance."""
        group = self._shared.group if self._shared else 1
        embeds, added = self._conditioning.embeds, self._conditioning.added
        if group > 1:
            embeds = embeds.repeat_interleave(group, 0)
            added = {name: value.repeat_interleave(group, 0) for name, value in added.items()} if added else None
        down, mid = self._control_residuals(batch, embeds, added, t, step)
        if self._start.extra is not None:
            extra = torch.cat([self._start.extra] * len(batch)).to(batch.dtype)
            batch = torch.cat([batch, extra], dim=1)
        with sharing(self._model.unet, group):
            output: torch.Tensor = self._model.unet(
                batch,
                t,
                encoder_hidden_states=embeds,
                timestep_cond=self._guidance_embedding,
                down_block_additional_residuals=down,
                mid_block_additional_residual=mid,
                added_cond_kwargs=added,
                return_dict=False,
            )[0]
        return output[::group].float()

    def _control_residuals(
        self, batch: torch.Tensor, embeds: torch.Tensor, added: dict[str, torch.Tensor] | None, t: torch.Tensor,
        step: int,
    ) -> tuple[Any, Any]:  # fmt: skip
        """The summed residuals of the ControlNets that act at this step; (None, None) if none does."""
        down, mid = None, None
        for control in self._controls:
            if not control.acts(step, self.steps):
                continue
            more, middle = control.net(
                batch,
                t,
                encoder_hidden_states=embeds,
                controlnet_cond=control.hint,
                conditioning_scale=control.scale,
                added_cond_kwargs=added,
                return_dict=False,
            )
            down = more if down is None else [a + b for a, b in zip(down, more, strict=True)]
            mid = middle if mid is None else mid + middle
        return down, mid

    def advance(self, latents: torch.Tensor, prediction: Prediction, step: int) -> torch.Tensor:
        """The latents after a step. What the mask keeps is put back, noised as far as the next step wants it."""
        start, t = self._start, self._start.timesteps[step]
        if isinstance(self._generator, Travel) and self._options:
            latents = self._generator.step(self._scheduler, prediction.output, t, latents)
        else:
            latents = self._scheduler.step(prediction.output, t, latents, **self._options, return_dict=False)[0]
        if start.kept is not None and start.mask is not None:
            kept = start.kept
            if step < self.steps - 1:
                kept = self._scheduler.add_noise(kept, start.noise, start.timesteps[step + 1 : step + 2])
            latents = (1 - start.mask) * kept + start.mask * latents
        return latents

    def run(self, before_step: Callable[[int], None], seen: Callable[[int, torch.Tensor], None]) -> torch.Tensor:
        """All steps; returns the finished latents.

        `before_step` gets each step's number and may raise to stop; `seen` gets the step and the latents foreseen.
        """
        latents = self.start
        for step in range(self.steps):
            before_step(step)
            prediction = self.predict(latents, step)
            seen(step, prediction.clean)
            latents = self.advance(latents, prediction, step)
        return latents


def guidance_embedding(model: Model, guidance: float) -> torch.Tensor | None:
    """For UNets with guidance distilled into them (Meng et al. 2022, LCM): the sinusoidal embedding of its scale."""
    width = model.unet.config.time_cond_proj_dim
    if width is None:
        return None
    half = width // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * -(torch.log(torch.tensor(10000.0)) / (half - 1)))
    angles = (guidance - 1) * 1000.0 * frequencies
    embedding = torch.cat([angles.sin(), angles.cos()])
    return torch.nn.functional.pad(embedding, (0, width % 2))[None].to(model.device, model.dtype)


def decode(model: Model, latents: torch.Tensor) -> np.ndarray:
    """float32 (H, W, 3) in 0…1 of finished latents; NaN where the VAE fails."""
    decoder = model.decoder
    image = decoder.decode((latents / decoder.config.scaling_factor).to(decoder.dtype), return_dict=False)[0]
    return (image * 0.5 + 0.5).clamp(0, 1)[0].permute(1, 2, 0).float().cpu().numpy()
