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

from paintover.bridge.errors import BadMessage
from paintover.bridge.messages import Generate
from paintover.bridge.parameters import Settings
from paintover.bridge.scene import Passes
from paintover.bridge.shot import Link, ShotFrame

from ..engine import Engine, Monitor
from .frame import Gathered, Repair, Source, close_slits, gather, refresh, repair
from .match import Sight, match

Picture = NDArray[np.uint8]

LITTLE = 0.001
"""A frame of whose pixels fewer than this share are open is not given to the model: its gaps are filled."""
REFRESH_STRENGTH = 0.5
"""How much of worn paint is painted over."""


@dataclass(frozen=True, eq=False)
class Kept:
    """A painted frame that others take their paint from."""

    number: int
    settings: Settings
    passes: Passes
    image: Picture
    """uint8 (H, W, 3)."""
    detail: NDArray[np.float32]
    """(H, W) in 0…1: its detail against freshly painted."""


@dataclass(frozen=True, eq=False)
class State:
    """All that a shot goes on from at a keyframe: with it and the frames that follow, the same pictures come out, bit
    for bit. Its size does not depend on the shot's length."""

    before: Kept | None = None
    after: Kept | None = None


@dataclass(frozen=True, eq=False)
class Painted:
    """A finished frame."""

    number: int
    image: Picture
    """uint8 (H, W, 3), sRGB."""
    fresh: float
    """Share of the picture that the model painted now."""
    state: State | None
    """With keyframes: what the shot goes on from after it."""
    seconds: dict[str, float]


def animate(
    engine: Engine, frames: Iterable[ShotFrame], monitor: Monitor, state: State | None = None
) -> Iterator[Painted]:
    """Paint a shot's frames, which come in the order of `bridge.shot.plan`; yields each as it is finished.

    `state`: to go on behind a keyframe, its Painted.state. Of all frames, two keyframes and one other are held.
    Raises BadMessage for a frame whose links lead elsewhere, BadPasses, and whatever the engine raises.
    """
    state = state or State()
    device = torch.device(engine.device if engine.device in ("cuda", "mps") else "cpu")
    shot = _Shot(engine, monitor, device, state)
    for frame in frames:
        yield shot.key(frame) if frame.key else shot.between(frame)


@dataclass(frozen=True, eq=False)
class _Seen:
    """A kept frame on the device."""

    kept: Kept
    sight: Sight
    picture: torch.Tensor
    detail: torch.Tensor

    @classmethod
    def of(cls, kept: Kept, device: torch.device) -> _Seen:
        picture = torch.tensor(kept.image, device=device).float() / 255
        return cls(kept, Sight.of(kept.passes, device), picture, torch.tensor(kept.detail, device=device))


class _Shot:
    """What is held while a shot is painted."""

    def __init__(self, engine: Engine, monitor: Monitor, device: torch.device, state: State) -> None:
        self._engine, self._monitor, self._device = engine, monitor, device
        self._before = _Seen.of(state.before, device) if state.before else None
        self._after = _Seen.of(state.after, device) if state.after else None
        self._previous: _Seen | None = None

    def key(self, frame: ShotFrame) -> Painted:
        """Paint a keyframe; it becomes what the following frames take their paint from."""
        started = time.perf_counter()
        self._before, self._previous = self._after, None
        sight = Sight.of(frame.passes, self._device)
        gathered = None
        if frame.before is not None:
            source = self._source(self._before, frame.before, sight)
            if self._before and not repainted(self._before.kept.settings, frame.settings):
                gathered = close_slits(gather(sight, [source]), sight.object_id)
        kept, fresh = self._paint(frame, sight, gathered)
        self._after = _Seen.of(kept, self._device)
        state = State(self._before.kept if self._before else None, kept)
        return Painted(frame.number, kept.image, fresh, state, {"total": time.perf_counter() - started})

    def between(self, frame: ShotFrame) -> Painted:
        """A frame between two keyframes."""
        started = time.perf_counter()
        sight = Sight.of(frame.passes, self._device)
        assert frame.before is not None  # ShotFrame checks it
        sources = [self._source(self._before, frame.before, sight)]
        if frame.after is not None:
            passed = (frame.number - frame.before.frame) / (frame.after.frame - frame.before.frame)
            after = self._source(self._after, frame.after, sight)
            sources = [dataclasses.replace(sources[0], weight=1 - passed), dataclasses.replace(after, weight=passed)]
        gathered = gather(sight, sources)
        if frame.previous is not None and gathered.open.any():
            gathered = gathered.filled(gather(sight, [self._source(self._previous, frame.previous, sight)]))
        gathered = close_slits(gathered, sight.object_id)
        if gathered.open.any():
            gathered = gathered.filled(gather(sight, sources, outlines=True))
        kept, fresh = self._paint(frame, sight, gathered)
        self._previous = _Seen.of(kept, self._device)
        return Painted(frame.number, kept.image, fresh, None, {"total": time.perf_counter() - started})

    def _source(self, seen: _Seen | None, link: Link, here: Sight) -> Source:
        if seen is None or seen.kept.number != link.frame:
            have = "none" if seen is None else str(seen.kept.number)
            raise BadMessage(name="ShotFrame", reason=f"it is linked to frame {link.frame}, but {have} lies there")
        return Source(seen.picture, seen.sight, seen.detail, match(here, seen.sight, link))

    def _paint(self, frame: ShotFrame, sight: Sight, gathered: Gathered | None) -> tuple[Kept, float]:
        """The frame with its picture, and the share of it that was painted now."""

        def kept(image: Picture, detail: NDArray[np.float32]) -> Kept:
            return Kept(frame.number, frame.settings, frame.passes, image, detail)

        if gathered is None:
            image = self._generate(frame)
            return kept(image, np.ones(image.shape[:2], np.float32)), 1.0
        task = repair(gathered, sight.object_id)
        image, detail = task.canvas, gathered.detail.cpu().numpy()
        fresh = float(gathered.open.float().mean())
        if fresh >= LITTLE:
            image = task.put_in(self._generate(frame, task))
            detail = np.maximum(detail, task.share[..., 0])
        worn = refresh(image, gathered, sight.object_id) if frame.key else None
        if worn:
            image = worn.put_in(self._generate(frame, worn, REFRESH_STRENGTH))
            detail = np.maximum(detail, worn.share[..., 0])
        return kept(image, detail), fresh

    def _generate(self, frame: ShotFrame, task: Repair | None = None, strength: float = 1.0) -> Picture:
        camera, settings = frame.passes.camera, frame.settings
        canvas, mask = (task.canvas, task.mask) if task else (None, None)
        if task:
            settings = dataclasses.replace(settings, strength=min(strength, settings.strength))
        request = Generate(settings, camera.width, camera.height, frame.passes, canvas, mask)
        return self._engine.paint(request, self._monitor).image


def repainted(before: Settings, now: Settings) -> bool:
    """Whether a frame is to look otherwise than the one before: then nothing of its paint is kept."""
    unseen = {"seed": 0, "steps": 1}
    return dataclasses.replace(before, **unseen) != dataclasses.replace(now, **unseen)
