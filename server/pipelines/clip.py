"""Paints a clip window by window (motion.py), as its frames come."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch

from paintover.bridge.messages import Generate

from ..engine import Border, Monitor, Painting
from . import motion
from .loading import Model
from .motion import OVERLAP, WINDOW
from .painter import PREVIEW_STEPS, Clock, Painter, active_controls, decode, encode

LOADED = 0.1
"""Share of a window's progress at which it begins to be painted."""


@torch.no_grad()
def paint_clip(
    painter: Painter, requests: Iterable[Generate], monitor: Monitor, begin: Border | None
) -> Iterator[Painting | Border]:
    """See engine.Engine. The same errors as for a picture."""
    frames, held = iter(requests), list[Generate]()
    place, carried = 0, list[torch.Tensor]()
    if begin:
        place, carried = begin.place, [torch.tensor(latents) for latents in begin.latents]
    while True:
        held += itertools.islice(frames, WINDOW - len(held))
        ended = len(held) < WINDOW
        if not held:
            return
        clock = Clock()
        model = _model(painter, held, monitor)
        clock.stage("load")
        carried = [latents.to(model.device) for latents in carried]
        # Where nothing has come behind the frames that are painted already, they are finished.
        finished = carried if len(held) == len(carried) else _paint(painter, model, held, place, carried, monitor)
        clock.stage("denoise")
        count = len(held) if ended else WINDOW - OVERLAP
        for latents in finished[:count]:
            monitor.check()
            picture = decode(model, latents)
            clock.stage("decode")
            shared = {stage: clock.seconds[stage] / count for stage in ("load", "denoise")}
            yield Painting((picture * 255).round().astype(np.uint8), {**shared, "decode": clock.seconds["decode"]})
        if ended:
            return
        held, carried, place = held[count:], finished[count:], place + count
        yield Border(place, tuple(latents.cpu().numpy() for latents in carried))


def _paint(
    painter: Painter, model: Model, requests: Sequence[Generate], place: int, carried: Sequence[torch.Tensor],
    monitor: Monitor,
) -> list[torch.Tensor]:  # fmt: skip
    """The finished latents of a window's frames."""
    guided = any(one.settings.guidance > 1 for one in requests) and model.unet.config.time_cond_proj_dim is None
    encoded = functools.cache(functools.partial(encode, model, guided=guided))
    try:
        model.loras.use(model, motion.mean_loras(requests), monitor.check)
        window = motion.Window(
            model, requests, place, carried,
            lambda one: encoded(one.settings.prompt, one.settings.negative_prompt, one.width, one.height),
        )  # fmt: skip
        steps, words = len(window.timesteps), f"Frames {place + 1} to {place + len(requests)} together, step"

        def before_step(step: int) -> None:
            monitor.check()
            monitor.progress(f"{words} {step + 1} of {steps}", LOADED + (1 - LOADED) * step / steps)

        def seen(step: int, clean: torch.Tensor) -> None:
            if step % PREVIEW_STEPS == PREVIEW_STEPS - 1:
                monitor.preview(painter.preview(model, clean))

        return window.paint(before_step, seen)
    finally:
        model.loras.weigh(())  # the text encoders are also those of the model without motion


def _model(painter: Painter, requests: Sequence[Generate], monitor: Monitor) -> Model:
    """The model with the motion adapter that a window's first frame names, and all of the frames' ControlNets."""

    def report(share: float) -> None:
        monitor.check()
        monitor.progress(f"Loading {settings.model}", share * LOADED)

    settings = requests[0].settings
    controls = dict.fromkeys(control.name for one in requests for control in active_controls(one))
    base, name = painter.have(settings.model, list(controls), report), settings.animate_motion
    if name not in base.motions:
        base.motions.clear()
        monitor.check()
        monitor.progress(f"Loading {name}", LOADED)
        base.motions[name] = motion.load(base, name)
    return base.motions[name]
