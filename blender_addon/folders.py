"""Folders that the artist chose for what is written."""

from __future__ import annotations

from pathlib import Path

import bpy

from .bridge.errors import SceneError


def chosen(path: str, use: str, setting: str) -> Path:
    """A folder of the scene's properties, as a path. `use`: what it is for; `setting`: where it is chosen. Raises
    SceneError for none, and for one beside a file that was never saved."""
    if not path.strip():
        raise SceneError(f"No folder is chosen for {use}.", hint=f"Choose one under {setting}.")
    if path.startswith("//") and not bpy.data.filepath:
        raise SceneError(
            f"The folder for {use} is beside the .blend file, which was never saved.",
            hint=f"Save the file, or choose another folder under {setting}.",
        )
    return Path(bpy.path.abspath(path))
