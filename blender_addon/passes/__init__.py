"""What cameras see: the door to every way of rendering passes.

camera = cameras.from_object(scene, scene.camera, 512, 512)
seen = passes.render(scene, camera)

Pictures that are asked for show the scene as it renders. The graphics card draws them where it can draw all that is in
the scene; else, and where there is no graphics context, Cycles renders them. `live.Live` draws the scene as the
viewport shows it, at interactive rate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import bpy

from ..bridge.errors import NoGpu
from ..bridge.parameters import EdgeStyle
from ..bridge.scene import Camera, Passes
from . import color as color_pass
from . import cycles, gpu_route, instances
from .assemble import check_size

Say = Callable[[str], None]


def render(
    scene: bpy.types.Scene,
    camera: Camera,
    *,
    view_layer: str | None = None,
    color: bool = False,
    edges: EdgeStyle | None = None,
    also: Callable[[bpy.types.Depsgraph], None] | None = None,
    frame: float | None = None,
    say: Say | None = None,
) -> Passes:
    """The passes of one camera. See `render_views`."""
    (seen,) = render_views(
        scene, [camera], view_layer=view_layer, color=color, edges=edges, also=also, frame=frame, say=say
    )
    return seen


def render_views(
    scene: bpy.types.Scene,
    cameras: Sequence[Camera],
    *,
    view_layer: str | None = None,
    color: bool = False,
    edges: EdgeStyle | None = None,
    also: Callable[[bpy.types.Depsgraph], None] | None = None,
    frame: float | None = None,
    say: Say | None = None,
) -> list[Passes]:
    """The passes of several cameras at `frame` (the scene's current one), each of its camera's size.

    Blocks Blender's main thread. The scene, its render result and its data-blocks are left as they were.
    `view_layer` defaults to the one in use. With `color`, Passes.color is filled too (a slower render). `edges` says
    which lines the edge pass has (all, one pixel wide). `also` is called once, with the depsgraph of the scene as it is
    evaluated for renders. `say` is told in a sentence if Cycles renders, and why, and of
    objects that are in no pass.

    Raises RenderFailed if Blender does not render, SceneError if the scene has too many objects, BadSize for too large
    an image, BadPasses if broken geometry gave passes that are not numbers.
    """
    for camera in cameras:
        check_size(camera)

    undrawn: set[str] = set()

    def once(depsgraph: bpy.types.Depsgraph) -> None:
        nonlocal also
        undrawn.update(instances.undrawn(depsgraph))
        work, also = also, None
        if work:
            work(depsgraph)

    try:
        seen = gpu_route.render(scene, cameras, view_layer, once, frame, edges)
    except (NoGpu, gpu_route.LeftOut) as reason:
        if say:
            say(f"Passes are rendered by Cycles: {reason}")
        seen = cycles.render(scene, cameras, view_layer, once, frame, edges)
    if undrawn and say:
        first, more = sorted(undrawn)[:5], len(undrawn) - 5
        say(f"Grease pencil is in no pass: {', '.join(map(repr, first))}" + f" and {more} more" * (more > 0))
    if color:
        colors = color_pass.render(scene, cameras, view_layer, frame)
        seen = [replace(one, color=image) for one, image in zip(seen, colors, strict=True)]
    return seen
