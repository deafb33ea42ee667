"""Draws a stage into float targets with shaders of its own: exact numbers at pixel centres, nothing to look at."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import gpu
import numpy as np

from ..bridge.parameters import EdgeStyle
from ..bridge.scene import Camera
from .edges import find_edges
from .geometry import Geometry
from .ids import LARGEST
from .instances import HOLDOUT, Group, Stage
from .lines import LineDrawer
from .materials import AlphaImage
from .rays import times
from .readback import Targets, drawing_state
from .shaders import INSTANCES_PER_ROW, TEXELS, make_shader

TILE = 4096
"""Larger images are drawn in tiles of this many pixels."""
KEPT = 2048 * 2048
"""Targets of larger images are not kept for the next one."""
INF = np.float32(np.inf)
UNKNOWN = LARGEST + 1.0
"""No object's id."""


@dataclass(frozen=True)
class Frame:
    """What one camera sees at one moment. Row 0 is at the top; conventions are those of `Passes`."""

    camera: Camera
    depth: np.ndarray
    """float32 (H, W): view-space distance along the camera's axis; +inf on background."""
    normal: np.ndarray
    """float32 (H, W, 3): camera space, toward the camera; 0 on background."""
    object_id: np.ndarray
    """float32 (H, W): whole numbers; 0 on background."""
    material: np.ndarray
    """float32 (H, W): whole numbers that tell materials apart; 0 on background, and where there is none."""
    motion: np.ndarray
    """float32 (H, W, 2): pixels, x right, y down: p + motion is where the surface at p was in the previous frame.
    0 on background, and where there was no previous frame; inf where the surface was behind the camera."""
    names: dict[int, str]
    """Object id -> full name."""
    left_out: dict[str, str]
    """Object -> what it has that is not drawn, or not as it renders: hair, volumes, displacement, …"""
    position: np.ndarray | None = None
    """float32 (H, W, 3): world space, if asked for; NaN on background."""
    depth_before: np.ndarray | None = None
    """float32 (H, W), with `position`: view-space depth, in the previous frame, of the surface seen here."""
    uv: np.ndarray | None = None
    """float32 (H, W, 2): v up; if asked for; 0 on background."""
    edge: np.ndarray | None = None
    """uint8 (H, W): 255 on lines, anti-aliased; if asked for."""


@dataclass(frozen=True)
class Before:
    """What the motion comes from: the camera and the stage of the previous frame."""

    camera: Camera
    stage: Stage


