"""A shot, frame by frame: keyframes are painted, the frames between take their paint from both sides.

What a keyframe shows of surfaces that the keyframe before showed is that one's paint, moved exactly; only what is new
is painted into it. A frame between two keyframes is one resampling of both; what neither shows is taken from the frame
before it, and if that does not show it either, painted.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from paintover.bridge import loras
from paintover.bridge.errors import BadMessage
from paintover.bridge.messages import Generate
from paintover.bridge.parameters import Settings
from paintover.bridge.prompts import parse
from paintover.bridge.shot import Link, ShotFrame

from ..engine import Coherence, Engine, Monitor, Reference
from ..pipelines.blending import slerp
from ..worker_messages import Kept, State
from . import noise
from .frame import Gathered, Source, antialiased, close_slits, deflickered, gather
from .match import Match, Sight, match
from .repair import Repair, refresh, repair

Picture = NDArray[np.uint8]

LITTLE = 0.001
"""A frame of whose pixels fewer than this share are open is not given to the model: its gaps are filled."""
REPAIR_STRENGTH = 0.9
"""New surfaces start from the colours of their own surface nearby, so that they become more of the same; where the
scene's own picture is painted over (a strength below 1), from that one, as the first picture did."""
REFRESH_STRENGTH = 0.6
"""How much of worn paint is painted over."""


@dataclass(frozen=True, eq=False)
class Painted:
    """A finished frame."""

    number: int
    image: Picture
    """uint8 (H, W, 3), sRGB."""
    settings: Settings
    fresh: float
    """Share of the picture that the model painted now."""
    state: State | None
    """With keyframes: what the shot goes on from after it."""
    seconds: dict[str, float]


def animate(
    engine: Engine, frames: Iterable[ShotFrame], monitor: Monitor, state: State | None = None
) -> Iterator[Painted]:
    """Paint a shot's frames, which come in the order of `bridge.shot.plan`; yields each as it is finished.

    What holds them still is in their own settings (group “animate”), each of which can be turned off.
    `state`: to go on behind a keyframe, its Painted.state. Of all frames, four are held at most. Raises BadMessage for
    a frame whose links lead elsewhere, BadPasses, and whatever the engine raises.
    """
    device = torch.device(engine.device if engine.device == "cuda" else "cpu")
    shot = _Shot(engine, monitor, device, state or State())
    for frame in frames:
        monitor.check()
        yield shot.key(frame) if frame.key else shot.between(frame)


@dataclass(frozen=True, eq=False)
class _Seen:
    """A kept frame on the device."""

    kept: Kept
    sight: Sight
    picture: torch.Tensor
    detail: torch.Tensor

    @classmethod
    def of(cls, kept: Kept, sight: Sight) -> _Seen:
        device = sight.depth.device
        picture = torch.tensor(kept.image, device=device).float() / 255
        return cls(kept, sight, picture, torch.tensor(kept.detail, device=device).float())


