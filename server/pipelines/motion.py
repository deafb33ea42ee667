"""Frames of a clip, painted together by a motion module: AnimateDiff (Guo et al. 2024), steered by ControlNets.

A clip is painted in windows of 16 frames, for which motion modules are trained. Each window begins with the last frames
of the one before: their foreseen pictures are held to what that one made of them, less and less from frame to frame, so
that windows go over into each other. (Contexts that overlap and are blended are an idea of AnimateDiff-Evolved; there
all windows are painted at once, here one after the other, so that memory does not depend on the clip's length.) What a
window goes on from is the finished latents of those few frames. Noise comes again in every window in another order, as
in FreeNoise (Qiu et al. 2024), which keeps a long clip's look.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.unets.unet_motion_model import MotionAdapter, UNetMotionModel

from paintover.bridge.errors import BadModelFile, BadParameter
from paintover.bridge.hints import make_hint
from paintover.bridge.loras import Lora, parse
from paintover.bridge.messages import Generate

from .. import extras, model_files
from ..model_files import SD15
from . import denoise, loading, schedulers
from .blending import slerp
from .conditioning import Conditioning
from .loading import Model
from .loras import Loras
from .trouble import bad_file

WINDOW = 16
"""Frames that are painted together."""
OVERLAP = 4
"""Of them, those that the window before has painted already."""
TRAINED_ON = {"beta_schedule": "linear", "clip_sample": False}
"""What motion modules for Stable Diffusion 1.5 have been trained with, other than the model itself."""


def check(model: Model) -> None:
    """BadParameter unless there are motion modules for a model's kind."""
    reason, config = "", model.unet.config
    if model.entry.family != SD15:
        reason = f"there are motion modules for {SD15} only, and {model.entry.name} is of {model.entry.family}"
    elif config.in_channels != model.vae.config.latent_channels:
        reason = f"{model.entry.name} was trained to inpaint, and motion modules were not"
    elif config.addition_embed_type is not None or config.resnet_time_scale_shift != "default":  # as mini
        reason = f"{model.entry.name} is built otherwise than Stable Diffusion 1.5, which motion modules are for"
    if reason:
        hint = f"Choose a plain {SD15} model, or leave Motion empty."
        raise BadParameter(name="animate_motion", reason=reason, hint=hint)


def load(model: Model, name: str) -> Model:
    """The model with a motion adapter in its UNet; all other weights are the model's own, and not copied.

    MissingModel, BadModelFile, BadParameter for a model that there are no motion modules for.
    """
    check(model)
    path = Path(extras.motion(name).path)
    model_files.check_extra(path, "motion")
    with loading.alone:
        adapter = loading.component(MotionAdapter, path, model.dtype)
    if adapter.config.conv_in_channels:
        raise BadModelFile(name=path.name, reason="it is made for another kind of UNet (PIA)")
    if adapter.config.motion_max_seq_length < WINDOW:
        reason = f"it knows clips of {adapter.config.motion_max_seq_length} frames, not of {WINDOW}"
        raise BadModelFile(name=path.name, reason=reason)
    own = model.unet.state_dict()
    weights = {key.replace(".base_layer.", "."): value for key, value in own.items() if ".lora_" not in key}
    with loading.alone, bad_file(path.name):
        with torch.device("meta"):  # no memory is taken: all weights are assigned
            unet = UNetMotionModel.from_unet2d(model.unet, adapter, load_weights=False)
        adapter.to(model.device)
        unet.load_state_dict({**weights, **adapter.state_dict()}, strict=True, assign=True)
        loading.ready(unet, model.device)
    return replace(model, unet=unet, loras=Loras(), motions={})


