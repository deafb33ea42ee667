"""Peak memory of a shot painted by the fake engine, in MB: python -m benchmarks.flicker_memory FRAMES"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator

import numpy as np
import torch

from paintover.bridge.parameters import Settings
from paintover.bridge.scene import Camera, Passes
from paintover.bridge.shot import Link, ShotFrame, plan
from paintover.server import fake_engine
from paintover.server.animation.job import animate
from tools.train_mini.sheet import Quiet

SIDE, STEP = 192, 0.5


def passes(number: int) -> Passes:
    """A wall that a camera moves along, half a pixel a frame, with a post before it that moves the other way."""
    camera = Camera("camera", np.eye(4), np.diag([1.0, 1, -1, 1]), SIDE, SIDE)
    depth, ids = np.full((SIDE, SIDE), 5, np.float32), np.ones((SIDE, SIDE), np.uint16)
    left = (40 + number) % (SIDE - 40)
    depth[:, left : left + 30], ids[:, left : left + 30] = 3, 2
    normal = np.zeros((SIDE, SIDE, 3), np.float16)
    normal[..., 2] = 1
    return Passes(camera, depth, normal, np.zeros((SIDE, SIDE), np.uint8), ids)


def frames(count: int) -> Iterator[ShotFrame]:
    settings = Settings(prompt="wall", steps=1, seed=1)
    for place in plan(range(1, count + 1), 8):
        seen = passes(place.number)

        def link(other: int | None, seen: Passes = seen, number: int = place.number) -> Link | None:
            if other is None:
                return None
            where = np.zeros((SIDE, SIDE, 3), np.float32)
            where[..., 0] = np.where(seen.object_id == 2, other - number, STEP * (number - other))
            where[..., 2] = seen.depth
            return Link(other, where)

        linked = {name: link(getattr(place, name)) for name in ("before", "after", "previous")}
        yield ShotFrame(place.number, settings, seen, place.key, **linked)


def main() -> None:
    torch.set_num_threads(1)
    fake_engine.SECONDS_PER_STEP = 0
    count = sum(1 for _ in animate(fake_engine.FakeEngine(), frames(int(sys.argv[1])), Quiet()))
    assert count == int(sys.argv[1])
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    main()
