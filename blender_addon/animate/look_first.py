"""Look first: every n-th frame of a shot, small and with few steps, as a contact sheet; and what the shot will take."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Sequence
from dataclasses import replace

import bpy
import numpy as np

from .. import images, png
from ..bridge import shot
from ..bridge.errors import SceneError
from ..bridge.messages import FramePainted, FrameWanted, Shot
from ..bridge.parameters import Settings
from ..bridge.shot import interval_of
from ..steps import Steps, in_thread
from . import newest, timeline
from .estimate import Sample, estimate
from .moments import Offstage
from .pace import duration
from .parts import Part
from .task import ShotTask, folder_of, kept_seed, part_of

SIZE, STEPS = 256, 8
"""Of a thumbnail, at the most."""
MOST = 64
"""Thumbnails on a sheet: of longer shots, fewer frames are shown."""
GAP = 4
IMAGE = "Paintover Look First"
# Rows of three pixels, as bits: the digits 0 to 9, and a minus.
DIGITS = (
    (7, 5, 5, 5, 7), (2, 6, 2, 2, 7), (7, 1, 7, 4, 7), (7, 1, 7, 1, 7), (5, 5, 7, 1, 1), (7, 4, 7, 1, 7),
    (7, 4, 7, 5, 7), (7, 1, 1, 1, 1), (7, 5, 7, 5, 7), (7, 5, 7, 1, 7), (0, 0, 7, 0, 0),
)  # fmt: skip


class LookTask(ShotTask):
    """Paints thumbnails and shows them as an image; then, to know what the shot will take, a stretch of it from one
    keyframe to the next, at the shot's own size. Nothing is written."""

    label = "Look First"

    def __init__(self, settings: Settings, scene: bpy.types.Scene) -> None:
        """Raises NoCamera, SceneError, NoGpu."""
        whole = timeline.numbers(scene)
        every = max(scene.paintover.look_every, -(-len(whole) // MOST))
        seed: int | None = settings.seed if settings.seed >= 0 else None
        if seed is None:
            with contextlib.suppress(SceneError):  # a file that was never saved has no folder yet
                seed = kept_seed(scene, folder_of(scene))
            seed = random.randrange(2**31) if seed is None else seed
            newest.keep_seed(scene, seed)
        quick = replace(settings, seed=seed, steps=min(settings.steps, STEPS))
        small = replace(quick, size=min(settings.size, SIZE), animate_interval=1)
        self._again = self._seed_chosen = True
        self._thumbnails: dict[int, np.ndarray] = {}
        self.sheet: np.ndarray | None = None
        """uint8 (H, W, 3), once it is over."""
        self.seconds = 0.0
        """What the whole shot will take, roughly."""
        shown = whole[::every]
        self._shown = len(shown)
        self._begin(small, scene, shown, fixed=("steps",))
        parts = timeline.parts(whole, lambda number: timeline.camera_at(scene, number))
        self._whole = [place for part in parts for place in shot.plan(part, interval_of(settings))]
        self._more_steps = settings.steps / quick.steps
        self._quick, self._large = quick, Offstage(scene, quick, self.note, ("steps",))
        self._stretch = part_of(scene, self._large, quick, stretch(parts, settings.animate_interval))
        self._samples: list[Sample] = []
        self._clock = [0.0, 0.0]
        """When the first frame of the stretch was asked for, and when the last one came."""
        self._parts.append(self._stretch)
        self.pace.total += len(self._stretch.todo)

    def request(self) -> Shot:
        """All of it, also where the server gave it up half-way: there are no files to go on from."""
        part = self._part
        assert part is not None
        self.pace.done -= len(part.footage.places) - len(part.todo)
        part.todo = set(range(len(part.footage.places)))
        self._samples, self._clock = [], [0.0, 0.0]
        look, settings = (self._large, self._quick) if part is self._stretch else (self._look, self.settings)
        return Shot(settings, part.footage.numbers, look.width, look.height)

    def _give(self, wanted: FrameWanted) -> Steps[None]:
        if self._part is self._stretch and not self._clock[0]:
            self._clock[0] = time.monotonic()
        return super()._give(wanted)

    def keep(self, part: Part, painted: FramePainted) -> Steps[None]:
        if part is self._stretch:
            self._samples.append(Sample(part.footage.places[painted.place], painted.seconds))
            self._clock[1] = time.monotonic()
            return
        self._thumbnails[painted.number] = painted.image
        self.sheet = yield from in_thread(lambda: contact_sheet(self._thumbnails))
        picture = yield from in_thread(lambda: png.encode(self.sheet))
        images.show(IMAGE, picture, self.settings)

    def _finish(self) -> None:
        pace = (self._clock[1] - self._clock[0]) / len(self._samples)
        self.seconds = estimate(self._samples, self._more_steps, self._whole, pace)
        super()._finish()

    def words(self) -> str:
        if self._samples:
            return f"Timing the shot: frame {len(self._samples)} of {len(self._stretch.footage.numbers)}"
        return f"Thumbnail {len(self._thumbnails)} of {self._shown}"

    def outcome(self) -> str:
        took = f"The whole shot will take roughly {duration(self.seconds)}."
        return f"{took} The sheet is the image “{IMAGE}”: choose it in an Image Editor."


def stretch(parts: Sequence[Sequence[int]], interval: int) -> Sequence[int]:
    """Frames from one keyframe to the next, in the middle of the longest part between two cuts."""
    longest = max(parts, key=len)
    first = max(0, (len(longest) - interval - 1) // 2)
    return longest[first : first + interval + 1]


def contact_sheet(thumbnails: dict[int, np.ndarray]) -> np.ndarray:
    """uint8 (H, W, 3): pictures of one size in rows, with their frame numbers, in the order in which they came."""
    height, width = next(iter(thumbnails.values())).shape[:2]
    columns = max(1, round((len(thumbnails) * height / width * 16 / 9) ** 0.5))
    rows = -(-len(thumbnails) // columns)
    sheet = np.full((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3), 24, np.uint8)
    for index, (number, image) in enumerate(thumbnails.items()):
        y, x = GAP + index // columns * (height + GAP), GAP + index % columns * (width + GAP)
        sheet[y : y + height, x : x + width] = image
        _write(sheet[y : y + height, x : x + width], number)
    return sheet


def _write(image: np.ndarray, number: int) -> None:
    """Put a number into the lower left corner."""
    scale = max(1, image.shape[0] // 64)
    signs = [10 if sign == "-" else int(sign) for sign in str(number)]
    text = np.zeros((7, 4 * len(signs) + 1), bool)
    for index, sign in enumerate(signs):
        for row, bits in enumerate(DIGITS[sign]):
            text[row + 1, 4 * index + 1 : 4 * index + 4] = [bits & 4, bits & 2, bits & 1]
    text = text.repeat(scale, 0).repeat(scale, 1)
    part = image[-text.shape[0] :, : text.shape[1]]
    part[:] = np.where(text[-part.shape[0] :, : part.shape[1], None], 255, part // 3)