class _Shot:
    """What is held while a shot is painted."""

    def __init__(self, engine: Engine, monitor: Monitor, device: torch.device, state: State) -> None:
        self._engine, self._monitor, self._device = engine, monitor, device
        self._anchor = state.anchor
        self._before, self._after = (
            _Seen.of(kept, Sight.of(kept.passes, device)) if kept else None for kept in (state.before, state.after)
        )
        self._previous: _Seen | None = None
        self._stages: dict[str, float] = {}
        """Seconds that the engine has taken for the frame under way."""

    def key(self, frame: ShotFrame) -> Painted:
        """Paint a keyframe; it becomes what the following frames take their paint from."""
        started = time.perf_counter()
        self._before, self._previous = self._after, None
        sight = Sight.of(frame.passes, self._device)
        gathered, origin = None, self._fresh_origin(frame)
        if frame.before is not None:
            last, found = self._linked(self._before, frame.before, sight)
            if origin is not None and last.kept.origin is not None:
                origin = noise.follow(frame.number, sight, last.sight, found, last.kept.origin)
            if not repainted(last.kept.settings, frame.settings):
                gathered = gather(sight, [_source(last, found)])
            else:
                self._anchor = None
        else:
            self._anchor = None
        kept, fresh = self._painted(frame, sight, gathered, origin)
        self._after = _Seen.of(kept, sight)
        self._anchor = self._anchor or kept
        state = State(self._anchor, self._before.kept if self._before else None, kept)
        image = kept.image if gathered is None else antialiased(kept.image, sight)
        return Painted(frame.number, image, frame.settings, fresh, state, self._seconds(started))

    def between(self, frame: ShotFrame) -> Painted:
        """A frame between two keyframes."""
        started = time.perf_counter()
        sight = Sight.of(frame.passes, self._device)
        assert frame.before is not None  # ShotFrame checks it
        first, found = self._linked(self._before, frame.before, sight)
        sources = [_source(first, found)]
        if frame.after is not None:
            passed = (frame.number - frame.before.frame) / (frame.after.frame - frame.before.frame)
            sources = [
                _source(first, found, 1 - passed),
                _source(*self._linked(self._after, frame.after, sight), passed),
            ]
        gathered = gather(sight, sources)
        if frame.previous is not None and gathered.open.any():
            gathered = gathered.filled(gather(sight, [_source(*self._linked(self._previous, frame.previous, sight))]))
        gathered = close_slits(gathered, sight.object_id)
        if gathered.open.any():
            gathered = gathered.filled(gather(sight, sources, outlines=True))
        origin = None
        if first.kept.origin is not None and gathered.open.any():
            origin = noise.follow(frame.number, sight, first.sight, found, first.kept.origin)
        image, fresh, detail = self._mended(frame, sight, gathered, origin, ())
        self._previous = _Seen.of(Kept(frame.number, frame.settings, frame.passes, image, detail, None), sight)
        return Painted(frame.number, antialiased(image, sight), frame.settings, fresh, None, self._seconds(started))

    def _seconds(self, started: float) -> dict[str, float]:
        """What the frame took, by stage, and in total."""
        stages, self._stages = self._stages, {}
        return {**stages, "total": time.perf_counter() - started}

    def _fresh_origin(self, frame: ShotFrame) -> noise.Origin | None:
        return noise.fresh(frame.number, *frame.passes.depth.shape) if frame.settings.animate_noise else None

    def _linked(self, seen: _Seen | None, link: Link, here: Sight) -> tuple[_Seen, Match]:
        if seen is None or seen.kept.number != link.frame:
            have = "none" if seen is None else str(seen.kept.number)
            raise BadMessage(name="ShotFrame", reason=f"it is linked to frame {link.frame}, but {have} lies there")
        return seen, match(here, seen.sight, link)

    def _painted(
        self, frame: ShotFrame, sight: Sight, gathered: Gathered | None, origin: noise.Origin | None
    ) -> tuple[Kept, float]:
        """A keyframe with its picture, and the share of it that was painted now."""
        references = self._references(frame) if gathered else ()
        hold = frame.settings.animate_hold
        if gathered is None or hold == 0:
            # A shot that keeps its paint begins with the very picture that a still with this seed is.
            own = origin if frame.before is not None or hold < 1 else None
            image, fresh = self._generate(frame, Coherence(references=references), own), 1.0
            detail = np.ones(image.shape[:2], np.float16)
        elif hold < 1:
            image, fresh = self._held(frame, sight, gathered, origin, references), 1.0
            detail = np.ones(image.shape[:2], np.float16)
        else:
            image, fresh, detail = self._mended(
                frame, sight, close_slits(gathered, sight.object_id), origin, references
            )
        return Kept(frame.number, frame.settings, frame.passes, image, detail, origin), fresh

    def _held(
        self, frame: ShotFrame, sight: Sight, gathered: Gathered, origin: noise.Origin | None,
        references: tuple[Reference, ...],
    ) -> Picture:  # fmt: skip
        """Painted whole, held to what is known for the first steps."""
        task = repair(gathered, sight)
        known = np.where(task.mask > 127, 0, 255).astype(np.uint8)
        image = self._generate(
            frame,
            Coherence(image=task.canvas, known=known, held=frame.settings.animate_hold, references=references),
            origin,
        )
        if frame.settings.animate_deflicker > 0:
            image = deflickered(image, gathered, frame.settings.animate_deflicker)
        return image

    def _mended(
        self, frame: ShotFrame, sight: Sight, gathered: Gathered, origin: noise.Origin | None,
        references: tuple[Reference, ...],
    ) -> tuple[Picture, float, NDArray[np.float16]]:  # fmt: skip
        """What is known, with what is open painted into it; in keyframes also what is worn. The picture, the share
        that was painted, and the picture's detail."""
        color, strength = frame.passes.color, frame.settings.strength
        source = color[..., :3] if color is not None and strength < 1 else None
        task, coherence = repair(gathered, sight, source), Coherence(references=references)
        image, detail = task.canvas, gathered.detail.cpu().numpy()
        fresh = float(gathered.open.float().mean())
        if fresh >= LITTLE:
            begun = REPAIR_STRENGTH if source is None else strength
            image = task.put_in(self._generate(frame, coherence, origin, task, begun))
            detail = np.maximum(detail, task.share[..., 0])
        worn = refresh(image, gathered, sight) if frame.key else None
        if worn:
            image = worn.put_in(self._generate(frame, coherence, origin, worn, REFRESH_STRENGTH))
            detail = np.maximum(detail, worn.share[..., 0])
        return image, fresh, detail.astype(np.float16)

    def _references(self, frame: ShotFrame) -> tuple[Reference, ...]:
        if not frame.settings.animate_attention:
            return ()
        kept = {one.number: one for one in (self._anchor, self._before.kept if self._before else None) if one}
        return tuple(Reference(one.passes, one.image) for one in kept.values())

    def _generate(
        self, frame: ShotFrame, coherence: Coherence, origin: noise.Origin | None, task: Repair | None = None,
        strength: float = 1.0,
    ) -> Picture:  # fmt: skip
        """Have the engine paint the frame, or a repair of it."""
        camera, settings = frame.passes.camera, frame.settings
        canvas, mask = (task.canvas, task.mask) if task else (None, None)
        if task:
            settings = dataclasses.replace(settings, strength=min(strength, settings.strength))
        if origin is not None:
            coherence = dataclasses.replace(coherence, noise=_latents(origin, settings))
        request = Generate(settings, camera.width, camera.height, frame.passes, canvas, mask)
        painting = self._engine.paint(request, self._monitor, coherence)
        for stage, seconds in painting.seconds.items():
            self._stages[stage] = self._stages.get(stage, 0.0) + seconds
        return painting.image


