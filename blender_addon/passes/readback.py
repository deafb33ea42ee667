"""Float targets, and what was drawn into them as numpy arrays: no copy but the one from the graphics card.

Textures are shared by all of Blender's windows, framebuffers belong to the window in whose context they were made, and
to free one after that window was closed (that of F12, say) crashes Blender. So framebuffers are made for each use.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import gpu
import numpy as np


class Targets:
    """Colour targets of four floats a pixel, and a depth buffer, all of one size."""

    def __init__(self, width: int, height: int, count: int) -> None:
        self.size = width, height
        self.colors = [gpu.types.GPUTexture((width, height), format="RGBA32F") for _ in range(count)]
        self._depth = gpu.types.GPUTexture((width, height), format="DEPTH_COMPONENT32F")

    @contextmanager
    def bound(self, clear: Sequence[Sequence[float]]) -> Iterator[None]:
        """Draw into them, over `clear`: four numbers for every target."""
        # Each by a buffer of its own: a software renderer clears those while it draws, in all its threads.
        for color, value in zip(self.colors, clear, strict=True):
            alone = gpu.types.GPUFrameBuffer(color_slots=[color])
            with alone.bind():
                alone.clear(color=value)
        together = gpu.types.GPUFrameBuffer(depth_slot=self._depth, color_slots=self.colors)
        with together.bind():
            together.clear(depth=1.0)
            yield

    def read(self, slot: int, into: np.ndarray) -> None:
        """Read a target into a contiguous float32 (H, W, 4) array, in the order of its memory."""
        width, height = self.size
        shared = gpu.types.Buffer("FLOAT", into.size, into.reshape(-1))
        buffer = gpu.types.GPUFrameBuffer(color_slots=[self.colors[slot]])
        with buffer.bind():
            buffer.read_color(0, 0, width, height, 4, 0, "FLOAT", data=shared)


class LineTarget:
    """One byte a pixel, and a depth buffer that keeps the largest of what is drawn on each other."""

    def __init__(self, width: int, height: int) -> None:
        self.size = width, height
        self._color = gpu.types.GPUTexture((width, height), format="R8")
        self._depth = gpu.types.GPUTexture((width, height), format="DEPTH_COMPONENT32F")

    @contextmanager
    def bound(self) -> Iterator[None]:
        """Draw into it, over nothing."""
        buffer = gpu.types.GPUFrameBuffer(depth_slot=self._depth, color_slots=[self._color])
        with buffer.bind():
            buffer.clear(color=(0, 0, 0, 0), depth=1.0)
            yield

    def read(self) -> np.ndarray:
        """uint8 (H, W), in the order of its memory."""
        width, height = self.size
        image = np.empty((height, width), np.uint8)
        shared = gpu.types.Buffer("UBYTE", image.size, image.reshape(-1))
        buffer = gpu.types.GPUFrameBuffer(color_slots=[self._color])
        with buffer.bind():
            buffer.read_color(0, 0, width, height, 1, 0, "UBYTE", data=shared)
        return image


@contextmanager
def drawing_state() -> Iterator[None]:
    """Depth is tested and written, nothing is blended or culled."""
    test, mask, blend = gpu.state.depth_test_get(), gpu.state.depth_mask_get(), gpu.state.blend_get()
    gpu.state.depth_test_set("LESS")  # of surfaces in one place the first is seen, as by Blender's rays
    gpu.state.depth_mask_set(True)
    gpu.state.blend_set("NONE")
    gpu.state.face_culling_set("NONE")
    try:
        yield
    finally:
        gpu.state.depth_test_set(test)
        gpu.state.depth_mask_set(mask)
        gpu.state.blend_set(blend)
