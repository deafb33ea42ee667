"""Paints one request: loads what it needs, prepares the start, runs the denoising loop, decodes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from paintover.bridge import loras
from paintover.bridge.errors import BadParameter, ServerFailure
from paintover.bridge.hints import make_hint
from paintover.bridge.messages import Generate
from paintover.bridge.parameters import Control
from paintover.bridge.prompts import parse
from paintover.bridge.scene import Passes

from .. import models
from ..engine import Agree, Coherence, Held, Monitor, Painting, Reference, Unfinished
from . import blending, conditioning, denoise, loading, schedulers
from .loading import Model
from .preview import Previewer
from .sharing import Shared

log = logging.getLogger(__name__)

PREVIEW_STEPS = 2
"""A preview is shown after every so many steps."""

SEGMENT = 5
"""Pictures that are painted together can go on after every so many steps. There the sampling method begins anew, so
that the latents are all that has to be kept."""

# Shares of a request's progress at which its stages begin.
_PAINTING, _FINISHING = 0.1, 0.95


class Painter:
    """Keeps the model that was used last, with its ControlNets."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._device = device
        self._dtype = dtype
        self._model: Model | None = None
        self._previewer: Previewer | None = None
        self.held = Held()
        """What is loaded (device memory apart)."""

    @torch.no_grad()
    def hold(self, model: str, controls: Sequence[str]) -> None:
        """Load a model with its ControlNets ahead of a request for it; without a name: let go of what is loaded.

        MissingModel, BadModelFile, UnsupportedControl.
        """
        if not model:
            self._model, self._previewer, self.held = None, None, Held()
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            return
        loaded = self.have(model, controls, lambda share: None)
        if self._previewer is None:
            self._previewer = Previewer(loaded.vae, loaded.scale_factor)

    @torch.no_grad()
    def paint(
        self, request: Generate, monitor: Monitor, coherence: Coherence | None = None
    ) -> tuple[np.ndarray, dict[str, float]]:
        """float32 (H, W, 3) in 0…1 as the VAE decodes it, and the seconds of each stage.

        MissingModel, BadModelFile, UnsupportedControl, BadParameter, ServerFailure (not finite), Cancelled.
        """
        settings, clock = request.settings, Clock()
        image = _image_to_start_from(request)
        if image is not None and int(settings.steps * settings.strength) == 0:
            return image.astype(np.float32) / 255.0, clock.seconds  # nothing is to be painted over
        model = self._load(request, monitor)
        clock.stage("load")
        denoiser = _prepare(model, request, image, coherence or Coherence())
        clock.stage("encode")

        def before_step(step: int) -> None:
            monitor.check()
            share = _PAINTING + (_FINISHING - _PAINTING) * step / denoiser.steps
            monitor.progress(f"Step {step + 1} of {denoiser.steps}", share)

        def seen(step: int, clean: torch.Tensor) -> None:
            if step % PREVIEW_STEPS == PREVIEW_STEPS - 1:
                monitor.preview(self.preview(model, clean))

        latents = denoiser.run(before_step, seen)
        clock.stage("denoise")
        monitor.check()
        monitor.progress("Finishing", _FINISHING)
        picture = decode(model, latents)
        clock.stage("decode")
        return picture, clock.seconds

    @torch.no_grad()
    def paint_together(
        self, requests: Sequence[Generate], agree: Agree, monitor: Monitor, begin: Unfinished | None
    ) -> Iterator[Unfinished | Painting]:
        """See engine.Engine. The same errors as `paint`."""
        clock = Clock()
        model = self._load(requests[0], monitor)
        clock.stage("load")
        denoisers = [_prepare(model, request, _image_to_start_from(request), Coherence()) for request in requests]
        latents, steps, first = [denoiser.start for denoiser in denoisers], denoisers[0].steps, 0
        if begin:
            latents, first = [torch.tensor(array, device=model.device) for array in begin.latents], begin.step
        clock.stage("encode")
        for step in range(first, steps):
            if step and step % SEGMENT == 0:
                for number, denoiser in enumerate(denoisers):
                    denoiser.begin_at(step, requests[number].settings.seed)
                if step > first:
                    yield Unfinished(step, tuple(tensor.cpu().numpy() for tensor in latents))
            predictions = []
            for number, denoiser in enumerate(denoisers):
                monitor.check()
                share = (step + number / len(denoisers)) / steps
                monitor.progress(f"Step {step + 1} of {steps}", _PAINTING + (_FINISHING - _PAINTING) * share)
                predictions.append(denoiser.predict(latents[number], step))
            monitor.preview(self.preview(model, predictions[step % len(denoisers)].clean))
            foreseen = [prediction.clean[0].permute(1, 2, 0) for prediction in predictions]
            for number, agreed in enumerate(agree(step / steps, foreseen)):
                denoiser = denoisers[number]
                if agreed is not foreseen[number]:
                    # Contiguous, as the network is used to: a tenth quicker on CPUs.
                    clean = agreed.permute(2, 0, 1)[None].contiguous()
                    predictions[number] = denoiser.foreseeing(clean, latents[number], step)
                latents[number] = denoiser.advance(latents[number], predictions[number], step)
        clock.stage("denoise")
        monitor.progress("Finishing", _FINISHING)
        for finished in latents:
            monitor.check()
            picture = decode(model, finished)
            clock.stage("decode")
            yield Painting((picture * 255).round().astype(np.uint8), dict(clock.seconds))

    def _load(self, request: Generate, monitor: Monitor) -> Model:
        """The model that the request names, with the ControlNets that it needs."""

        def report(share: float) -> None:
            monitor.check()
            monitor.progress(f"Loading {request.settings.model}", share * _PAINTING)

        controls = [control.name for control in active_controls(request)]
        return self.have(request.settings.model, controls, report, request.settings.lora)

    def have(self, name: str, controls: Sequence[str], report: Callable[[float], None], lora: str = "") -> Model:
        """The model with these ControlNets and LoRAs, loaded where it is not. `report` gets the share, and may raise to
        stop."""
        entry = models.resolve(name)
        if self._model is None or self._model.entry != entry:
            self._model, self._previewer, self.held = None, None, Held()  # free its memory before the next takes it
            self._model = loading.shared_model(entry, self._device, self._dtype, report)
            log.info("Loaded %s on %s", entry.name, self._device)
        for control in controls:
            if control not in self._model.controlnets:
                report(1.0)
                loading.load_control(self._model, control)
        self._model.loras.use(self._model, loras.parse(lora), lambda: report(1.0))
        loading.weigh(self._model)
        self.held = Held(name, tuple(self._model.controlnets), self._model.size)
        return self._model

    def preview(self, model: Model, clean: torch.Tensor) -> np.ndarray:
        if self._previewer is None:
            self._previewer = Previewer(model.vae, model.scale_factor)
        return self._previewer.picture(clean)


