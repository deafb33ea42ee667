"""An Execute DAT that gives Paintover a TOP of yours to paint from: turn its Frame End on.

Set-up: docs/perform.md. Start the server with --source paintover-in. The TOP is the picture that image-to-image starts
from or, with DEPTH on, a depth map: near is white.
"""

import time

import numpy as np
import paintover_frames

NAME = "paintover-in"
TOP = "to_paintover"
"""The TOP's name, beside this DAT."""
DEPTH = False
"""Its first channel is a depth map."""
LARGEST = 2048 * 2048 * 4

_writer = None


def onFrameEnd(frame):
    global _writer
    top = op(TOP)  # noqa: F821  # TouchDesigner's own
    # delayed: the image of the frame before, without stopping the graphics card for it
    image = top.numpyArray(delayed=True) if top is not None else None
    if image is None:
        return
    if _writer is None:
        _writer = paintover_frames.FrameWriter(NAME, LARGEST)
    pixels = (np.clip(image[::-1], 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    _writer.write(np.ascontiguousarray(pixels[..., :1] if DEPTH else pixels), time.time())


def onExit():
    global _writer
    if _writer is not None:
        _writer.close()
        _writer = None
