"""One streamed frame as a single function over buffers that stay where they are: start, steps, decoder, smoothing.

Nothing in it depends on values that are known to Python only, nothing waits for the device, and no shape changes: on
CUDA and ROCm it is captured once as a graph and replayed as one launch; on the CPU the same function runs as it is. A
frame of another shape (size, steps, which ControlNets) has another FrameFunction.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from .blending import warp
from .live_hints import HintFunction
from .loading import Model
from .replay import replayable
from .schedule import Schedule

COMPILE = "PAINTOVER_COMPILE"
"""Environment variable: "1" has torch.compile fuse kernels within the graph, which takes minutes at first."""

UNGUIDED, RESIDUAL, NEGATIVE = "", "residual", "negative"
"""How guidance is had: not at all; against the start image's own noise, at no cost (residual CFG with self-negative, in
StreamDiffusion, Kodaira et al. 2023); against the negative prompt, asked once at the first step (one-time negative)."""


@dataclass(frozen=True)
class Shape:
    """What a FrameFunction is made for."""

    width: int
    height: int
    steps: int
    controls: tuple[str, ...]
    from_image: bool
    guidance: str
    in_flight: bool = False
    """As many frames as there are steps are under way, each at another step (stream batch, Kodaira et al. 2023)."""
    loras: tuple[int, ...] = ()
    """Which take part (loras.Loras.numbers). How much they count may change."""


class Buffers:
    """What a frame is painted from. Fill them in place: their addresses are part of the graph."""

    def __init__(self, model: Model, shape: Shape, embeds: torch.Tensor, added: dict[str, torch.Tensor] | None) -> None:
        device, dtype = model.device, model.dtype
        cells = model.vae.config.latent_channels, shape.height // model.scale_factor, shape.width // model.scale_factor

        def zeros(*size: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
            return torch.zeros(size, dtype=dtype, device=device)

        self.noise = zeros(shape.steps, *cells)
        self.timesteps, self.start, self.table = zeros(shape.steps), zeros(2), zeros(shape.steps, 7)
        prompts = 2 if shape.guidance == NEGATIVE else 1
        self.embeds = zeros(prompts, *embeds.shape[1:], dtype=dtype)
        self.added = added and {
            name: zeros(prompts, *value.shape[1:], dtype=value.dtype) for name, value in added.items()
        }
        """The negative prompt comes first, if it is there."""
        self.hints = {name: zeros(1, 3, shape.height, shape.width, dtype=dtype) for name in shape.controls}
        self.fill_hint = {
            name: HintFunction(name, model.entry.normals, hint, device) for name, hint in self.hints.items()
        }
        """Makes them from passes."""
        rows = shape.steps if shape.in_flight else 0
        self.rows, self.row_clean = zeros(rows, *cells), zeros(rows, *cells)
        """Of the frames under way, the newest first: their latents, and the clean latents of their starts."""
        self.row_hints = {name: zeros(rows, 3, shape.height, shape.width, dtype=dtype) for name in shape.controls}
        """Each keeps its own control image."""
        self.scales = {name: zeros(1, dtype=dtype) for name in shape.controls}
        self.guidance = zeros(1)
        distilled = model.unet.config.time_cond_proj_dim
        self.guidance_embedding = zeros(1, distilled, dtype=dtype) if distilled else None
        """For UNets that have guidance distilled into them."""
        self.source = zeros(1, 3, shape.height, shape.width)
        """The start image in 0…1."""
        self.feedback, self.warp = zeros(1), zeros(1, 2, 3)
        """Share of the last frame in the start image, and how it is moved."""
        self.smooth = zeros(1)
        self.shown = zeros(1, 3, shape.height, shape.width)
        """The last frame, in 0…1, smoothing included. The function updates it."""
        self.pixels = zeros(shape.height, shape.width, 3, dtype=torch.uint8)
        self.sound = zeros(1, dtype=torch.bool)
        """Whether all of the frame's values are numbers."""
        self.moved = zeros(1)
        """The largest change of a value since the last frame."""

    def set_schedule(self, schedule: Schedule) -> None:
        for mine, value in ((self.timesteps, schedule.timesteps), (self.start, schedule.start),
                            (self.table, schedule.table)):  # fmt: skip
            mine.copy_(value)