class Drawer:
    """Draws stages. Holds what lies on the graphics card; belongs to one GPU context and Blender's main thread."""

    def __init__(self) -> None:
        self._shaders: dict[tuple[bool, ...], gpu.types.GPUShader] = {}
        self._masks: weakref.WeakKeyDictionary[AlphaImage, gpu.types.GPUTexture] = weakref.WeakKeyDictionary()
        self._batches: weakref.WeakKeyDictionary[Geometry, list[gpu.types.GPUBatch]] = weakref.WeakKeyDictionary()
        self._lines = LineDrawer()
        self._targets: Targets | None = None
        self._count = 0

    def draw(
        self,
        stage: Stage,
        camera: Camera,
        before: Before | None = None,
        *,
        position: bool = False,
        uv: bool = False,
        edges: EdgeStyle | None = None,
    ) -> Frame:
        """The passes of a stage, and edges in a style. For `uv` the stage must have been read with UVs."""
        count = 4 if uv else 3 if position else 2
        images = [np.empty((camera.height, camera.width, 4), np.float32) for _ in range(count)]
        places = Places(stage, camera, before)
        lines = self._lines.prepare(stage, places.now, camera, edges) if edges else None
        edge = np.empty((camera.height, camera.width), np.uint8) if edges else None
        drawn: np.ndarray | None = None  # where the lines go that were not read yet
        for y in range(0, camera.height, TILE):
            for x in range(0, camera.width, TILE):
                width, height = min(TILE, camera.width - x), min(TILE, camera.height - y)
                window = _window(camera, x, y, width, height)
                targets = self._targets_of(width, height, count)
                self._draw_tile(targets, places, camera, before.camera if before else camera, window, position, uv)
                if lines is not None and edge is not None:
                    if drawn is not None:
                        drawn[:] = self._lines.read()
                    self._lines.draw(lines, stage, places.texture, targets.colors, camera, window)
                    drawn = edge[y : y + height, x : x + width]
                for slot, image in enumerate(images):
                    part = image[y : y + height, x : x + width]
                    into = part if part.flags.c_contiguous else np.empty((height, width, 4), np.float32)
                    targets.read(slot, into)
                    if into is not part:
                        part[:] = into
        if (stage.ids < 0).any():
            np.maximum(images[1][..., 3], 0, out=images[1][..., 3])  # depths of holdouts
        if edges is not None and edge is not None and drawn is not None:
            cuts = _cuts(stage, camera, images, edges)  # meanwhile the lines are drawn
            drawn[:] = self._lines.read()
            np.maximum(edge, cuts, out=edge)
        if camera.width * camera.height > KEPT:
            self._targets = None
            self._lines.forget_target()
        return Frame(
            camera,
            depth=images[0][..., 3],
            normal=images[0][..., :3],
            motion=images[1][..., :2],
            object_id=images[1][..., 2],
            material=images[1][..., 3],
            edge=edge,
            names=stage.names,
            left_out={**stage.ignored, **stage.left_out},
            position=images[2][..., :3] if position else None,
            depth_before=images[2][..., 3] if position else None,
            uv=images[3][..., :2] if uv else None,
        )

    def _targets_of(self, width: int, height: int, count: int) -> Targets:
        if self._targets is None or (*self._targets.size, self._count) != (width, height, count):
            self._targets = None  # free the old ones first
            self._targets, self._count = Targets(width, height, count), count
        return self._targets

    def _draw_tile(
        self,
        targets: Targets,
        places: Places,
        camera: Camera,
        camera_before: Camera,
        window: np.ndarray,
        position: bool,
        uv: bool,
    ) -> None:
        clear = [(0, 0, 0, INF), (0, 0, 0, 0), (np.nan,) * 4, (0, 0, 0, 0)]
        cameras = uniforms(camera, camera_before, window, targets.size, position or uv)
        with targets.bound(clear[: self._count]), drawing_state():
            self.each(places, cameras, lambda *key: self._shader(position or uv, uv, *key))

    def each(
        self, places: Places, cameras: gpu.types.GPUUniformBuf, shader_for: Callable[..., gpu.types.GPUShader]
    ) -> None:
        """Draw all that is there. `shader_for` gives the shader, bound, by whether what it draws deforms and is
        masked."""
        for group, first in places.groups():
            previous = places.moved_from(group)
            for batch, look in zip(self._batches_of(group.geometry, previous), group.looks, strict=True):
                if look.hidden:
                    continue
                shader = shader_for(previous is not None, look.mask is not None)
                shader.uniform_block("cameras", cameras)
                shader.uniform_sampler("instances", places.texture)
                shader.uniform_int("first", first)
                shader.uniform_float("material", look.number)
                shader.uniform_int("culled", look.culled)
                if mask := look.mask:
                    shader.uniform_sampler("mask", self._mask(mask.image))
                    shader.uniform_int("lookup", (mask.linear, mask.extension))
                    shader.uniform_float("threshold", places.threshold)
                batch.draw_instanced(shader, instance_start=0, instance_count=len(group.rows))

    def _mask(self, image: AlphaImage) -> gpu.types.GPUTexture:
        if image not in self._masks:
            height, width = image.values.shape
            data = gpu.types.Buffer("FLOAT", image.values.size, image.values.reshape(-1))
            self._masks[image] = gpu.types.GPUTexture((width, height), format="R32F", data=data)
        return self._masks[image]

    def _shader(self, *key: bool) -> gpu.types.GPUShader:
        if key not in self._shaders:
            self._shaders[key] = make_shader(*key)
        self._shaders[key].bind()
        return self._shaders[key]

    def _batches_of(self, geometry: Geometry, previous: np.ndarray | None) -> list[gpu.types.GPUBatch]:
        """A batch for every part of the geometry. Those that do not deform are kept."""
        if previous is not None:
            return _make_batches(geometry, previous)
        if geometry not in self._batches:
            self._batches[geometry] = _make_batches(geometry, None)
        return self._batches[geometry]


