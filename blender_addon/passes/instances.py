"""What stands where: an evaluated scene as lists of geometry and of the matrices under which each is drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import bpy
import numpy as np

from . import geometry, materials, sculpting
from .geometry import Geometry
from .materials import AlphaImage, Look

NOT_MESHES = {"CURVES": "hair curves", "VOLUME": "a volume", "POINTCLOUD": "a point cloud"}
"""Types that Cycles draws and the graphics card route does not."""
NOT_DRAWN = {"GREASEPENCIL": "grease pencil", "GPENCIL": "grease pencil"}
"""Types that are in no pass."""
HOLDOUT = -1.0
"""Stands for the id of what hides things and is cut out itself."""


@dataclass(frozen=True, eq=False)
class Group:
    """All places of one geometry under the same materials."""

    geometry: Geometry
    looks: tuple[Look, ...]
    """Of every part of the geometry."""
    rows: np.ndarray
    """int (n,): rows of the stage's arrays."""


@dataclass(frozen=True, eq=False)
class Stage:
    """All that is drawn, at one moment."""

    groups: list[Group]
    matrices: np.ndarray
    """float64 (N, 4, 4): local to world."""
    ids: np.ndarray
    """float64 (N,): object id, or HOLDOUT."""
    keys: np.ndarray
    """int32 (N, 10): what tells an instance from every other at any time: object, parent, persistent id."""
    group_of: np.ndarray
    """int (N,): its group."""
    names: dict[int, str]
    alpha_threshold: float
    """Of the view layer: what is more transparent does not count as a surface."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Object -> what it has that is not drawn here, but is by Cycles."""
    ignored: dict[str, str] = field(default_factory=dict)
    """Object -> what it has that no route draws."""

    def places_in(self, before: Stage) -> np.ndarray:
        """int (N,): the row of every instance in an earlier stage; −1 where it was not there."""
        if self.keys.shape == before.keys.shape and (self.keys == before.keys).all():
            return np.arange(len(self.keys))
        rows = {key.tobytes(): row for row, key in enumerate(before.keys)}
        return np.array([rows.get(key.tobytes(), -1) for key in self.keys], np.intp)


def undrawn(depsgraph: bpy.types.Depsgraph) -> set[str]:
    """Names of the objects that are in no pass, whoever draws it: grease pencil."""
    return {one.object.original.name for one in depsgraph.object_instances if one.object.type in NOT_DRAWN}


