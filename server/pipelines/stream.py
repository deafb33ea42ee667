"""The stream of frames that the diffusers engine paints (engine.Stream).

Each frame's buffers are filled with what has changed since the last one, then its function runs (frame.py). Another
model, or a ControlNet that is switched on, loads in a thread beside the running one and is taken at a frame's border; a
new model fades in over the last picture of the old one.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

import torch

from paintover.bridge.errors import PaintoverError, ServerFailure
from paintover.bridge.live import LiveSettings
from paintover.bridge.live_messages import RUNNING, WARMING
from paintover.bridge.loras import parse
from paintover.bridge.parameters import CONTROLS

from .. import models
from ..engine import Frame, failure_of
from ..worker_messages import StreamControl, StreamSettings, StreamState
from . import denoise, loading
from .blending import Prompts, noises, warp_matrix
from .conditioning import Conditioning
from .early import Anew, Early
from .frame import NEGATIVE, RESIDUAL, UNGUIDED, Buffers, FrameFunction, Shape
from .live_hints import image_of, source_of
from .loader import LORA, Loader
from .loading import Model
from .schedule import make_schedule

log = logging.getLogger(__name__)

CROSSFADE = 1.0
"""Seconds in which a new model's pictures come over the old one's last."""
LOOK = 0.05
"""Seconds between looks at what loads."""
KEPT = 3
"""Functions of other shapes that are kept for when they are wanted again: each holds memory."""
SETTLED = 0.5 / 255
"""A smoothed frame that differs from the last by less than this looks the same."""

Say = Callable[[Any], None]


class DiffusersStream:
    """See engine.Stream."""

    def __init__(self, device: torch.device, dtype: torch.dtype, say: Say) -> None:
        self._device, self._dtype, self._say = device, dtype, say
        self._painter: ModelStream | None = None
        self._loader: Loader | None = None
        self._loras: tuple[str, ...] = ()
        """Names of those that are wanted."""
        self._refused: set[tuple[str, str]] = set()
        """What could not be loaded, until something else is wanted: (model, control or LoRA or nothing)."""
        self._still = False
        self._early = Early()
        self._input: tuple[StreamControl | None, StreamSettings | None] = None, None
        """What the last frame was painted from."""
        self._old: torch.Tensor | None = None
        """The last picture of the model before this one."""
        self._since = 0.0

    @property
    def model(self) -> Model | None:
        return self._painter.model if self._painter else None

    @property
    def patience(self) -> float | None:
        """See engine.Stream."""
        if self._old is not None or not self._still:
            return 0.0
        if self._loader:
            return 0.0 if self._loader.done else LOOK
        return None

    @torch.no_grad()
    def frame(
        self, control: StreamControl | None, settings: StreamSettings, newest: Callable[[], StreamSettings]
    ) -> Frame | None:
        """See engine.Stream. Raises MissingModel, BadModelFile, OutOfMemory, ServerFailure."""
        begun = time.perf_counter()
        painter, function = self._prepare(control, settings)
        if (changed := newest()) is not settings:  # while hints were made: all that is left is quick
            settings = changed
            painter, function = self._prepare(control, settings)
        prepared = time.perf_counter()
        # While prompts travel over a scene that stands still, residuals are used again; the frame at which they arrive
        # is exact.
        exact, self._input = self._input == (control, settings), (control, settings)
        try:
            reused = painter.run(function, exact, self._early.begin(lambda: newest() is not settings))
            self._early.painted()
        except Anew:
            settings = newest()
            painter, function = self._prepare(control, settings)
            self._input = control, settings
            reused = painter.run(function, exact=False)
        pixels = self._faded(function.buffers)
        image = pixels.cpu().numpy() if pixels.is_cuda else pixels.numpy().copy()
        painted = time.perf_counter()
        if not bool(function.buffers.sound):
            painter.forget()
            raise ServerFailure(reason=f"{painter.model.entry.name} painted values that are not numbers")
        # Smoothing goes this share of the way with each frame.
        way = 1 - settings.settings.smooth
        moving = settings.settings.feedback_amount > 0 or way < 1
        settled = not moving or float(function.buffers.moved) < SETTLED * way
        self._still = settled and not reused and not painter.unfinished
        seconds = {"prepare": prepared - begun, "paint": painted - prepared, "network": function.network_seconds}
        return Frame(image, settings.settings.seed, seconds, reused, painter.control, settings.number)

    def _prepare(self, control: StreamControl | None, settings: StreamSettings) -> tuple[ModelStream, FrameFunction]:
        """What paints, and its function with all that a frame is painted from."""
        self._have(settings.settings, control is not None and control.passes is not None)
        assert self._painter is not None
        return self._painter, self._painter.prepare(control, settings, self._say)

    # ------------------------------------------------------------ models

    def _have(self, settings: LiveSettings, steered: bool) -> None:
        """Have a model, and the one that is wanted as soon as it is there."""
        name = settings.model
        controls = [control.name for control in settings.controls if control.scale > 0] if steered else []
        loras = parse(settings.lora)
        if (named := tuple(one.name for one in loras)) != self._loras:  # asked for anew: it may be there by now
            self._loras = named
            self._refused = {refused for refused in self._refused if not refused[1].startswith(LORA)}
        if self._painter is None:
            entry = models.resolve(name)
            loader = Loader(entry, controls, named, self._device, self._dtype, self._say, first=True)
            loader.join()
            self._take(loader)
        if self._loader and self._loader.done:
            loader, self._loader = self._loader, None
            self._take(loader)
        assert self._painter is not None
        running = self._painter.model
        if running.entry.name == name:
            # A control that was switched off meanwhile is tried again when it is wanted again.
            self._refused = {
                (model, what)
                for model, what in self._refused
                if model == name and (what not in CONTROLS or what in controls)
            }
            controls = [one for one in controls if self._lacks(one, one in running.controlnets)]
            named = tuple(one for one in named if self._lacks(LORA + one, one in running.loras.loaded))
        if self._loader is None and (
            controls or named if running.entry.name == name else (name, "") not in self._refused
        ):
            try:
                entry = models.resolve(name)
            except PaintoverError as error:  # it was taken off the list: what runs goes on
                if running.entry.name != name:
                    self._refuse(name, "", error)
                    return
                entry = running.entry
            self._loader = Loader(entry, controls, named, self._device, self._dtype, self._say)
        running.loras.weigh([one for one in loras if one.name in running.loras.loaded])

    def _lacks(self, what: str, loaded: bool) -> bool:
        """Whether the running model still has to get a control or LoRA."""
        assert self._painter is not None
        return not loaded and (self._painter.model.entry.name, what) not in self._refused

    def _take(self, loader: Loader) -> None:
        """Go on with what was loaded, or say why not."""
        model = loader.model
        if model is None and self._painter is None:
            raise loader.errors[""]
        if model is not None and not (self._painter and self._painter.model is model):
            if self._painter:
                self._old, self._since = self._painter.last, time.monotonic()
            self._painter = ModelStream(model)
            log.info("The stream paints with %s", loader.entry.name)
        for lora in loader.loras:
            assert model is not None  # it was read for it
            try:
                model.loras.add(model, lora)
            except Exception as trouble:  # noqa: BLE001 - the picture goes on without it
                loader.errors[LORA + lora.name] = trouble
        if model is not None:
            loading.weigh(model)
        for what, error in loader.errors.items():
            self._refuse(loader.entry.name, what, error)

    def _refuse(self, model: str, what: str, error: Exception) -> None:
        self._refused.add((model, what))
        refused = "" if what.startswith(LORA) else model
        self._say(StreamState(RUNNING, failure=failure_of(error), refused=refused, control=what if refused else ""))

    def _faded(self, buffers: Buffers) -> torch.Tensor:
        """uint8 (H, W, 3): the new model's picture over the old one's last, while that fades."""
        share = (time.monotonic() - self._since) / CROSSFADE
        if self._old is None or share >= 1:
            self._old = None
            return buffers.pixels
        old = torch.nn.functional.interpolate(self._old, buffers.shown.shape[-2:], mode="bilinear")
        mixed = torch.lerp(old, buffers.shown, max(share, 0.0))
        return (mixed[0] * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()


class ModelStream:
    """The frames of one model: its prompts, its functions and what their buffers hold."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.last: torch.Tensor | None = None
        """float32 (1, 3, H, W): the last frame."""
        self.control: int | None = None
        """Number of the control frame that the last frame was painted from."""
        self.unfinished = False
        """Frames under way differ from the one that is finished."""
        self._prompts = Prompts(model)
        self._functions: OrderedDict[Shape, tuple[FrameFunction, dict[str, Any]]] = OrderedDict()
        """With what each buffer was filled with last."""
        self._resets = 0

    def forget(self) -> None:
        """Clear the temporal state."""
        self.last = None
        for function, _ in self._functions.values():
            function.buffers.shown.zero_()

    def prepare(self, control: StreamControl | None, wanted: StreamSettings, say: Say) -> FrameFunction:
        """The function for these settings, its buffers filled."""
        settings = wanted.settings
        if wanted.resets != self._resets:
            self._resets = wanted.resets
            self.forget()
        shape = self._shape(control, settings)
        conditioning = self._prompts.blend(wanted.prompts, shape.width, shape.height)
        if shape not in self._functions:
            say(StreamState(WARMING, f"Preparing {self.model.entry.name} at {shape.width} × {shape.height}"))
            buffers = Buffers(self.model, shape, conditioning.embeds, conditioning.added)
            self._functions[shape] = FrameFunction(self.model, shape, buffers), {}
            while len(self._functions) > KEPT:
                self._functions.popitem(last=False)
        self._functions.move_to_end(shape)
        function, filled = self._functions[shape]
        self._fill(function, filled, control, wanted, conditioning)
        return function

    def run(self, function: FrameFunction, exact: bool, look: Callable[[], None] = lambda: None) -> bool:
        """Paint, unless `look` raises; True where the ControlNets' residuals were those of an earlier frame, which had
        another prompt."""
        filled = self._functions[function.shape][1]
        begun = filled.get("control"), filled["prompt"], filled["noise"], filled["schedule"]
        under_way = function.shape.steps if function.shape.in_flight else 1
        if "rows" not in filled:
            for _ in range(under_way - 1):  # the first picture waits for its steps
                function.run()
            filled["rows"] = deque([begun] * under_way, maxlen=under_way)
        filled["rows"].append(begun)
        self.unfinished = len(set(filled["rows"])) > 1
        self.control = filled["rows"][0][0]
        reuse = not exact and filled.get("residuals") is not None and filled["residuals"] == filled["steering"]
        if not reuse:
            filled["residuals"] = None
        function.run(reuse, look if under_way == 1 else lambda: None)
        if not reuse:
            filled["residuals"], filled["seen"] = filled["steering"], filled["prompt"]
        self.last = function.buffers.shown
        return reuse and filled["seen"] != filled["prompt"]

    def _shape(self, control: StreamControl | None, settings: LiveSettings) -> Shape:
        has_image = source_of(control) is not None
        feeds_back = settings.feedback_amount > 0 and self.last is not None
        active = (
            tuple(entry.name for entry in settings.controls if entry.scale > 0 and entry.name in self.model.controlnets)
            if control and control.passes
            else ()
        )
        overlap = settings.in_flight and settings.steps > 1
        guided = settings.guidance > 1 and self.model.unet.config.time_cond_proj_dim is None
        return Shape(
            settings.output_width, settings.output_height, settings.steps, active,
            from_image=feeds_back or (has_image and settings.strength < 1),
            # Where frames overlap, the negative prompt would have to be asked at every step.
            guidance=UNGUIDED if not guided else NEGATIVE if settings.negative_prompt and not overlap else RESIDUAL,
            in_flight=overlap,
            loras=self.model.loras.numbers,
        )  # fmt: skip

    def _fill(
        self, function: FrameFunction, filled: dict[str, Any], control: StreamControl | None, wanted: StreamSettings,
        conditioning: Conditioning,
    ) -> None:  # fmt: skip
        b, shape, settings = function.buffers, function.shape, wanted.settings

        def changed(what: str, value: Any) -> bool:
            differs = bool(filled.get(what) != value)
            filled[what] = value
            return differs

        prompts = wanted.prompts, settings.negative_prompt if shape.guidance == NEGATIVE else None
        if changed("prompt", (*prompts, self.model.loras.state)):
            self._fill_prompts(b, shape, settings, conditioning)
        if changed("noise", (settings.seed, settings.seed_travel)):
            b.noise.copy_(noises(settings.seed, settings.seed_travel, tuple(b.noise.shape[1:]), shape.steps))
        strength = self._fill_start(b, shape, control, settings, changed)
        feeds_back = shape.from_image and settings.feedback_amount > 0
        if changed("schedule", (settings.scheduler, strength)):
            b.set_schedule(make_schedule(self.model, settings.scheduler, shape.steps, strength))
        if changed("guidance", settings.guidance):
            b.guidance.fill_(settings.guidance)
            if b.guidance_embedding is not None:
                embedded = denoise.guidance_embedding(self.model, settings.guidance)
                assert embedded is not None
                b.guidance_embedding.copy_(embedded)
        b.smooth.fill_(settings.smooth if self.last is not None else 0.0)
        if self.last is not None and self.last is not b.shown:  # another shape has painted it
            b.shown.copy_(torch.nn.functional.interpolate(self.last, b.shown.shape[-2:], mode="bilinear"))
        if control and control.passes and changed("control", control.number):
            for name in shape.controls:
                b.fill_hint[name](control.passes)
        scales = tuple((entry.name, entry.scale) for entry in settings.controls)
        for name, scale in scales:
            if name in b.scales:
                b.scales[name].fill_(scale)
        # ControlNets see the latents, too: with other noise under them their residuals would leave it in the picture.
        # Another prompt changes little of what they say.
        begun = filled.get("control"), scales, filled["schedule"], filled["noise"]
        filled["steering"] = None if feeds_back else begun

    def _fill_prompts(self, b: Buffers, shape: Shape, settings: LiveSettings, conditioning: Conditioning) -> None:
        parts = [conditioning]
        if shape.guidance == NEGATIVE:
            parts.insert(0, self._prompts.embed(settings.negative_prompt, shape.width, shape.height))
        b.embeds.copy_(torch.cat([part.embeds for part in parts]))
        for name, value in (b.added or {}).items():
            value.copy_(torch.cat([part.added[name] for part in parts if part.added]))

    def _fill_start(
        self, b: Buffers, shape: Shape, control: StreamControl | None, settings: LiveSettings,
        changed: Callable[[str, Any], bool],
    ) -> float:  # fmt: skip
        """Fill what the start image is made of; returns the strength with which it is painted over.

        Of the start, `feedback` is the last frame's share and, of the rest, 1 − strength the source's: together they
        are what the noise leaves.
        """
        if not shape.from_image:
            return 1.0
        amount = settings.feedback_amount if self.last is not None else 0.0
        image = source_of(control)
        from_source = (1 - amount) * (1 - settings.strength) if image is not None else 0.0
        if from_source > 0 and control and image is not None and changed("source", control.number):
            b.source.copy_(image_of(image, shape.width, shape.height, self.model.device))
        b.feedback.fill_(amount / (amount + from_source) if amount else 0.0)
        if amount:
            aspect = shape.width / shape.height
            b.warp.copy_(
                warp_matrix(
                    settings.feedback_zoom, settings.feedback_rotate, settings.feedback_x, settings.feedback_y, aspect
                )
            )
        return 1 - (amount + from_source)
