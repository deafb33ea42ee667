"""What is painted from: the newest frame of whoever is the source, and what another program gives beside it."""

from __future__ import annotations

import copy

import numpy as np

from paintover.bridge.cores import core
from paintover.bridge.scene import Passes

from ..worker_messages import StreamControl
from .picture import Depths


class Controls:
    """Belongs to the stage."""

    def __init__(self) -> None:
        self.newest: StreamControl | None = None
        self.keeps_depth = False
        """Somebody wants it beside the picture."""
        self._depths = Depths()
        self._kept = True
        """The newest lies in memory of our own."""
        self._image: np.ndarray | None = None
        """What another program gives to start from, where the source gives nothing."""

    def take(self, passes: Passes | None, image: np.ndarray | None) -> int:
        """Paint from this from now on. Returns its number."""
        number = self.newest.number + 1 if self.newest else 1
        image = self._image if image is None else image
        self.newest, self._kept = StreamControl(number, passes, image, core()), False
        if self.keeps_depth and passes:
            self._depths.keep(number, passes.depth)
        return number

    def outside(self, frame: np.ndarray | Passes) -> None:
        """Take a frame of another program (outside.py): what image-to-image starts from, or depth."""
        passes = self.newest.passes if self.newest else None
        if isinstance(frame, Passes):
            passes = frame
        else:
            self._image = frame
        self.take(passes, None)

    def keep(self) -> None:
        """Its source's board has the frame that is painted from only until some more were written there, which may be
        none to paint from."""
        if not self._kept:
            self.newest, self._kept = copy.deepcopy(self.newest), True

    def depth_of(self, number: int) -> np.ndarray | None:
        return self._depths.of(number)