class Reader:
    """Reads stages off depsgraphs, and keeps the geometry that has not changed since the last one."""

    def __init__(self, *, for_render: bool, cull: bool = False, uv_layers: Mapping[str, str] | None = None) -> None:
        """`for_render`: whether the depsgraphs are evaluated for renders. `cull`: whether materials may hide the backs
        of faces. With `uv_layers` (object name -> layer) UVs are read, of the layer that renders where an object is
        not named."""
        self.for_render, self.cull, self._uv_layers = for_render, cull, uv_layers
        self._images: dict[tuple[int, str], AlphaImage] = {}
        self._known: dict[tuple[object, ...], tuple[set[int], Geometry | None]] = {}
        """Evaluated data, and UV layers -> session uids of originals on whose change it is void, and the geometry."""

    def forget(self, uids: set[int] | None = None) -> None:
        """Read the geometry of these objects and data again next time; without uids, everything."""
        if uids is None:
            self._known.clear()
            self._images.clear()
        elif uids:
            self._images = {key: image for key, image in self._images.items() if key[0] not in uids}
            self._known = {key: entry for key, entry in self._known.items() if entry[0].isdisjoint(uids)}

    def read(
        self,
        depsgraph: bpy.types.Depsgraph,
        ids: Mapping[str, int],
        shown: Callable[[bpy.types.Object], bool] | None = None,
    ) -> Stage:
        """The scene as it is evaluated. `ids` are those of `object_ids`; `shown` says of evaluated objects whether a
        viewport shows them."""
        walk = _Walk(depsgraph, self, ids, shown)
        walk.run()
        # What nobody shows any more is forgotten: its address may soon be that of something else.
        self._known = {key: self._known[key] for key in walk.used}
        return walk.stage()

    def image(self, image: bpy.types.Image, channel: str) -> AlphaImage:
        """A channel of an original image. Raises materials.Beyond if it has none that could be drawn."""
        key = image.session_uid, channel
        if key not in self._images:
            self._images[key] = materials.read_image(image, channel)
        return self._images[key]

    def repainted(self) -> bool:
        """Read the pictures that are being painted on again, which Blender tells nobody. Whether any has changed."""
        found = {image.session_uid: image for image in bpy.data.images if image.is_dirty}
        changed = False
        for (uid, channel), known in self._images.items():
            if uid in found and not np.array_equal(materials.read_image(found[uid], channel).values, known.values):
                changed = True
        if changed:
            self._images.clear()
        return changed

    def geometry(self, ob: bpy.types.Object, mask_layer: str | None) -> tuple[tuple[object, ...], Geometry | None]:
        """The geometry of an evaluated object, and the key that it has here."""
        original, data = ob.original, ob.data
        layer = None
        if self._uv_layers is not None:
            layer = self._uv_layers.get(original.name, "")
        if not self.for_render and (sculpted := sculpting.known(original, (layer, mask_layer))):
            number, found = sculpted
            key = ("sculpted", original.session_uid, number, layer, mask_layer)
            self._known[key] = set(), found
            return key, found
        # An evaluated mesh has a session uid of its own, so that another one at its address is another one.
        key = (data.as_pointer(), data.session_uid, layer, mask_layer)
        if key not in self._known:
            owners = {original.session_uid} | ({original.data.session_uid} if original.data else set())
            self._known[key] = owners, geometry.read(ob, layer, mask_layer)
        return key, self._known[key][1]