def _image_to_start_from(request: Generate) -> np.ndarray | None:
    """The picture that is painted over, uint8 (H, W, 3); None where nothing is (text-to-image).

    It is the request's image, else the scene's own colours among its passes. At strength 1 it is ignored, unless a
    mask says what of it to keep.
    """
    if request.mask is not None:
        return request.image
    if request.settings.strength == 1:
        return None
    if request.image is not None:
        return request.image
    if request.passes is not None and request.passes.color is not None:
        return request.passes.color[..., :3]
    raise BadParameter(
        name="strength",
        reason="it is below 1, but there is no picture to paint over",
        hint="Set Strength to 1, or send the scene's own render with the request.",
    )


def active_controls(request: Generate) -> list[Control]:
    """The ControlNets that the request is steered by: none without passes, nor at scale 0."""
    if request.passes is None:
        return []
    return [control for control in request.settings.controls if control.scale > 0]


def _prepare(model: Model, request: Generate, image: np.ndarray | None, coherence: Coherence) -> denoise.Denoiser:
    """All that the loop needs: embedded prompts, scheduler, starting latents, hints."""
    settings = request.settings
    guided = settings.guidance > 1 and model.unet.config.time_cond_proj_dim is None
    embedded = encode(model, settings.prompt, settings.negative_prompt, request.width, request.height, guided)
    scheduler = schedulers.make_scheduler(
        settings.scheduler, model.scheduler_class, model.scheduler_config, settings.steps, model.device
    )
    generator = blending.source(settings.seed, settings.seed_travel)
    start = _start(model, scheduler, request, image, generator, coherence.noise)
    references = () if start.extra is not None else coherence.references
    seen_by = [request.passes, *(reference.passes for reference in references)]
    controls = _with_hints(model, request, seen_by, len(embedded.embeds))
    return denoise.Denoiser(
        model, scheduler, embedded, controls, settings.guidance, start, generator, _held(model, coherence),
        _shared(model, references, settings.seed),
    )  # fmt: skip


