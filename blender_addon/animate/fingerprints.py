"""What a frame is painted from, as a short text: the same one, the same picture."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict

import numpy as np

from ..bridge.parameters import BY_NAME
from ..bridge.shot import ShotFrame

VERSION = 1
"""Of how shots are painted: another one, and all frames are painted anew."""
ELSEWHERE = ("texture",)
"""Groups of parameters that mean nothing in a shot."""


def fingerprint(frame: ShotFrame, others: Mapping[int, str]) -> str:
    """Hex, of all that a frame is painted from; `others`: frame number -> fingerprint of the frames that its paint
    comes from, so that a change goes on through keyframes."""
    digest = hashlib.blake2b(digest_size=16)
    settings = {
        name: value for name, value in asdict(frame.settings).items() if BY_NAME[name].group not in ELSEWHERE
    }
    chained = [others[link.frame] for link in frame.links]
    digest.update(json.dumps([VERSION, frame.number, frame.key, settings, chained]).encode())
    passes = frame.passes
    arrays = [passes.camera.view, passes.camera.projection, passes.depth, passes.normal, passes.edge, passes.object_id]
    arrays += [passes.color] if passes.color is not None else []
    for array in (*arrays, *(link.place for link in frame.links)):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