class FrameFunction:
    """Paints from its buffers: `run()` fills `buffers.pixels`. `run(reuse=True)` keeps the ControlNets' residuals."""

    def __init__(self, model: Model, shape: Shape, buffers: Buffers) -> None:
        self.shape, self.buffers = shape, buffers
        self._model = model
        self.network_seconds = 0.0
        """What the last run's networks took; on the CPU alone, where it can be told."""
        compiled = os.environ.get(COMPILE) == "1" and model.device.type == "cuda"
        wrap: Callable[[Any], Any] = _compiled if compiled else self._timed
        self._unet = wrap(model.unet)
        self._nets = {name: wrap(model.controlnets[name]) for name in shape.controls}
        self._decode, self._encode = self._timed(model.decoder.decode), self._timed(model.vae.encode)
        self._residuals: list[tuple[list[torch.Tensor], torch.Tensor] | None] = [None] * shape.steps
        self._replays: dict[bool, Callable[[], None]] = {}
        self._look: Callable[[], None] = lambda: None

    @torch.no_grad()
    def run(self, reuse: bool = False, look: Callable[[], None] = lambda: None) -> None:
        """Paint. With `reuse` the residuals are those of the last run without.

        On the CPU `look` is called before each network. It may raise, but where frames overlap: the last frame is still
        there then, its residuals are not.
        """
        self._look = look
        reuse = reuse and bool(self.shape.controls) and not self.shape.in_flight
        if reuse not in self._replays:
            b = self.buffers  # what the warm-up paints is nobody's last frame
            kept = b.shown, b.rows, b.row_clean, *b.row_hints.values()
            self._replays[reuse] = replayable(lambda: self._paint(reuse), self._model.device, kept)
        self.network_seconds = 0.0
        self._replays[reuse]()

    def _timed(self, part: Any) -> Any:
        if self._model.device.type != "cpu":
            return part

        def call(*arguments: Any, **options: Any) -> Any:
            self._look()
            begun = time.perf_counter()
            result = part(*arguments, **options)
            self.network_seconds += time.perf_counter() - begun
            return result

        return call

    # ------------------------------------------------------------ the frame

    def _paint(self, reuse: bool) -> None:
        if self.shape.in_flight:
            self._paint_rows()
            return
        b = self.buffers
        clean = self._start_image() if self.shape.from_image else torch.zeros_like(b.noise[:1])
        latents = b.start[0] * clean + b.start[1] * b.noise[:1]
        for step in range(self.shape.steps):
            latents = self._step(latents, clean, step, reuse)
            if step == 0 and self.shape.guidance == NEGATIVE:
                latents, clean = latents
        self._finish(latents)

    def _paint_rows(self) -> None:
        """One step of every frame under way: a new one enters, the oldest is finished."""
        b, count, table = self.buffers, self.shape.steps, self.buffers.table.reshape(self.shape.steps, 7, 1, 1, 1)
        clean = self._start_image() if self.shape.from_image else torch.zeros_like(b.noise[:1])
        b.rows[:1].copy_(b.start[0] * clean + b.start[1] * b.noise[:1])
        b.row_clean[:1].copy_(clean)
        for name, hints in b.row_hints.items():
            hints[:1].copy_(b.hints[name])
        batch, embeds = b.rows.to(self._model.dtype), b.embeds.expand(count, -1, -1)
        added = b.added and {name: value.expand(count, *value.shape[1:]) for name, value in b.added.items()}
        down, middle = self._control(batch, b.timesteps, embeds, added, b.row_hints)
        output = self._denoise(batch, b.timesteps, embeds, added, down, middle)
        if self.shape.guidance:
            virtual = table[:, 3] * b.rows + table[:, 4] * b.row_clean
            output = virtual + b.guidance * (output - virtual)
        following = table[:, 0] * b.rows + table[:, 1] * output
        following[:-1] += table[:-1, 2] * b.noise[1:]
        for rows, moved in ((b.rows, following), (b.row_clean, b.row_clean), *((h, h) for h in b.row_hints.values())):
            rows[1:].copy_(moved[:-1].clone())
        self._finish(following[-1:])

    def _start_image(self) -> torch.Tensor:
        """Clean latents of the source and the last frame, mixed and moved."""
        b, vae = self.buffers, self._model.vae
        image = torch.lerp(b.source, warp(b.shown, b.warp), b.feedback)
        encoded = self._encode((image * 2 - 1).to(vae.dtype)).latent_dist.mean
        return encoded.float() * vae.config.scaling_factor

    def _step(self, latents: torch.Tensor, clean: torch.Tensor, step: int, reuse: bool) -> Any:
        """The latents after a step; with a negative prompt the first one also gives the clean latents to keep off."""
        b = self.buffers
        row, asks_negative = b.table[step], self.shape.guidance == NEGATIVE and step == 0
        output = self._predict(latents, step, len(b.embeds) if asks_negative else 1, reuse)
        if asks_negative:
            negative, output = output.chunk(2)
            clean = row[5] * latents + row[6] * negative
        if self.shape.guidance:
            virtual = row[3] * latents + row[4] * clean
            output = virtual + b.guidance * (output - virtual)
        following = row[0] * latents + row[1] * output
        if step + 1 < self.shape.steps:
            following = following + row[2] * b.noise[step + 1 : step + 2]
        return (following, clean) if asks_negative else following

    def _predict(self, latents: torch.Tensor, step: int, count: int, reuse: bool) -> torch.Tensor:
        """float32: what the UNet, steered by the ControlNets, says; `count` prompts, the last of the buffer's."""
        b, dtype = self.buffers, self._model.dtype
        batch = latents.to(dtype).expand(count, -1, -1, -1)
        embeds = b.embeds[-count:]
        added = b.added and {name: value[-count:] for name, value in b.added.items()}
        time = b.timesteps[step]
        if not reuse and self._nets:
            hints = {name: hint.expand(count, -1, -1, -1) for name, hint in b.hints.items()}
            self._keep(step, self._control(batch, time, embeds, added, hints))
        down, middle = self._residuals[step] or (None, None)
        return self._denoise(batch, time, embeds, added, down, middle)

    def _denoise(self, batch: torch.Tensor, time: torch.Tensor, embeds: torch.Tensor, added: Any, down: Any,
                 middle: Any) -> torch.Tensor:  # fmt: skip
        """float32: what the UNet says."""
        condition = self.buffers.guidance_embedding
        return self._unet(
            batch, time, encoder_hidden_states=embeds, added_cond_kwargs=added,
            timestep_cond=None if condition is None else condition.expand(len(batch), -1),
            down_block_additional_residuals=down, mid_block_additional_residual=middle, return_dict=False,
        )[0].float()  # fmt: skip

    def _control(
        self, batch: torch.Tensor, time: torch.Tensor, embeds: torch.Tensor, added: Any, hints: dict[str, torch.Tensor]
    ) -> Any:
        """The summed residuals of the ControlNets; (None, None) without any."""
        b, down, middle = self.buffers, None, None
        for name, net in self._nets.items():
            more, mid = net(
                batch, time, encoder_hidden_states=embeds, added_cond_kwargs=added,
                controlnet_cond=hints[name], conditioning_scale=b.scales[name],
                return_dict=False,
            )  # fmt: skip
            down = list(more) if down is None else [a + b for a, b in zip(down, more, strict=True)]
            middle = mid if middle is None else middle + mid
        return down, middle

    def _keep(self, step: int, residuals: Any) -> None:
        """Have residuals in memory that stays."""
        kept = self._residuals[step]
        if kept is None:
            self._residuals[step] = ([value.clone() for value in residuals[0]], residuals[1].clone())
            return
        for mine, value in zip([*kept[0], kept[1]], [*residuals[0], residuals[1]], strict=True):
            mine.copy_(value)

    def _finish(self, latents: torch.Tensor) -> None:
        """Decode, smooth, and turn into pixels."""
        b, decoder = self.buffers, self._model.decoder
        image = self._decode((latents / decoder.config.scaling_factor).to(decoder.dtype), return_dict=False)[0]
        image = image.float().mul_(0.5).add_(0.5).clamp_(0, 1)
        b.sound.copy_(torch.isfinite(image.sum())[None])  # of values in 0…1, so it is finite unless one is no number
        # A frame that failed must not stay in what follows.
        image = torch.where(b.sound, torch.lerp(image, b.shown, b.smooth), b.shown)
        b.moved.copy_((image - b.shown).abs().max()[None])
        b.shown.copy_(image)
        b.pixels.copy_(image[0].mul_(255).round_().permute(1, 2, 0))


def _compiled(part: Any) -> Any:
    # In its default mode: graphs are captured around the whole frame, so the compiler is to make none of its own.
    return torch.compile(part, fullgraph=True, dynamic=False)
