"""A short film as scripts for Blender, and the pictures that come of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

FILM = """
install()
scene, ob = bpy.context.scene, cube()
camera()
for frame, x in ((1, -1.0), (8, 1.0)):
    ob.location.x = x
    ob.keyframe_insert("location", frame=frame)
scene.frame_start, scene.frame_end = 1, 8
scene.render.resolution_x, scene.render.resolution_y = 192, 128
settings = scene.paintover
settings.prompt, settings.seed, settings.size, settings.steps, settings.animate_interval = "moss", 3, 192, 4, 4
settings.shot_folder = os.path.abspath("frames")
scene.render.filepath = os.path.abspath("rendered") + "/"
scene.view_settings.view_transform = "Standard"
scene.frame_set(3)
bpy.ops.wm.save_as_mainfile(filepath=os.path.abspath("film.blend"))
"""
CONNECT = "tell(connected=list(bpy.ops.paintover.connect()))\n"
SHOOT = FILM + CONNECT + "tell(painted=list(bpy.ops.paintover.render_shot()))\n"


ENGINE = FILM + 'scene.render.engine = "PAINTOVER"\n'


def pictures(folder: Path) -> dict[str, np.ndarray]:
    found = {}
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as picture:
            found[path.name] = np.asarray(picture.convert("RGB"))
    return found