class Places:
    """The matrices and ids of all instances as a texture, group by group."""

    def __init__(self, stage: Stage, camera: Camera, before: Before | None, *, numbered_then: bool = False) -> None:
        """`numbered_then`: instances have the ids that they had before; those that were not there have UNKNOWN."""
        self._stage, self._before = stage, before
        self.threshold = stage.alpha_threshold
        ids = stage.ids
        now = self.now = times(camera.view, stage.matrices)
        """float64 (N, 4, 4): local to camera space, of the stage's rows."""
        self._rows = None
        matrices_before = stage.matrices
        if before is not None and before.stage is not stage:
            self._rows = stage.places_in(before.stage)
            was = self._rows >= 0
            matrices_before = stage.matrices.copy()
            matrices_before[was] = before.stage.matrices[self._rows[was]]
            if numbered_then:
                ids = np.full_like(stage.ids, UNKNOWN)
                ids[was] = before.stage.ids[self._rows[was]]
                ids[ids == HOLDOUT] = UNKNOWN
                ids[stage.ids == HOLDOUT] = HOLDOUT
        then = times(before.camera.view if before else camera.view, matrices_before)
        order = np.concatenate([group.rows for group in stage.groups]) if stage.groups else np.empty(0, np.intp)
        lines = -(-(len(order) + 1) // INSTANCES_PER_ROW)
        texels = np.zeros((lines * INSTANCES_PER_ROW, TEXELS, 4), np.float32)
        texels[: len(order), 0:3] = now[order, :3]
        texels[: len(order), 3:6] = then[order, :3]
        texels[: len(order), 6, 0] = ids[order]
        texels[: len(order), 6, 1] = np.where(_mirrored(now[order]), -1, 1)
        texels[len(order), 0:3] = np.eye(4)[:3]  # for what is in camera space already
        data = gpu.types.Buffer("FLOAT", texels.size, texels.reshape(-1))
        self.texture = gpu.types.GPUTexture((INSTANCES_PER_ROW * TEXELS, lines), format="RGBA32F", data=data)

    def groups(self) -> Iterator[tuple[Group, int]]:
        """Every group, and the number of its first instance in the texture."""
        first = 0
        for group in self._stage.groups:
            yield group, first
            first += len(group.rows)

    def moved_from(self, group: Group) -> np.ndarray | None:
        """The vertices' positions in the previous frame, if they were others."""
        if self._before is None or self._rows is None:
            return None
        row = self._rows[group.rows[0]]
        if row < 0:
            return None
        stage = self._before.stage
        old = stage.groups[stage.group_of[row]].geometry
        if old is group.geometry or not group.geometry.follows(old):
            return None
        return old.positions


def _mirrored(matrices: np.ndarray) -> np.ndarray:
    x, y, z = matrices[:, 0, :3], matrices[:, 1, :3], matrices[:, 2, :3]
    return (np.cross(x, y) * z).sum(1) < 0


def _cuts(stage: Stage, camera: Camera, images: list[np.ndarray], style: EdgeStyle) -> np.ndarray:
    """uint8 (H, W): lines that are no edges of a mesh: intersections, and the outlines of masks."""
    numbers = {look.number for group in stage.groups for look in group.looks if look.mask}
    masked = np.isin(images[1][..., 3], list(numbers)) if numbers else None
    depth, normal = images[0][..., 3], images[0][..., :3]
    return find_edges(camera, depth, normal, images[1][..., 2], images[1][..., 3], style, masked=masked)


def _window(camera: Camera, x: int, y: int, width: int, height: int) -> np.ndarray:
    """float64 (4, 4): clip space of the whole image -> clip space of a tile of it, with row 0 first in memory."""
    window = np.eye(4)
    window[0, 0], window[0, 3] = camera.width / width, (camera.width - 2 * x) / width - 1
    window[1, 1], window[1, 3] = -camera.height / height, (camera.height - 2 * y) / height - 1
    return window


def uniforms(
    camera: Camera,
    before: Camera,
    window: np.ndarray,
    size: tuple[int, int],
    position: bool,
    part: np.ndarray | None = None,
) -> gpu.types.GPUUniformBuf:
    """The block `Cameras` of the shader. `part`: (4, 4), UVs -> clip space, for an atlas, which has no positions."""
    to_world = np.linalg.inv(camera.view) if position else np.eye(4) if part is None else part
    far = camera.clip[1]
    values = np.concatenate(
        [
            times(window, camera.projection).T.ravel(),
            times(window, before.projection).T.ravel(),
            to_world.T.ravel(),
            [size[0] / 2, size[1] / 2, far, before.orthographic],
        ]
    ).astype(np.float32)
    return gpu.types.GPUUniformBuf(gpu.types.Buffer("FLOAT", values.size, values))


def _make_batches(geometry: Geometry, previous: np.ndarray | None) -> list[gpu.types.GPUBatch]:
    columns = {"place": geometry.positions, "facing": geometry.normals}
    if geometry.uvs is not None:
        columns["corner_uv"] = geometry.uvs
    if geometry.mask_uvs is not None:
        columns["mask_uv"] = geometry.mask_uvs
    if previous is not None:
        columns["place_before"] = previous
    layout = gpu.types.GPUVertFormat()
    for name, values in columns.items():
        layout.attr_add(id=name, comp_type="F32", len=values.shape[1], fetch_mode="FLOAT")
    vertices = gpu.types.GPUVertBuf(layout, len(geometry.positions))
    for name, values in columns.items():
        vertices.attr_fill(name, np.ascontiguousarray(values))
    return [
        gpu.types.GPUBatch(
            type="TRIS",
            buf=vertices,
            elem=gpu.types.GPUIndexBuf(type="TRIS", seq=geometry.triangles[first : first + count]),
        )
        for _, first, count in geometry.parts
    ]
