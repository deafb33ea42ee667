"""UV maps: whether a mesh has usable ones, and new ones where it has not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import bpy
import numpy as np

from .bridge.errors import EmptyMesh, LinkedData, SceneError
from .unwrap import Surface

LAYER = "Paintover"
MADE = "paintover_uvs"
"""Custom property of a mesh whose layer was made here: what its layers were before."""
GRID = 256
TOLERATED = 0.01
CHUNK = 4_000_000  # pixels tested at a time

_needed: dict[int, set[str]] = {}
"""Session uid of a mesh -> jobs under way whose textures are for the layer that was made for it."""

Problem = Literal["ok", "missing", "outside", "collapsed", "overlapping"]


@dataclass(frozen=True)
class UVState:
    """What `check` found."""

    problem: Problem
    share: float = 0.0
    """The share of the surface (outside, collapsed) or of the UV area (overlapping) that has the problem."""
    layer: str = ""
    """The layer that was looked at."""

    @property
    def usable(self) -> bool:
        return self.problem == "ok"

    def describe(self) -> str:
        """In the artist's words, to follow an object's name."""
        return {
            "ok": f"has usable UVs ({self.layer})",
            "missing": "has no UVs",
            "outside": f"has UVs outside the image ({self.share:.0%} of its surface)",
            "collapsed": f"has no UV area for {self.share:.0%} of its surface",
            "overlapping": f"has overlapping UVs ({self.share:.0%})",
        }[self.problem]


@dataclass(frozen=True)
class Layout:
    """A mesh's UV layer, free of Blender: it may be checked in a thread."""

    layer: str
    uvs: np.ndarray  # float32 (corners, 2)
    triangles: np.ndarray  # int32 (T · 3,): corners
    area: np.ndarray  # float32 (T,): of the surface

    def check(self) -> UVState:
        """Whether every part of the surface has a place of its own in the image."""
        triangles, area = self.uvs[self.triangles].reshape(-1, 3, 2).astype(np.float64), self.area
        surface = max(float(area.sum()), 1e-30)
        outside = ~((triangles >= -1e-4) & (triangles <= 1 + 1e-4)).all((1, 2))  # NaN is outside too
        if (share := float(area[outside].sum()) / surface) > TOLERATED:
            return UVState("outside", share, self.layer)
        triangles, area = triangles[~outside], area[~outside]
        collapsed = _areas(triangles) <= 1e-12
        if (share := float(area[collapsed].sum()) / surface) > TOLERATED:
            return UVState("collapsed", share, self.layer)
        if (share := overlap(triangles)) > TOLERATED:
            return UVState("overlapping", share, self.layer)
        return UVState("ok", share, self.layer)


def check(mesh: bpy.types.Mesh, layer: str | None = None) -> UVState:
    """Whether every part of the mesh has a place of its own in the image. `layer` defaults to the one that renders."""
    layout = read(mesh, layer)
    return layout.check() if layout else UVState("missing")


def read(mesh: bpy.types.Mesh, layer: str | None = None) -> Layout | None:
    """The UV layer as arrays; None if the mesh has no such layer, or no faces."""
    chosen = mesh.uv_layers.get(layer) if layer else _rendered(mesh)
    if chosen is None or not len(mesh.polygons):
        return None
    count = len(mesh.loop_triangles)
    corners = np.empty(count * 3, np.int32)
    mesh.loop_triangles.foreach_get("loops", corners)
    flat = np.empty(len(mesh.loops) * 2, np.float32)
    chosen.uv.foreach_get("vector", flat)
    area = np.empty(count, np.float32)
    mesh.loop_triangles.foreach_get("area", area)
    return Layout(chosen.name, flat.reshape(-1, 2), corners, area)


def unwrapping(ob: bpy.types.Object) -> Callable[[], np.ndarray]:
    """What gives the coordinates of a new layer for `make`; it touches no bpy, so it may run in a thread. Raises as
    `make` does."""
    _check_makeable(ob)
    return surface(ob.data).unwrap


def make(ob: bpy.types.Object, coordinates: np.ndarray | None = None) -> str:
    """Give the object's mesh a UV layer "Paintover": with these coordinates of its corners (float32 (2 · loops,)), or
    unwrapped; returns the layer's name.

    The other layers stay, and so do the active and the rendered one if there were any. Mode, selection and active
    object are not touched. Linked duplicates share the new layer, as they share the mesh. Raises LinkedData, EmptyMesh,
    or SceneError (Edit Mode; no room for a ninth layer; coordinates of another mesh) before any change.
    """
    mesh = ob.data
    layer = _check_makeable(ob)
    if coordinates is None:
        coordinates = surface(mesh).unwrap()
    if len(coordinates) != 2 * len(mesh.loops):
        raise SceneError(reason=f"{ob.name!r} was edited while its UVs were made", hint="Run it again.")
    if layer is None:
        rendered = _rendered(mesh)
        before = {"active": mesh.uv_layers.active.name, "render": rendered.name} if rendered else {}
        layer = mesh.uv_layers.new(name=LAYER, do_init=False)
        name = layer.name
        mesh[MADE] = {"layer": name, **before}
        _activate(mesh, before)
        layer = mesh.uv_layers[name]
    layer.uv.foreach_set("vector", coordinates)
    mesh.update()
    return layer.name


