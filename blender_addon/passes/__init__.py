"""What cameras see: the door to every way of rendering passes.

camera = cameras.from_object(scene, scene.camera, 512, 512)
seen = passes.render(scene, camera)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import bpy

from ..bridge.scene import Camera, Passes
from . import color as color_pass
from . import cycles


def render(
    scene: bpy.types.Scene,
    camera: Camera,
    *,
    view_layer: str | None = None,
    color: bool = False,
    also: Callable[[bpy.types.Depsgraph], None] | None = None,
    frame: float | None = None,
) -> Passes:
    """The passes of one camera. See `render_views`."""
    return render_views(scene, [camera], view_layer=view_layer, color=color, also=also, frame=frame)[0]


def render_views(
    scene: bpy.types.Scene,
    cameras: Sequence[Camera],
    *,
    view_layer: str | None = None,
    color: bool = False,
    also: Callable[[bpy.types.Depsgraph], None] | None = None,
    frame: float | None = None,
) -> list[Passes]:
    """The passes of several cameras at `frame` (the scene's current one), each of its camera's size.

    Blocks Blender's main thread. The scene, its render result and its data-blocks are left as they were.
    `view_layer` defaults to the one in use. With `color`, Passes.color is filled too (a slower render). `also` is
    called with the first render's depsgraph: the scene as it is evaluated for renders.

    Raises RenderFailed if Blender does not render, SceneError if the scene has too many objects, BadPasses if
    broken geometry gave passes that are not numbers.
    """
    seen = cycles.render(scene, cameras, view_layer, also, frame)
    if color:
        colors = color_pass.render(scene, cameras, view_layer, frame)
        seen = [replace(one, color=image) for one, image in zip(seen, colors, strict=True)]
    return seen
