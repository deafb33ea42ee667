"""Passes from the graphics card: the scene as it is evaluated for renders, read once, drawn for every camera."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Sequence
from typing import TypeVar

import bpy
import numpy as np

from ..bridge.errors import NoGpu
from ..bridge.parameters import EdgeStyle
from ..bridge.scene import Camera, Passes
from . import gpu_context
from .assemble import assemble
from .draw import Before, Drawer, Frame
from .ids import object_ids
from .instances import Reader, Stage
from .offstage import offstage
from .reproject import Painted, Reprojector
from .shaders import ShaderError

T = TypeVar("T")

_drawer: Drawer | None = None
_reprojector: Reprojector | None = None
_generation = 0


class LeftOut(Exception):
    """The scene has something that only Cycles can draw."""


def render(
    scene: bpy.types.Scene,
    cameras: Sequence[Camera],
    view_layer: str | None = None,
    also: Callable[[bpy.types.Depsgraph], None] | None = None,
    frame: float | None = None,
    edges: EdgeStyle | None = None,
) -> list[Passes]:
    """The data passes of every camera, as `cycles.render` gives them.

    Raises NoGpu or LeftOut where that has to be asked instead, SceneError or BadPasses, and what `also` raises.
    """
    gpu_context.ensure()
    ids = object_ids()  # before the temporary camera is there, so that they are those of every other call
    stages: list[Stage] = []

    def read(_: bpy.types.RenderEngine, depsgraph: bpy.types.Depsgraph) -> None:
        stage = Reader(for_render=True, cull=culls(scene)).read(depsgraph, ids)
        if stage.left_out:
            raise LeftOut(describe(stage.left_out))
        stages.append(stage)
        if also:
            also(depsgraph)

    with offstage(scene, view_layer, with_cycles=False, frame=frame) as stand_in:
        stand_in.render(read)
    drawn = [draw(stages[0], camera, edges=edges or EdgeStyle()) for camera in cameras]
    return [assemble(one.camera, one.depth, one.normal, one.object_id, one.edge, one.names) for one in drawn]


def draw(
    stage: Stage,
    camera: Camera,
    before: Before | None = None,
    *,
    position: bool = False,
    uv: bool = False,
    edges: EdgeStyle | None = None,
) -> Frame:
    """`Drawer.draw` by the one that all share. A lost context costs one more try. Raises NoGpu."""
    return _twice(
        lambda: _shared()[0].draw(stage, camera, before, position=position, uv=uv, edges=edges)
    )


def reproject(stage: Stage, camera: Camera, painted: Callable[[], Painted]) -> Reprojector:
    """`Reprojector.draw` by the one that all share; returns it, to show what was drawn. `painted` is asked again after
    a lost context. Raises NoGpu."""

    def work() -> Reprojector:
        reprojector = _shared()[1]
        reprojector.draw(stage, camera, painted())
        return reprojector

    return _twice(work)


def atlas(
    stage: Stage, painted: Callable[[], Painted], size: int, rows: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """`Reprojector.atlas` by the one that all share. `painted` is asked again after a lost context. Raises NoGpu."""

    def work() -> tuple[np.ndarray, np.ndarray]:
        source = painted()
        return _shared()[1].atlas(stage, source.known.before.camera, source, size, rows)

    return _twice(work)


def _shared() -> tuple[Drawer, Reprojector]:
    global _drawer, _reprojector
    _drawer = _drawer or Drawer()
    _reprojector = _reprojector or Reprojector(_drawer)
    return _drawer, _reprojector


def _twice(work: Callable[[], T]) -> T:
    if gpu_context.ensure():
        forget()
    words = ""
    for _ in range(2):
        try:
            return work()
        except (RuntimeError, SystemError, ShaderError) as reason:
            # Its words alone: an error holds on to all that it came through, and in a circle with it the batches in
            # there are left to the garbage collector, which Blender 4.3 does not survive.
            words = str(reason)
            forget()
    raise NoGpu(reason=words)


def culls(scene: bpy.types.Scene) -> bool:
    """Whether the scene's engine lets materials hide the backs of their faces."""
    return bool(scene.render.engine.startswith("BLENDER_EEVEE"))


def forget() -> None:
    """Let go of all that lies on the graphics card."""
    global _drawer, _reprojector, _generation
    _drawer = _reprojector = None
    _generation += 1


def generation() -> int:
    """Another number once what lay on the graphics card is lost."""
    return _generation


atexit.register(forget)  # Blender's graphics end before Python's objects do


def describe(left_out: dict[str, str]) -> str:
    """“particle hair on Monkey and 2 others”."""
    (name, what), *others = sorted(left_out.items())
    more = f" and {len(others)} other{'s' * (len(others) > 1)}" if others else ""
    return f"{what} on {name!r}{more}"
