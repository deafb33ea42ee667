"""Look first: every n-th frame of a shot, small and with few steps, as a contact sheet; and what the shot will take."""

from __future__ import annotations

import random
from dataclasses import replace

import bpy
import numpy as np

from .. import cameras, images, textures
from ..bridge import shot
from ..bridge.messages import FramePainted
from ..bridge.parameters import Settings
from ..steps import Steps, in_thread
from . import timeline
from .pace import duration
from .parts import Part
from .task import ShotTask

SIZE, STEPS = 256, 8
"""Of a thumbnail, at the most."""
MOST = 64
"""Thumbnails on a sheet: of longer shots, fewer frames are shown."""
GAP = 4
IMAGE = "Paintover Look First"
LOADING = 1.5
"""If the first thumbnail took so many times what another took, the model was loaded meanwhile."""
BETWEEN = 0.3
"""What a frame between two keyframes costs of a keyframe: of many, hardly anything is painted."""
# Rows of three pixels, as bits: the digits 0 to 9, and a minus.
DIGITS = (
    (7, 5, 5, 5, 7), (2, 6, 2, 2, 7), (7, 1, 7, 4, 7), (7, 1, 7, 1, 7), (5, 5, 7, 1, 1), (7, 4, 7, 1, 7),
    (7, 4, 7, 5, 7), (7, 1, 1, 1, 1), (7, 5, 7, 5, 7), (7, 5, 7, 1, 7), (0, 0, 7, 0, 0),
)  # fmt: skip


class LookTask(ShotTask):
    """Paints thumbnails and shows them as an image. Nothing is written."""

    label = "Look First"

    def __init__(self, settings: Settings, scene: bpy.types.Scene) -> None:
        """Raises NoCamera, SceneError, NoGpu."""
        whole = timeline.numbers(scene)
        every = max(scene.paintover.look_every, -(-len(whole) // MOST))
        seed = settings.seed if settings.seed >= 0 else random.randrange(2**31)
        small = replace(
            settings, seed=seed, size=min(settings.size, SIZE), steps=min(settings.steps, STEPS), animate_interval=1
        )
        self._again = self._seed_chosen = True
        self._thumbnails: dict[int, np.ndarray] = {}
        self._seconds: list[float] = []
        self.sheet: np.ndarray | None = None
        """uint8 (H, W, 3), once it is over."""
        self.seconds = 0.0
        """What the whole shot will take the server, roughly."""
        self._whole, self._settings = whole, settings
        self._pixels = cameras.view_size(scene, settings.size)
        self._begin(small, scene, whole[::every], fixed=("steps",))

    def keep(self, part: Part, painted: FramePainted) -> Steps[None]:
        self._thumbnails[painted.number] = painted.image
        self._seconds.append(painted.seconds.get("total", 0.0))
        self.sheet = yield from in_thread(lambda: contact_sheet(self._thumbnails))
        picture = yield from in_thread(lambda: textures.png(self.sheet))
        images.show(IMAGE, picture, self.settings)

    def _finish(self) -> None:
        self.seconds = self._estimate()
        super()._finish()

    def outcome(self) -> str:
        return f"The whole shot will take roughly {duration(self.seconds)}. The sheet is the image “{IMAGE}”."

    def _estimate(self) -> float:
        """Seconds: the first thumbnail is painted whole, the others as far as they are new."""
        places = list(shot.plan(self._whole, self._settings.animate_interval))
        keys = sum(place.key for place in places)
        area = self._pixels[0] * self._pixels[1] / (self._look.width * self._look.height)
        scale = area * self._settings.steps / self.settings.steps
        first, *others = self._seconds
        later = sum(others) / len(others) if others else first
        first = min(first, LOADING * max(others, default=first))
        return scale * (first + later * (keys - 1 + BETWEEN * (len(places) - keys)))


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
