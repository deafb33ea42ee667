"""Paint the selected objects: meshes and passes out, textures back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import bpy
import numpy as np

from . import cameras, dressing, meshes, passes, png, textures, uvs
from .bridge import origin
from .bridge.errors import (
    EmptyMesh,
    LinkedData,
    NoCamera,
    NoMesh,
    OutsideCameras,
    SceneError,
)
from .bridge.messages import MeshesMissing, MeshQuery, MeshUpload, PaintedUVs, Texture, TextureResult, ViewPainted
from .bridge.origin import Origin
from .bridge.parameters import Settings
from .bridge.scene import Camera, MeshData, Passes
from .link import Link
from .passes.ids import object_ids
from .passes.offstage import layer_name
from .steps import Steps, in_thread
from .tasks import Task, TaskState, find_scene


@dataclass
class Target:
    """An object to paint, held by its session uid: names may change while the server works."""

    uid: int
    name: str
    uv_layer: str = ""
    made_uvs: bool = False
    """The layer is one that Paintover made."""

    def find(self) -> bpy.types.Object | None:
        return next((ob for ob in bpy.data.objects if ob.session_uid == self.uid), None)


class TextureTask(Task):
    label = "Paint Objects"

    def __init__(self, settings: Settings, scene: bpy.types.Scene, objects: Sequence[bpy.types.Object], lit: bool):
        self._lit = lit
        self._targets = [Target(ob.session_uid, ob.name) for ob in check_objects(objects)]
        self._chosen_cameras = chosen_cameras(scene, settings.cameras)
        self._meshes: dict[str, MeshData] = {}
        self.views: list[Passes] = []
        self.painted: dict[str, np.ndarray] = {}
        """View name -> painted view, uint8 (H, W, 3)."""
        self.coverage: dict[str, float] = {}
        """Object name -> painted share of its visible texels."""
        self.seconds: dict[str, float] = {}
        super().__init__(settings, scene)

    # ------------------------------------------------------------ out

    def prepare(self) -> Steps[None]:
        # Blender's data is looked up anew after every yield: between two ticks anything may happen to it.
        for target in self._targets:
            yield f"Checking the UVs of {target.name}"
            yield from self._choose_uvs(target)
        found = (yield from self._collect()) or (yield from self._collect())
        if found is None:
            raise SceneError(
                reason="its objects were moved, changed or renamed while its passes were rendered",
                hint="Stop the playback, leave the objects alone until “Sending to the server”, and run it again.",
            )
        for mesh in found:
            if not any((view.object_id == mesh.object_id).any() for view in self.views):
                raise OutsideCameras(name=mesh.name)
        self._meshes = yield from in_thread(lambda: {mesh.content_hash(): mesh for mesh in found})

    def _collect(self) -> Steps[list[MeshData] | None]:
        """The passes of all views, and the meshes; None if the user changed the scene meanwhile. Scrubbing is no
        change: all views show the frame of the beginning."""
        self.views.clear()
        yield "Placing cameras"
        frame, before = find_scene(self._scene).frame_current_final, self._shown()
        views = yield from self._cameras()
        yield f"Rendering passes of view 1 of {len(views)}"
        if self.settings.cameras == "automatic" and not meshes.unchanged(before, self._shown()):
            return None
        reader = meshes.Reader(*self._wanted())  # the first render evaluates the scene: the meshes are read on the way
        ids, first = object_ids(), self._render(views[0], frame, reader.read)
        found = yield from in_thread(reader.join)
        for number, camera in enumerate(views[1:], 2):
            yield f"Rendering passes of view {number} of {len(views)}"
            # An id is an object's only until others are added, removed or renamed.
            if ids != object_ids() or not meshes.unchanged(first, self._render(camera, frame)):
                return None
        return found

    def _shown(self) -> np.ndarray:
        """Where things are in the viewport: cameras are placed by that."""
        scene = find_scene(self._scene)
        layer = scene.view_layers[layer_name(scene)]
        layer.update()
        return meshes.arrangement(layer.depsgraph, shapes=False)

    def _wanted(self) -> tuple[list[bpy.types.Object], dict[str, str]]:
        """The objects to paint, and their UV layers by name: the present one, which may be another by now."""
        objects = [self._object(target) for target in self._targets]
        for target, ob in zip(self._targets, objects, strict=True):
            target.name = ob.name
            if target.made_uvs and target.uv_layer not in ob.data.uv_layers:  # undone
                target.uv_layer = uvs.make(ob)
        return objects, {target.name: target.uv_layer for target in self._targets}

    def _render(
        self, camera: Camera, frame: float, also: Callable[[bpy.types.Depsgraph], None] | None = None
    ) -> np.ndarray:
        """Render the passes of a view; returns the arrangement of what was rendered."""
        found = []

        def look(depsgraph: bpy.types.Depsgraph) -> None:
            found.append(meshes.arrangement(depsgraph))
            if also:
                also(depsgraph)

        scene = find_scene(self._scene)
        color = self.settings.strength < 1
        self.views.append(
            passes.render(scene, camera, color=color, edges=self.settings.edges, also=look, frame=frame, say=self.note)
        )
        return found[0]

    def _choose_uvs(self, target: Target) -> Steps[None]:
        layout = uvs.read(self._object(target).data)
        state = (yield from in_thread(layout.check)) if layout else uvs.UVState("missing")
        ob = self._object(target)
        if state.usable:
            target.uv_layer = state.layer
        else:
            coordinates = yield from in_thread(uvs.unwrapping(ob))
            ob = self._object(target)
            target.uv_layer = uvs.make(ob, coordinates)
            self.notes.append(f"{ob.name} {state.describe()}: a new UV layer “{target.uv_layer}” was made.")
        target.made_uvs = target.uv_layer == uvs.made(ob.data)
        if target.made_uvs:
            uvs.need(ob.data, self.job)

    def _cameras(self) -> Steps[list[Camera]]:
        if self.settings.cameras == "automatic":
            shown = yield from meshes.shown_steps(lambda: find_scene(self._scene), self._wanted()[0])
            if shown is None:
                shown = meshes.collect(find_scene(self._scene), *self._wanted())
            return (
                yield from cameras.automatic_steps(
                    lambda: find_scene(self._scene), shown, self.settings.views, self.settings.size
                )
            )
        scene = find_scene(self._scene)
        width, height = cameras.view_size(scene, self.settings.size)
        chosen = [bpy.data.objects.get(name) for name in self._chosen_cameras]
        if None in chosen:
            raise SceneError(reason="a camera was deleted while the passes were rendered", hint="Run it again.")
        return [cameras.from_object(scene, camera, width, height) for camera in chosen]

    def request(self) -> Texture:
        return Texture(self.settings, tuple(self.views), tuple(self._meshes))

    def origin(self) -> Origin:
        targets = tuple(origin.Target(t.name, t.uv_layer, t.made_uvs) for t in self._targets)
        return replace(super().origin(), lit=self._lit, targets=targets)

    def offer(self, link: Link) -> None:
        link.send(MeshQuery(tuple(self._meshes)))
        self.state, self.stage = TaskState.OFFERED, "Sending to the server"

    def wants(self, missing: MeshesMissing) -> bool:
        return self.state is TaskState.OFFERED and set(missing.hashes) <= set(self._meshes)

    def upload(self, link: Link, missing: MeshesMissing) -> None:
        for name in missing.hashes:
            link.send(MeshUpload(self._meshes[name]))
        super().offer(link)

    # ------------------------------------------------------------ back

    def apply(self, result: Any) -> Steps[None]:
        if isinstance(result, ViewPainted):
            self.painted[result.view] = result.image
            self.finished = len(self.painted)
            self.preview = result.image
        elif isinstance(result, TextureResult):
            picture = yield from in_thread(lambda: png.encode(result.image))
            self._dress(result, picture)

    def _dress(self, result: TextureResult, picture: bytes) -> None:
        mesh = next((m for m in self._meshes.values() if m.object_id == result.object_id), None)
        target = next((t for t in self._targets if mesh and t.name == mesh.name), None)
        ob = target.find() if target else None
        if mesh is None or target is None or ob is None:
            # The object was deleted meanwhile: nothing that was paid for is lost.
            self.notes.append(dressing.keep(result, picture, f"{result.name} is gone."))
            return
        try:
            if target.made_uvs and target.uv_layer not in ob.data.uv_layers:  # undone: it is made again
                painted = PaintedUVs(self.job, mesh.object_id, mesh.name, mesh.uvs)
                target.uv_layer = dressing.fitting_layer(find_scene(self._scene), ob, target, painted)
            self.notes += dressing.dress(ob, result, picture, target.uv_layer, self._lit)
        except SceneError as error:  # Edit Mode, another mesh: the picture must not be lost for that
            self.notes.append(dressing.keep(result, picture, str(error)))
            return
        self.coverage[ob.name] = result.coverage
        self.seconds = dict(result.seconds)

    def release(self) -> None:
        uvs.let_go(self.job)
        self.views.clear()
        self.painted.clear()
        self._meshes.clear()

    def undo_preparation(self) -> None:
        uvs.let_go(self.job)
        for target in self._targets:
            ob = target.find()
            if target.made_uvs and ob:
                textures.clean_mesh(ob.data)

    def _object(self, target: Target) -> bpy.types.Object:
        ob = target.find()
        if ob is None:
            raise SceneError(reason=f"{target.name!r} was deleted", hint="Select what should be painted, run again.")
        textures.check_paintable(ob)  # the user may have gone into Edit Mode meanwhile
        return ob


def check_objects(objects: Sequence[bpy.types.Object]) -> list[bpy.types.Object]:
    """The mesh objects among `objects`, or an error that says what stands in the way of painting them."""
    found = [ob for ob in objects if ob.type == "MESH"]
    if not found:
        raise NoMesh()
    for ob in found:
        if ob.library or ob.data.library:
            raise LinkedData(name=ob.name)
        if not len(ob.data.polygons) and not ob.modifiers:
            raise EmptyMesh(name=ob.name)
        textures.check_paintable(ob)
    return found


def chosen_cameras(scene: bpy.types.Scene, source: str) -> list[str]:
    """Names of the cameras to paint from; none for automatic ones. Raises NoCamera."""
    if source == "automatic":
        return []
    found = [ob.name for ob in scene.objects if ob.type == "CAMERA" and (source == "scene" or ob.select_get())]
    if not found:
        where = "The scene has no camera." if source == "scene" else "No camera is selected."
        raise NoCamera(where)
    return found
