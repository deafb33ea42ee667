"""Reads a frame of the timeline: geometry, camera and settings as they are evaluated for renders at that frame."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import bpy

from .. import cameras, properties
from ..bridge.errors import NoGpu, SceneError
from ..bridge.parameters import Settings
from ..passes import color, gpu_context, gpu_route
from ..passes.ids import object_ids
from ..passes.instances import Reader
from ..passes.offstage import layer_name, offstage
from . import originals, timeline
from .footage import Moment

LARGEST_ID = 65535
FIXED = ("model", "size", "animate_interval", "animate_motion")
"""Settings that a shot has once: those of its beginning."""
UNPAINTED = {"use_motion_blur": "motion blur", "use_border": "the render border", "use_multiview": "multi-view"}
"""Settings of Blender's renders that frames of a shot show nothing of."""


class Look:
    """How the frames of a shot are read: their size, which is that of its beginning, and what is the same for all."""

    def __init__(
        self, scene: bpy.types.Scene, settings: Settings, say: Callable[[str], None], fixed: tuple[str, ...] = ()
    ) -> None:
        """`settings`: of the shot, with a seed that is chosen; those that are `fixed` do not animate. `say` is told in
        a sentence what no pass has."""
        self.width, self.height = cameras.view_size(scene, settings.size)
        self._settings, self._say, self._fixed = settings, say, (*FIXED, *fixed)
        self._held = properties.held(scene.paintover)

    def evaluated(
        self, scene: bpy.types.Scene, depsgraph: bpy.types.Depsgraph, number: int, ids: dict[str, int]
    ) -> Moment:
        """The moment that `depsgraph` is evaluated at, of the artist's scene; `ids` are those of `stable_ids`. Raises
        NoCamera, SceneError, BadParameter."""
        shown = depsgraph.scene_eval
        stage = Reader(for_render=True, cull=gpu_route.culls(scene)).read(depsgraph, ids)
        if stage.left_out:
            self._say(f"Not in a shot's passes: {gpu_route.describe(stage.left_out)}.")
        if stage.ignored:
            self._say(f"In no pass: {gpu_route.describe(stage.ignored)}.")
        ob = timeline.camera_at(scene, number)
        camera = cameras.evaluated_camera(ob.evaluated_get(depsgraph), depsgraph, shown, self.width, self.height)
        return Moment(stage, camera, self.settings(shown, timeline.markers(scene), number))

    def settings(self, shown: bpy.types.Scene, markers: list[tuple[int, str]], number: int) -> Settings:
        """All parameters as they are at a frame, of a scene that is evaluated there. What is not animated is that of
        the shot's beginning: the tab is for other work, too, while a shot is painted."""
        now = properties.animated(self._held, shown.paintover, originals.paths(shown.animation_data))
        found = properties.snapshot(SimpleNamespace(paintover=now), words=timeline.words_at(markers, number))
        seed = found.seed if found.seed >= 0 else self._settings.seed
        return replace(found, seed=seed, **{name: getattr(self._settings, name) for name in self._fixed})


class Offstage(Look):
    """Reads frames behind the scenes, while the artist's own scene stays at its frame."""

    def __init__(
        self, scene: bpy.types.Scene, settings: Settings, say: Callable[[str], None], fixed: tuple[str, ...] = ()
    ) -> None:
        """Raises NoGpu where no links can be drawn."""
        try:
            gpu_context.ensure()
        except NoGpu as error:
            hint = "Shots need it, to know where surfaces are in other frames: install a graphics driver."
            raise NoGpu(error.message, hint=hint) from error
        super().__init__(scene, settings, say, fixed)
        self._layer = layer_name(scene)  # the artist may go on in another one
        if found := [words for name, words in UNPAINTED.items() if getattr(scene.render, name)]:
            say(f"Not in the painted frames: {', '.join(found)}.")

    def read(self, scene: bpy.types.Scene, number: int) -> Moment:
        """Blocks Blender's main thread. Raises RenderFailed, NoCamera, SceneError."""
        found: list[Moment] = []
        ids, aim = stable_ids(), timeline.camera_at(scene, number)
        stage = offstage(scene, self._layer, with_cycles=False, frame=number, camera=aim)
        with originals.kept(), stage as stand_in:
            stand_in.render(lambda _, depsgraph: found.append(self.evaluated(scene, depsgraph, number, ids)))
        if not found:
            raise SceneError(reason=f"frame {number} could not be evaluated", hint="See Blender's console.")
        moment = found[0]
        if moment.settings.strength < 1:
            with originals.kept():
                (image,) = color.render(scene, [moment.camera], self._layer, number)
            moment = replace(moment, color=image)
        return moment


def stable_ids() -> dict[str, int]:
    """Full name -> id of every object of the file, that stays when others are added or removed: what is painted is
    known by them in a later session, too. To be asked for before temporary objects are there. Raises SceneError."""
    found: dict[str, int] = {}
    taken: set[int] = set()
    for name in sorted(object_ids()):
        digest = hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=4).digest()
        number = int.from_bytes(digest, "big") % LARGEST_ID + 1
        while number in taken:
            number = number % LARGEST_ID + 1
        taken.add(number)
        found[name] = number
    return found

