"""Image strips in the Video Sequencer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import bpy


def lay(scene: bpy.types.Scene, name: str, folder: Path, files: Sequence[str], frame: int) -> str:
    """Lay files of a folder out from `frame` on, on the first free channel of the scene's sequencer, as large as the
    scene's picture; returns the strip's name."""
    editor = scene.sequence_editor or scene.sequence_editor_create()
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    channel = max((strip.channel for strip in strips), default=0) + 1
    strip = strips.new_image(
        name=name, filepath=str(folder / files[0]), channel=channel, frame_start=frame, fit_method="FIT"
    )
    for file in files[1:]:
        strip.elements.append(file)
    return str(strip.name)
