"""Draws the lines of a stage over the passes of its triangles."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import gpu
import numpy as np

from ..bridge.parameters import EdgeStyle
from ..bridge.scene import Camera
from .features import Features, Lines, contours, find, looks_of
from .geometry import Geometry
from .instances import Group, Stage
from .line_shader import make_line_shader
from .rays import affine_rays, times
from .readback import LineTarget, drawing_state


@dataclass(frozen=True)
class Drawing:
    """The lines of one frame."""

    style: EdgeStyle
    features: list[Features]
    """Of every group of the stage."""
    moving: gpu.types.GPUBatch | None
    """Those that depend on the camera, in its space."""


class LineDrawer:
    """Draws lines. Holds what lies on the graphics card; belongs to one GPU context and Blender's main thread."""

    def __init__(self) -> None:
        self._shaders: dict[bool, gpu.types.GPUShader] = {}
        self._features: weakref.WeakKeyDictionary[Geometry, dict[object, Features]] = weakref.WeakKeyDictionary()
        self._batches: weakref.WeakKeyDictionary[Features, gpu.types.GPUBatch] = weakref.WeakKeyDictionary()
        self._target: LineTarget | None = None

    def prepare(self, stage: Stage, in_view: np.ndarray, camera: Camera, style: EdgeStyle) -> Drawing:
        """Find the lines of a stage. in_view: float64 (N, 4, 4), local to camera space, of every row of the stage."""
        features = [self._features_of(group, style) for group in stage.groups]
        moving = contours(stage, features, in_view, camera.orthographic)
        return Drawing(style, features, _make_batch(moving) if len(moving.kind) else None)

    def draw(
        self,
        drawing: Drawing,
        stage: Stage,
        instances: gpu.types.GPUTexture,
        seen: list[gpu.types.GPUTexture],
        camera: Camera,
        window: np.ndarray,
    ) -> None:
        """Draw a tile, which is to be read next. `seen`: its targets, normal and depth, motion and ids. `window`:
        clip space of the whole image to that of the tile. `instances` is as for triangles, and one more at the end,
        which moves nothing."""
        size = seen[0].width, seen[0].height
        if self._target is None or self._target.size != size:
            self._target = None  # free the old one first
            self._target = LineTarget(*size)
        style = drawing.style
        border_alone = style.border and not style.silhouette
        with_ids = border_alone or bool((stage.ids < 0).any())
        if with_ids not in self._shaders:
            self._shaders[with_ids] = make_line_shader(with_ids)
        shader = self._shaders[with_ids]
        view = _uniforms(camera, window, size, style.width, border_alone)  # must live until all is drawn
        with self._target.bound(), drawing_state():
            shader.bind()
            shader.uniform_block("view", view)
            shader.uniform_sampler("instances", instances)
            shader.uniform_sampler("normal_depth", seen[0])
            if with_ids:
                shader.uniform_sampler("motion_ids", seen[1])
            first = 0
            for group, features in zip(stage.groups, drawing.features, strict=True):
                if len(features.fixed.kind):
                    shader.uniform_int("first", first)
                    self._batch_of(features).draw_instanced(shader, instance_start=0, instance_count=len(group.rows))
                first += len(group.rows)
            if drawing.moving:
                shader.uniform_int("first", first)
                drawing.moving.draw_instanced(shader, instance_start=0, instance_count=1)

    def read(self) -> np.ndarray:
        """uint8 (H, W) of the tile drawn last: coverage by lines."""
        assert self._target is not None
        return self._target.read()

    def forget_target(self) -> None:
        """Let go of a large target."""
        self._target = None

    def _features_of(self, group: Group, style: EdgeStyle) -> Features:
        known = self._features.setdefault(group.geometry, {})
        key = group.looks, style.crease_angle, style.silhouette, style.crease, style.border, style.mark
        if key not in known:
            if any(old[1:] != key[1:] for old in known):  # of another style
                known.clear()
            known[key] = find(group.geometry.wire, looks_of(group), style)
        return known[key]

    def _batch_of(self, features: Features) -> gpu.types.GPUBatch:
        if features not in self._batches:
            self._batches[features] = _make_batch(features.fixed)
        return self._batches[features]


def _make_batch(lines: Lines) -> gpu.types.GPUBatch:
    """Four vertices and two triangles for every line; the shader knows which is which by their numbers."""
    layout = gpu.types.GPUVertFormat()
    for name, length in (("start", 3), ("end", 3), ("kind", 1)):
        layout.attr_add(id=name, comp_type="F32", len=length, fetch_mode="FLOAT")
    count = len(lines.kind)
    vertices = gpu.types.GPUVertBuf(layout, 4 * count)
    vertices.attr_fill("start", np.repeat(lines.ends[:, 0], 4, axis=0))
    vertices.attr_fill("end", np.repeat(lines.ends[:, 1], 4, axis=0))
    vertices.attr_fill("kind", np.repeat(lines.kind.astype(np.float32), 4))
    corners = 4 * np.arange(count, dtype=np.int32)[:, None, None] + np.array([[0, 1, 2], [2, 1, 3]], np.int32)
    index = gpu.types.GPUIndexBuf(type="TRIS", seq=np.ascontiguousarray(corners.reshape(-1, 3)))
    return gpu.types.GPUBatch(type="TRIS", buf=vertices, elem=index)


def _uniforms(
    camera: Camera, window: np.ndarray, size: tuple[int, int], width: float, border_alone: bool
) -> gpu.types.GPUUniformBuf:
    """The block `View` of the shader."""
    to_clip = times(window, camera.projection)
    rays = affine_rays(to_clip, *size)
    near, far = camera.clip
    values = np.concatenate(
        [
            to_clip.T.ravel(),
            rays.transpose(1, 0, 2).ravel(),
            [*size, near, far],
            [width / 2, camera.orthographic, border_alone, 0],
        ]
    ).astype(np.float32)
    return gpu.types.GPUUniformBuf(gpu.types.Buffer("FLOAT", values.size, values))