def _source(seen: _Seen, found: Match, weight: float = 1.0) -> Source:
    return Source(seen.picture, seen.sight, seen.detail, found, weight)


def _latents(origin: noise.Origin, settings: Settings) -> np.ndarray:
    """float32 (channels, h, w): the noise that goes with the origins, on the way from the seed to the next one."""
    ends = []
    for seed, share in ((settings.seed, 1 - settings.seed_travel), (settings.seed + 1, settings.seed_travel)):
        if share > 0:
            ends.append(torch.from_numpy(noise.to_latents(noise.gaussian(origin, seed % 2**31))))
    return slerp(ends[0], ends[-1], settings.seed_travel if len(ends) > 1 else 0.0, dims=3).numpy()


def repainted(before: Settings, now: Settings) -> bool:
    """Whether a frame is to look otherwise than the one before: then nothing of its paint is kept.

    Seed and seed travel count: whoever keyframes them wants the look to travel. The frames between two such keyframes
    go from one look to the other, on surfaces that stay where they are.
    """
    return _look(before) != _look(now)


def _look(settings: Settings) -> tuple[object, ...]:
    """What decides how a picture looks, apart from the scene."""
    controls = [control for control in settings.controls if control.scale > 0]
    names = {control.name for control in controls}
    return (
        parse(settings.prompt), settings.negative_prompt, settings.model, settings.seed, settings.seed_travel,
        settings.guidance, settings.strength, settings.scheduler, controls,
        [one for one in loras.parse(settings.lora) if one.weight],
        settings.edges if "edge" in names else None, settings.depth_limits if "depth" in names else None,
    )  # fmt: skip