def encode(
    model: Model, prompt: str, negative: str, width: int, height: int, guided: bool
) -> conditioning.Conditioning:
    """The conditioning of a prompt, or between several with weights (see conditioning.encode)."""
    return blending.between([
        (conditioning.encode(model, one.text, negative, width, height, guided), one.weight) for one in parse(prompt)
    ])  # fmt: skip


def _held(model: Model, coherence: Coherence) -> denoise.Held | None:
    """What the picture is held to. A latent cell is held only where all of it is known."""
    if coherence.image is None or coherence.known is None or coherence.held <= 0:
        return None
    latents = denoise.encode_image(model, denoise.normalised(coherence.image), torch.Generator("cpu").manual_seed(0))
    known = torch.tensor(coherence.known > 127, device=model.device).float()[None, None]
    factor = model.scale_factor
    return denoise.Held(latents, -torch.nn.functional.max_pool2d(-known, factor), coherence.held)


def _shared(model: Model, references: Sequence[Reference], seed: int) -> Shared | None:
    if not references:
        return None
    generator = torch.Generator("cpu").manual_seed(seed)
    encoded = [denoise.encode_image(model, denoise.normalised(one.image), generator) for one in references]
    latents = torch.cat(encoded)
    return Shared(latents, torch.randn(latents.shape, generator=generator).to(model.device))


def _start(
    model: Model, scheduler: object, request: Generate, image: np.ndarray | None,
    generator: torch.Generator | blending.Travel, noise: np.ndarray | None,
) -> denoise.Start:  # fmt: skip
    settings, mask = request.settings, request.mask
    if mask is None and model.unet.config.in_channels == 9:
        # A UNet that was trained to inpaint paints a whole picture as one big hole.
        mask = np.full((request.height, request.width), 255, np.uint8)
        image = np.zeros((request.height, request.width, 3), np.uint8) if image is None else image
    if image is None:
        return denoise.start_from_noise(model, scheduler, request.width, request.height, generator, noise)
    timesteps = denoise.remaining_timesteps(scheduler, settings.steps, settings.strength)
    if mask is None:
        return denoise.start_from_image(model, scheduler, timesteps, image, generator, noise)
    return denoise.start_inpainting(model, scheduler, timesteps, image, mask, settings.strength, generator, noise)


def _with_hints(
    model: Model, request: Generate, seen_by: Sequence[Passes | None], guided: int
) -> list[denoise.ActiveControl]:
    """The ControlNets with what each row of the batch shows them: every one of the passes, `guided` times."""
    active = []
    for control in active_controls(request):
        entry, limits = model.entry, request.settings.depth_limits
        hints = [
            make_hint(passes, control.name, entry.normals, entry.lines, limits)
            for passes in seen_by
            if passes is not None
        ]
        # Contiguous, as the stock pipelines have it: the memory layout decides how convolutions round.
        rows = np.ascontiguousarray(np.stack(hints).transpose(0, 3, 1, 2))
        tensor = torch.from_numpy(rows).to(model.device, model.dtype)
        net = model.controlnets[control.name]
        active.append(
            denoise.ActiveControl(net, torch.cat([tensor] * guided), control.scale, control.start, control.end)
        )
    return active


def decode(model: Model, latents: torch.Tensor) -> np.ndarray:
    """Decode; a VAE that overflows in half precision is run in float32. ServerFailure where that does not help."""
    if not torch.isfinite(latents).all():
        raise ServerFailure(
            reason=f"{model.entry.name} painted values that are not numbers",
            hint="Try another scheduler, more steps or less guidance. If it stays, the model file is damaged: "
            "fetch it again.",
        )
    picture = denoise.decode(model, latents)
    if np.isnan(picture).any() and model.decoder.dtype != torch.float32:
        dtype = model.decoder.dtype
        log.warning("The VAE of %s overflows in %s; it runs in float32 from now on", model.entry.name, dtype)
        model.decoder.to(torch.float32)
        picture = denoise.decode(model, latents)
    if np.isnan(picture).any():
        raise ServerFailure(
            reason=f"the VAE of {model.entry.name} gave values that are not numbers",
            hint="The model file is damaged: fetch it again, or choose another model.",
        )
    return picture


class Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def stage(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = now - self._last
        self._last = now