def clip_noise(shape: tuple[int, ...], seeds: Sequence[tuple[int, float]], place: int) -> torch.Tensor:
    """float32 (1, channels, frames, h, w): the noise of frames with these seeds and seed travels, from `place` on.

    `shape`: (channels, h, w). The first window's is what the stock pipeline draws, each later one a reordering of it.
    """

    @functools.cache
    def drawn(seed: int) -> torch.Tensor:
        return torch.randn((1, shape[0], WINDOW, *shape[1:]), generator=torch.Generator("cpu").manual_seed(seed))

    frames = []
    for one, (seed, travel) in enumerate(seeds, place):
        turn, index = divmod(one, WINDOW)
        if turn:
            index = int(torch.randperm(WINDOW, generator=torch.Generator("cpu").manual_seed(turn))[index])
        noise = drawn(seed)[:, :, index]
        frames.append(slerp(noise, drawn((seed + 1) % 2**31)[:, :, index], travel, dims=3) if travel else noise)
    return torch.stack(frames, 2)


class Window:
    """The frames of one window, and the loop that paints them."""

    def __init__(
        self, model: Model, requests: Sequence[Generate], place: int, carried: Sequence[torch.Tensor],
        encode: Callable[[Generate], Conditioning],
    ) -> None:  # fmt: skip
        """`place`: of the first frame in the clip. `carried`: finished latents (1, channels, h, w) of the first few,
        from the window before. `encode` gives a frame's conditioning, all of them with a negative prompt or none.

        Steps, scheduler, strength and what is drawn at the steps are those of the first frame, the LoRAs those of the
        model; everything else may be another in each.
        """
        settings = requests[0].settings
        self._model, self._requests, self._count = model, requests, len(requests)
        embedded = [encode(request).embeds for request in requests]
        self._rows = len(embedded[0])
        self._embeds = torch.cat([one[row : row + 1] for row in range(self._rows) for one in embedded])
        config = {**model.scheduler_config, **TRAINED_ON}
        self._scheduler = schedulers.make_scheduler(
            settings.scheduler, model.scheduler_class, config, settings.steps, model.device
        )
        factor = model.scale_factor
        shape = (model.vae.config.latent_channels, requests[0].height // factor, requests[0].width // factor)
        seeds = [(request.settings.seed, request.settings.seed_travel) for request in requests]
        noise = clip_noise(shape, seeds, place).to(model.device)
        # As the stock pipeline: what is drawn at the steps comes behind the noise of the beginning.
        self._generator = torch.Generator("cpu").manual_seed((settings.seed + place) % 2**31)
        torch.randn(noise.shape, generator=self._generator)
        self._options = schedulers.step_options(self._scheduler, self._generator)
        self.timesteps = denoise.remaining_timesteps(self._scheduler, settings.steps, settings.strength)
        self._latents = self._begin(noise)
        self._controls = self._with_hints()
        guidance = torch.tensor([request.settings.guidance for request in requests], device=model.device)
        self._guidance = guidance.reshape(1, 1, -1, 1, 1)
        self._carried = torch.cat([one[:, :, None] for one in carried], 2).to(model.device) if carried else None
        held = torch.arange(len(carried), 0, -1, device=model.device) / (len(carried) + 1)
        self._held = held.reshape(1, 1, -1, 1, 1)

    def paint(
        self, before_step: Callable[[int], None], seen: Callable[[int, torch.Tensor], None]
    ) -> list[torch.Tensor]:
        """All steps; float32 finished latents (1, channels, h, w) of each frame.

        `before_step` gets each step's number and may raise to stop; `seen` the step and the middle frame as foreseen.
        """
        latents = self._latents
        for step, t in enumerate(self.timesteps):
            before_step(step)
            model_input = self._scheduler.scale_model_input(latents, t)
            output = self._output(model_input, t, step)
            clean = schedulers.clean_latents(self._scheduler, model_input, output, t)
            if self._carried is not None:
                count = self._carried.shape[2]
                clean[:, :, :count] = torch.lerp(clean[:, :, :count], self._carried, self._held)
                held = schedulers.prediction_of(self._scheduler, model_input, clean, t)
                output = torch.cat([held[:, :, :count], output[:, :, count:]], 2)
            seen(step, clean[:, :, self._count // 2])
            latents = self._scheduler.step(output, t, latents, **self._options, return_dict=False)[0]
        return [latents[:, :, frame].float() for frame in range(self._count)]

    def _begin(self, noise: torch.Tensor) -> torch.Tensor:
        """(1, channels, frames, h, w): noise, or the scene's own pictures, noised as far as the first timestep."""
        settings = self._requests[0].settings
        if settings.strength == 1:
            return noise * self._scheduler.init_noise_sigma
        encoded = []
        for request in self._requests:
            if request.passes is None or request.passes.color is None:
                raise BadParameter(
                    name="strength",
                    reason="it is below 1, but there is no picture to paint over",
                    hint="Set Strength to 1, or send the scene's own render with the frames.",
                )
            image = denoise.normalised(request.passes.color[..., :3])
            generator = torch.Generator("cpu").manual_seed(settings.seed)
            encoded.append(denoise.encode_image(self._model, image, generator))
        latents = torch.stack(encoded, 2)
        if len(self.timesteps):  # else nothing is to be painted over
            latents = self._scheduler.add_noise(latents, noise, self.timesteps[:1])
        return latents

    def _with_hints(self) -> list[tuple[Any, torch.Tensor, list[Any]]]:
        """The ControlNets: net, hints (rows · frames, 3, H, W), and each frame's Control (None: it does not act)."""
        found = []
        if any(request.passes is None for request in self._requests):
            return []
        frames = [{one.name: one for one in request.settings.controls if one.scale > 0} for request in self._requests]
        for name in dict.fromkeys(name for controls in frames for name in controls):
            entry, hints = self._model.entry, []
            for request in self._requests:
                assert request.passes is not None
                limits = request.settings.depth_limits
                hints.append(make_hint(request.passes, name, entry.normals, entry.lines, limits))
            rows = np.ascontiguousarray(np.stack(hints).transpose(0, 3, 1, 2))
            tensor = torch.from_numpy(rows).to(self._model.device, self._model.dtype)
            net = self._model.controlnets[name]
            found.append((net, torch.cat([tensor] * self._rows), [controls.get(name) for controls in frames]))
        return found

    def _output(self, model_input: torch.Tensor, t: torch.Tensor, step: int) -> torch.Tensor:
        """float32 (1, channels, frames, h, w): what the UNet says, with guidance."""
        batch = torch.cat([model_input] * self._rows).to(self._model.dtype)
        down, middle = self._residuals(batch.transpose(1, 2).flatten(0, 1), t, step)
        output = self._model.unet(
            batch, t, encoder_hidden_states=self._embeds,
            timestep_cond=denoise.guidance_embedding(self._model, self._requests[0].settings.guidance),
            down_block_additional_residuals=down, mid_block_additional_residual=middle, return_dict=False,
        )[0].float()  # fmt: skip
        if self._rows == 1:
            return output
        negative, positive = output.chunk(2)
        return negative + self._guidance * (positive - negative)

    def _residuals(self, batch: torch.Tensor, t: torch.Tensor, step: int) -> tuple[Any, Any]:
        """The summed residuals of the ControlNets that act on any frame at this step; (None, None) if none does."""
        down, middle = None, None
        for net, hints, controls in self._controls:
            scales = [one.scale if one and denoise.acts(one, step, len(self.timesteps)) else 0.0 for one in controls]
            if not any(scales):
                continue
            scale = torch.tensor(scales * self._rows, device=batch.device, dtype=batch.dtype).reshape(-1, 1, 1, 1)
            more, mid = net(
                batch, t, encoder_hidden_states=self._embeds, controlnet_cond=hints, conditioning_scale=scale,
                return_dict=False,
            )  # fmt: skip
            down = more if down is None else [a + b for a, b in zip(down, more, strict=True)]
            middle = mid if middle is None else middle + mid
        return down, middle


def mean_loras(requests: Sequence[Generate]) -> list[Lora]:
    """The LoRAs of a window, which has one weight for each: the mean of its frames'."""
    weights: dict[str, float] = {}
    for request in requests:
        for one in parse(request.settings.lora):
            weights[one.name] = weights.get(one.name, 0.0) + one.weight / len(requests)
    return [Lora(name, weight) for name, weight in weights.items()]
