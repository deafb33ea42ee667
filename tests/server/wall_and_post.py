"""A shot in closed form: a wall that moves half a pixel a frame to the left, and before it a post that moves one to the
right, seen without perspective."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from paintover.bridge.messages import Generate
from paintover.bridge.parameters import Settings
from paintover.bridge.scene import Camera, Passes
from paintover.bridge.shot import Link, Place, ShotFrame, plan
from paintover.server.engine import Coherence, Held, Monitor, Painting

SIDE, WIDE, FIRST = 64, 12, 10
WALL, POST = 1, 2
SPEED = {WALL: -0.5, POST: 1.0}


def ids(number: int) -> np.ndarray:
    """uint16 (H, W): the post covers WIDE columns."""
    found = np.full((SIDE, SIDE), WALL, np.uint16)
    found[:, FIRST + number : FIRST + number + WIDE] = POST
    return found


def passes(number: int) -> Passes:
    camera = Camera("camera", np.eye(4), np.diag([1.0, 1, -1, 1]), SIDE, SIDE)
    seen = ids(number)
    normal = np.zeros((SIDE, SIDE, 3), np.float16)
    normal[..., 2] = 1
    depth = np.where(seen == POST, 3, 5).astype(np.float32)
    return Passes(camera, depth, normal, np.zeros((SIDE, SIDE), np.uint8), seen, {"1": "Wall", "2": "Post"})


def link(number: int, other: int) -> Link:
    place = np.zeros((SIDE, SIDE, 3), np.float32)
    seen = ids(number)
    place[..., 0] = np.where(seen == POST, SPEED[POST], SPEED[WALL]) * (other - number)
    place[..., 2] = np.where(seen == POST, 3, 5)
    return Link(other, place)


def frame(place: Place, settings: Settings) -> ShotFrame:
    others = {name: getattr(place, name) for name in ("before", "after", "previous")}
    links = {name: link(place.number, other) for name, other in others.items() if other is not None}
    return ShotFrame(place.number, settings, passes(place.number), place.key, **links)


def shot(
    count: int, settings: Callable[[int], Settings], interval: int = 4, cuts: frozenset[int] = frozenset()
) -> Iterator[ShotFrame]:
    for place in plan(range(1, count + 1), interval, cuts):
        yield frame(place, settings(place.number))


class Dabs:
    """An engine that paints other random dabs every time, and notes what it was asked for."""

    device = "cpu"

    def __init__(self) -> None:
        self.asked: list[tuple[Generate, Coherence]] = []

    def paint(self, request: Generate, monitor: Monitor, coherence: Coherence | None = None) -> Painting:
        assert coherence is not None
        seed = [request.settings.seed, len(request.settings.prompt), int(request.passes.object_id.argmax())]  # type: ignore[union-attr]
        image = np.random.default_rng(seed).integers(0, 256, (request.height, request.width, 3), np.uint8)
        self.asked.append((request, coherence))
        return Painting(image, {})

    def hold(self, model: str, controls: object) -> None:
        pass

    def held(self) -> Held:
        return Held()