class _Walk:
    """One walk over a depsgraph's instances."""

    def __init__(
        self,
        depsgraph: bpy.types.Depsgraph,
        reader: Reader,
        ids: Mapping[str, int],
        shown: Callable[[bpy.types.Object], bool] | None,
    ) -> None:
        self._depsgraph, self._reader, self._ids, self._shown = depsgraph, reader, ids, shown
        self._materials = {one.session_uid: number for number, one in enumerate(bpy.data.materials, 1)}
        self._looks: dict[int, Look] = {}
        self._groups: dict[tuple[object, ...], int] = {}
        self._found: list[tuple[Geometry, tuple[Look, ...]]] = []
        self._drawables: dict[tuple[int, int], tuple[int, float, int] | None] = {}
        """Data pointer and object uid -> group, id and uid; None if it is not drawn."""
        self._rows: list[tuple[int, int, float, int, int]] = []
        """Index in the depsgraph, group, id, uid of the object and of the parent."""
        self.used: set[tuple[object, ...]] = set()
        self._names: dict[int, str] = {}
        self._left_out: dict[str, str] = {}
        self._ignored: dict[str, str] = {}

    def run(self) -> None:
        drawables, rows, shown = self._drawables, self._rows, self._shown
        for index, instance in enumerate(self._depsgraph.object_instances):
            ob = instance.object
            if ob.type != "MESH":  # what text, curves and metaballs are made into follows as a mesh of its own
                self._note(ob)
                continue
            if not instance.show_self:
                continue
            uid = ob.original.session_uid
            key = ob.data.as_pointer(), uid
            if key not in drawables:
                drawables[key] = self._drawable(ob)
            if (drawable := drawables[key]) is None:
                continue
            parent = instance.parent if instance.is_instance else None
            if shown is not None and not shown(parent or ob):
                continue
            rows.append((index, *drawable, parent.original.session_uid if parent else 0))

    def _drawable(self, ob: bpy.types.Object) -> tuple[int, float, int] | None:
        original = ob.original
        if not self._visible(ob):
            return None
        if self._reader.for_render and (reason := _strands(ob)):
            self._left_out[original.name] = reason
        every = [self._look(ob, slot) for slot in range(max(1, len(ob.data.materials)))]
        layers = sorted({one.mask.uv_layer for one in every if one.mask})
        if len(layers) > 1:
            self._left_out[original.name] = "masks by several UV layers"
        key, found = self._reader.geometry(ob, layers[0] if layers else None)
        self.used.add(key)
        if found is None:
            return None
        looks = tuple(every[min(slot, len(every) - 1)] for slot, _, _ in found.parts)
        for one in looks:
            if one.beyond:
                self._left_out[original.name] = one.beyond
        group = self._groups.setdefault((key, looks), len(self._found))
        if group == len(self._found):
            self._found.append((found, looks))
        number = self._ids.get(original.name_full, 0)
        self._names[number] = original.name_full
        layer = self._depsgraph.view_layer
        holdout = ob.is_holdout or original.holdout_get(view_layer=layer)
        return group, HOLDOUT if holdout else float(number), original.session_uid

    def _visible(self, ob: bpy.types.Object) -> bool:
        if self._reader.for_render:
            return ob.visible_camera and not ob.original.indirect_only_get(view_layer=self._depsgraph.view_layer)
        return ob.display_type not in {"BOUNDS", "WIRE"}

    def _look(self, ob: bpy.types.Object, slot: int) -> Look:
        """The look of a material slot: the object's own material where the slot says so, or the mesh's."""
        if slot >= len(ob.data.materials):
            return Look()
        material = ob.data.materials[slot]
        if ob.original.type == "MESH" and slot < len(ob.material_slots) and ob.material_slots[slot].link == "OBJECT":
            material = ob.material_slots[slot].material
        if material is None:
            return Look()
        material = material.original
        uid = material.session_uid
        if uid not in self._looks:
            number, threshold = self._materials.get(uid, 0), self._depsgraph.view_layer.pass_alpha_threshold
            self._looks[uid] = materials.look(material, number, threshold, self._reader.cull, self._reader.image)
        return self._looks[uid]

    def _note(self, ob: bpy.types.Object) -> None:
        if reason := NOT_MESHES.get(ob.type):
            self._left_out[ob.original.name] = reason
        elif reason := NOT_DRAWN.get(ob.type):
            self._ignored[ob.original.name] = reason

    def stage(self) -> Stage:
        index, group, number, uid, parent = (
            np.array(column, dtype)
            for column, dtype in zip(
                zip(*self._rows, strict=True) if self._rows else [[]] * 5,
                (np.intp, np.intp, np.float64, np.int64, np.int64),
                strict=True,
            )
        )
        drawn, group = np.unique(group, return_inverse=True)  # not those whose places a viewport hides
        instances = self._depsgraph.object_instances
        count = len(instances) if len(index) else 0
        matrices, persistent = np.empty((count, 4, 4), np.float32), np.empty((count, 8), np.int32)
        if count:
            instances.foreach_get("matrix_world", matrices.reshape(-1))
            instances.foreach_get("persistent_id", persistent.reshape(-1))
        persistent = persistent[index]
        persistent[parent == 0] = 0
        return Stage(
            groups=[Group(*self._found[i], rows) for i, rows in zip(drawn.tolist(), _by_group(group), strict=False)],
            matrices=matrices[index].astype(np.float64).transpose(0, 2, 1),  # Blender's are by columns
            ids=number,
            keys=np.concatenate([_as_int32(uid), _as_int32(parent), persistent], 1),
            group_of=group,
            names=self._names,
            alpha_threshold=self._depsgraph.view_layer.pass_alpha_threshold,
            left_out=self._left_out,
            ignored=self._ignored,
        )


def _by_group(group: np.ndarray) -> list[np.ndarray]:
    """The rows of every group, in order."""
    order = np.argsort(group, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(group[order])) + 1)


def _as_int32(uids: np.ndarray) -> np.ndarray:
    return uids.astype(np.uint32).view(np.int32)[:, None]


def _strands(ob: bpy.types.Object) -> str:
    """What makes an object more than its mesh in Cycles' eyes."""
    for system in ob.particle_systems:
        if system.settings.type == "HAIR" and system.settings.render_type == "PATH":
            return "particle hair"
    return ""
