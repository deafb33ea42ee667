"""Callbacks of a Script TOP that shows what Paintover paints: its frames, from shared memory.

Set-up: docs/perform.md. Beside the Script TOP there must be a Text DAT named paintover_frames with the file of that
name in this folder: TouchDesigner imports it from there.
"""

import numpy as np
import paintover_frames

_readers = {}


def onSetupParameters(scriptOp):
    page = scriptOp.appendCustomPage("Paintover")
    page.appendStr("Source", label="Source")[0].default = "paintover-9699"
    page.appendToggle("Flip", label="Flip Rows")[0].default = True
    for parameter in scriptOp.customPars:
        parameter.val = parameter.default


def onPulse(par):
    return


def onCook(scriptOp):
    name = scriptOp.par.Source.eval()
    reader = _readers.get(scriptOp.path)
    if reader is None or reader[0] != name:
        reader = _readers[scriptOp.path] = (name, paintover_frames.FrameReader(name))
    shown = scriptOp.fetch("shown", (0, 0), search=False)
    frame = reader[1].read(after=shown[0])
    if frame is None:
        return  # nothing new: the TOP keeps what it shows, also while Paintover is not there
    scriptOp.store("shown", (frame.number, frame.picture))
    scriptOp.store("time", frame.time)
    # Frames begin with the top row, TouchDesigner's textures with the bottom one.
    image = frame.image[::-1] if scriptOp.par.Flip.eval() else frame.image
    scriptOp.copyNumpyArray(np.ascontiguousarray(image))