def _check_makeable(ob: bpy.types.Object) -> bpy.types.MeshUVLoopLayer | None:
    """Raise what `make` raises; the layer that it made before, if any."""
    mesh = ob.data
    if mesh.library:
        raise LinkedData(name=mesh.name)
    check_mode(ob)
    if not len(mesh.polygons):
        raise EmptyMesh(name=ob.name)
    layer = mesh.uv_layers.get(made(mesh))  # one of the user's own may have that name, too
    if layer is None and len(mesh.uv_layers) >= 8:
        raise SceneError(
            reason=f"{ob.name!r} already has eight UV layers", hint="Remove one (Properties > Data > UV Maps)."
        )
    return layer


def check_mode(ob: bpy.types.Object) -> None:
    """Raise SceneError if the object's mesh is being edited, be it by way of a linked duplicate."""
    if ob.mode == "EDIT":
        raise SceneError(reason=f"{ob.name!r} is in Edit Mode", hint="Leave Edit Mode (Tab) and try again.")
    if ob.data.is_editmode:
        raise SceneError(
            reason=f"the mesh of {ob.name!r} is in Edit Mode, by way of an object that shares it",
            hint="Leave Edit Mode (Tab) and try again.",
        )


def made(mesh: bpy.types.Mesh) -> str:
    """Name of the layer that `make` added to the mesh, or an empty text."""
    return str(mesh[MADE]["layer"]) if MADE in mesh else ""


def need(mesh: bpy.types.Mesh, job: str) -> None:
    """The job needs the layer that `make` added, until `let_go`."""
    _needed.setdefault(mesh.session_uid, set()).add(job)


def let_go(job: str) -> None:
    for mesh, jobs in list(_needed.items()):
        jobs.discard(job)
        if not jobs:
            del _needed[mesh]


def needed(mesh: bpy.types.Mesh) -> bool:
    """Whether a job under way needs the layer that `make` added."""
    return mesh.session_uid in _needed


def remove(mesh: bpy.types.Mesh) -> bool:
    """Take away the layer that `make` added and restore the others' roles. False if there is none."""
    if MADE not in mesh:
        return False
    before = mesh[MADE].to_dict()
    if layer := mesh.uv_layers.get(before["layer"]):
        mesh.uv_layers.remove(layer)
    _activate(mesh, before)
    del mesh[MADE]
    return True


def overlap(triangles: np.ndarray) -> float:
    """Share of the covered UV area that several of the `triangles` (T, 3, 2) in the unit square cover.

    Measured at the centres of a 256 × 256 grid; borders that triangles have in common do not count.
    """
    total = float(_areas(triangles).sum())
    if total > 1 + 2 * TOLERATED:
        return 1 - 1 / total  # more than fits: a lower bound, and no need to count
    covered = np.zeros(GRID * GRID, np.uint16)
    scaled = triangles * GRID - 0.5  # pixel centres are whole numbers
    low = np.clip(np.ceil(scaled.min(1)), 0, GRID).astype(np.int64)
    size = np.maximum(np.clip(np.floor(scaled.max(1)) + 1, 0, GRID).astype(np.int64) - low, 0)
    pixels = size.prod(1)
    ends = np.cumsum(pixels)
    start = 0
    while start < len(scaled):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + CHUNK, "right")))
        part = slice(start, stop)
        covered += _count(scaled[part], low[part], size[part], pixels[part])
        start = stop
    return float((covered > 1).sum() / max((covered > 0).sum(), 1))


def _count(triangles: np.ndarray, low: np.ndarray, size: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """How many of the triangles have each pixel centre inside, uint16 (GRID²,)."""
    which = np.repeat(np.arange(len(triangles)), pixels)
    within = np.arange(len(which)) - np.repeat(np.cumsum(pixels) - pixels, pixels)
    x = low[which, 0] + within % np.maximum(size[which, 0], 1)
    y = low[which, 1] + within // np.maximum(size[which, 0], 1)
    sign = np.sign(_doubled_areas(triangles))[which]
    inside = np.ones(len(which), bool)
    for corner in range(3):
        a, b = triangles[which, corner], triangles[which, (corner + 1) % 3]
        side = (b[:, 0] - a[:, 0]) * (y - a[:, 1]) - (b[:, 1] - a[:, 1]) * (x - a[:, 0])
        inside &= side * sign > 1e-3
    return np.bincount((y * GRID + x)[inside], minlength=GRID * GRID).astype(np.uint16)


def _doubled_areas(triangles: np.ndarray) -> np.ndarray:
    a, b = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def _areas(triangles: np.ndarray) -> np.ndarray:
    return np.abs(_doubled_areas(triangles)) / 2


def _rendered(mesh: bpy.types.Mesh) -> bpy.types.MeshUVLoopLayer | None:
    return next((layer for layer in mesh.uv_layers if layer.active_render), mesh.uv_layers.active)


def _activate(mesh: bpy.types.Mesh, names: dict[str, str]) -> None:
    if layer := mesh.uv_layers.get(names.get("active", "")):
        mesh.uv_layers.active = layer
    if layer := mesh.uv_layers.get(names.get("render", "")):
        layer.active_render = True


def surface(mesh: bpy.types.Mesh) -> Surface:
    """The mesh as arrays, to be unwrapped in whatever thread."""
    positions = np.empty(len(mesh.vertices) * 3, np.float32)
    mesh.vertices.foreach_get("co", positions)
    starts = np.empty(len(mesh.polygons), np.int32)
    mesh.polygons.foreach_get("loop_start", starts)
    vertices, edges = np.empty(len(mesh.loops), np.int32), np.empty(len(mesh.loops), np.int32)
    mesh.loops.foreach_get("vertex_index", vertices)
    mesh.loops.foreach_get("edge_index", edges)
    return Surface(positions.reshape(-1, 3), starts, vertices, edges)
