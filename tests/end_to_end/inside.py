"""What end-to-end tests do inside Blender: install the built extension, point it at the test's server, tell results.

Run by the Blender host's own interpreter. The zip, port and token come in the environment; what a script reports
goes to the file that RESULT names, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import bpy

MODULE = "bl_ext.user_default.paintover"


def install() -> None:
    """Install and enable the zip as a user would, in this process's empty profile."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.extensions.package_install_files(
        filepath=os.environ["PAINTOVER_ZIP"], repo="user_default", enable_on_install=True
    )
    assert MODULE in bpy.context.preferences.addons
    preferences = bpy.context.preferences.addons[MODULE].preferences
    preferences.port = int(os.environ["PAINTOVER_PORT"])
    preferences.token = os.environ["PAINTOVER_TOKEN"]


def part(name: str) -> Any:
    """A module of the installed add-on."""
    import importlib

    return importlib.import_module(f"{MODULE}.{name}")


def tell(**values: Any) -> None:
    """Add to what the test gets to see."""
    path = Path(os.environ["RESULT"])
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**known, **values}))


def failure(operator: Any, **arguments: Any) -> str:
    """Run an operator that should fail; returns the words that the artist reads."""
    try:
        operator(**arguments)
    except RuntimeError as error:
        return str(error)
    return ""


def cube(name: str = "Cube", location: tuple[float, float, float] = (0, 0, 0)) -> Any:
    """A selected cube with its stock UVs."""
    bpy.ops.mesh.primitive_cube_add(location=location)
    ob = bpy.context.object
    ob.name = name
    return ob


def camera(location: tuple[float, float, float] = (0, -6, 0)) -> Any:
    """The scene's camera, looking along +y."""
    ob = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    ob.location, ob.rotation_euler = location, (1.5707963, 0, 0)
    bpy.context.scene.collection.objects.link(ob)
    bpy.context.scene.camera = ob
    return ob


def leave() -> None:
    """End the process at once. Blender 4.2 as a Python module still frees classes after Python has ended, and crashes,
    with any extension whose properties call back."""
    if bpy.app.version < (4, 3, 0):
        sys.stdout.flush()
        os._exit(0)
