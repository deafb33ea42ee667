"""A painted frame in another view, at another time: what is known of the geometry says where every surface was painted.

Each surface of the present looks itself up in the past: the same instance, the same vertices, under the matrices and
through the camera that the frame was painted from (that is what the motion pass is made of). So a moved or deformed
object takes its paint with it. What was hidden then is filled from the same surface's paint around it.
"""

from __future__ import annotations

from dataclasses import dataclass

import gpu
import numpy as np
from gpu_extras.batch import batch_for_shader

from ..bridge.scene import Camera
from .draw import Before, Drawer, Frame, Places, uniforms
from .instances import Stage
from .readback import Targets, drawing_state
from .reproject_shaders import make_background_shader, make_fill_shader, make_surface_shader

FLIP = np.diag([1.0, -1.0, 1.0, 1.0])
"""Clip space with row 0 first in memory."""
CORNERS = [(0, 0), (1, 0), (1, 1), (0, 1)]
TRIANGLES = [(0, 1, 2), (0, 2, 3)]
REACH = 4
"""Pixels up to which the distance to a silhouette is told; the shaders' own."""
JUMP = 0.02
"""Share of the depth from which on a step between neighbours may be a silhouette."""


@dataclass(frozen=True, eq=False)
class Known:
    """What must be known of the moment that a frame was painted from."""

    before: Before
    seen: np.ndarray
    """float32 (H, W, 4): depth (+inf on background), object id, and the distance to the nearest silhouette in pixels,
    1 … REACH; one more for the graphics card's sake."""

    @property
    def shown(self) -> set[int]:
        """Session uids of the objects that can be seen."""
        stage = self.before.stage
        return set(stage.keys[np.isin(stage.ids, np.unique(self.seen[..., 1])), 0].astype(np.uint32).tolist())

    @classmethod
    def of(cls, stage: Stage, frame: Frame) -> Known:
        seen = np.zeros((*frame.depth.shape, 4), np.float32)
        seen[..., 0], seen[..., 1] = frame.depth, frame.object_id
        seen[..., 2] = from_edge(frame.depth, frame.object_id, frame.camera.orthographic)
        return cls(Before(frame.camera, stage), seen)


@dataclass(frozen=True, eq=False)
class Painted:
    """A painted frame as the graphics card has it. Belongs to a GPU context."""

    known: Known
    picture: gpu.types.GPUTexture
    seen: gpu.types.GPUTexture

    @classmethod
    def upload(cls, known: Known, picture: np.ndarray) -> Painted:
        """`picture`: uint8 (H, W, 3), of the passes' size or not."""
        height, width = known.seen.shape[:2]
        if picture.shape[:2] != (height, width):
            picture = resize(picture, width, height)
        rgba = np.ones((height, width, 4), np.float32)
        np.multiply(picture, np.float32(1 / 255), out=rgba[..., :3])
        return cls(known, _texture(rgba, "RGBA8"), _texture(known.seen, "RGBA32F"))


def from_edge(depth: np.ndarray, object_id: np.ndarray, parallel: bool) -> np.ndarray:
    """uint8 (H, W): pixels to the nearest pixel that shows another object, or the same one beyond a jump in depth; 1 …
    REACH. `depth` is +inf on background.

    Without normals, for speed: 1/depth, or depth where rays are `parallel`, is even along planes, so a jump is a step
    that neither neighbouring step is like.
    """
    level = depth if parallel else 1 / depth
    edge = np.zeros(depth.shape, bool)
    for axis, (a, b) in enumerate(((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:]))):
        apart = object_id[a] != object_id[b]
        with np.errstate(invalid="ignore"):  # inf − inf: background beside background
            step = np.abs(level[b] - level[a])
            jump = np.nonzero((step > JUMP * np.abs(level[b])) & ~apart)
        beside = [list(jump), list(jump)]
        beside[0][axis] = np.maximum(jump[axis] - 1, 0)
        beside[1][axis] = np.minimum(jump[axis] + 1, step.shape[axis] - 1)
        apart[jump] = step[jump] > 3 * np.maximum(step[tuple(beside[0])], step[tuple(beside[1])])
        edge[a] |= apart
        edge[b] |= apart
    near = [edge]
    while len(near) < REACH - 1:
        near.append(_grown(near[-1]))
    distance = np.full(depth.shape, REACH, np.uint8)
    for reach in range(REACH - 1, 0, -1):
        distance[near[reach - 1]] = reach
    return distance


def _grown(mask: np.ndarray) -> np.ndarray:
    """bool (H, W), and all that is beside it, corners included."""
    wide = mask.copy()
    wide[1:] |= mask[:-1]
    wide[:-1] |= mask[1:]
    grown = wide.copy()
    grown[:, 1:] |= wide[:, :-1]
    grown[:, :-1] |= wide[:, 1:]
    return grown


def resize(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """The nearest pixels of a picture (H, W, 3), as width × height of them."""
    rows = (np.arange(height) + 0.5) * picture.shape[0] / height
    columns = (np.arange(width) + 0.5) * picture.shape[1] / width
    return picture[rows.astype(np.intp)[:, None], columns.astype(np.intp)]


def _texture(values: np.ndarray, kind: str) -> gpu.types.GPUTexture:
    data = gpu.types.Buffer("FLOAT", values.size, np.ascontiguousarray(values).reshape(-1))
    return gpu.types.GPUTexture((values.shape[1], values.shape[0]), format=kind, data=data)


class Reprojector:
    """Draws painted frames into other views. Belongs to one GPU context and Blender's main thread."""

    def __init__(self, drawer: Drawer) -> None:
        self._drawer = drawer
        self._surfaces: dict[tuple[bool, ...], gpu.types.GPUShader] = {}
        self._background = make_background_shader()
        self._fill = make_fill_shader()
        screen = {"place": [(2 * x - 1, 2 * y - 1) for x, y in CORNERS]}
        self._everywhere = batch_for_shader(self._background, "TRIS", screen, indices=TRIANGLES)
        self._rectangle = batch_for_shader(self._fill, "TRIS", {"place": CORNERS}, indices=TRIANGLES)
        self._targets: Targets | None = None
        self._unseen: Targets | None = None

    def draw(self, stage: Stage, camera: Camera, painted: Painted) -> None:
        """The painted frame as `camera` sees `stage`, kept for `show`."""
        if self._targets is None or self._targets.size != (camera.width, camera.height):
            self._targets = None  # free the old ones first
            self._targets = Targets(camera.width, camera.height, 3)
        before = painted.known.before
        places = Places(stage, camera, before, numbered_then=True)
        size = painted.picture.width, painted.picture.height
        cameras = uniforms(camera, before.camera, FLIP, size, False)

        with self._targets.bound([(0, 0, 0, 0)] * 3), drawing_state():
            gpu.state.depth_mask_set(False)
            gpu.state.depth_test_set("NONE")
            self._background.bind()
            self._bind(self._background, painted)
            for name, row in zip(("row_x", "row_y", "row_w"), _background(camera, before.camera), strict=True):
                self._background.uniform_float(name, row)
            self._everywhere.draw(self._background)
            gpu.state.depth_mask_set(True)
            gpu.state.depth_test_set("LESS")
            self._drawer.each(places, cameras, lambda *key: self._surface(painted, *key))

    def atlas(
        self, stage: Stage, camera: Camera, painted: Painted, size: int, rows: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The painted frame where the UVs of `stage` (read with UVs) are, for some rows of a square of `size`, counted
        from v = 0: float32 (rows, size, 4), colour and 1 where there is paint; and bool (rows, size): where there is
        surface, painted or not."""
        before, (first, last) = painted.known.before, rows
        places = Places(stage, camera, before, numbered_then=True)
        part = np.diag([2.0, 2.0 * size / (last - first), 1.0, 1.0])
        part[:2, 3] = -1.0, -1.0 - 2.0 * first / (last - first)
        picture = painted.picture.width, painted.picture.height
        cameras = uniforms(camera, before.camera, FLIP, picture, False, part)
        targets = Targets(size, last - first, 2)
        with targets.bound([(0, 0, 0, 0)] * 2), drawing_state():
            self._drawer.each(places, cameras, lambda *key: self._surface(painted, *key, True))
        paint, surface = (np.empty((last - first, size, 4), np.float32) for _ in range(2))
        targets.read(0, paint)
        targets.read(1, surface)
        return paint, surface[..., 0] > 0

    def _surface(self, painted: Painted, *key: bool) -> gpu.types.GPUShader:
        if key not in self._surfaces:
            self._surfaces[key] = make_surface_shader(*key)
        shader = self._surfaces[key]
        shader.bind()
        self._bind(shader, painted)
        return shader

    @staticmethod
    def _bind(shader: gpu.types.GPUShader, painted: Painted) -> None:
        shader.uniform_sampler("picture", painted.picture)
        shader.uniform_sampler("painted", painted.seen)

    def show(
        self,
        rectangle: tuple[float, float, float, float] = (0, 0, 1, 1),
        *,
        fill: bool = True,
        linear: bool = False,
    ) -> None:
        """Draw what `draw` has kept, or a rectangle of it (left, bottom, right, top as shares), at the same place of
        what is bound: with its holes filled, or without them. `linear`: into a
        viewport, whose frame buffer makes sRGB of linear light."""
        if self._targets is None:
            return
        self._fill.bind()
        self._fill.uniform_sampler("paint", self._targets.colors[0])
        self._fill.uniform_sampler("surface", self._targets.colors[1])
        self._fill.uniform_sampler("level", self._targets.colors[2])
        self._fill.uniform_float("rectangle", rectangle)
        self._fill.uniform_int("fill", fill)
        self._fill.uniform_int("linear", linear)
        self._rectangle.draw(self._fill)

    def finish(self, *, fill: bool = True) -> None:
        """Show it in a picture that nobody sees, and wait until that is drawn: for measuring."""
        assert self._targets is not None
        if self._unseen is None or self._unseen.size != self._targets.size:
            self._unseen = Targets(*self._targets.size, 1)
        with self._unseen.bound([(0, 0, 0, 0)]), drawing_state():
            gpu.state.depth_test_set("NONE")
            self.show(fill=fill)
            gpu.state.active_framebuffer_get().read_color(0, 0, 1, 1, 4, 0, "FLOAT")

    def image(self, *, fill: bool = True) -> np.ndarray:
        """What `draw` has kept, float32 (H, W, 4): colour as in the picture, 0…1, and 1 where there is paint."""
        self.finish(fill=fill)
        assert self._unseen is not None
        width, height = self._unseen.size
        image = np.empty((height, width, 4), np.float32)
        self._unseen.read(0, image)
        return image[::-1]


def _background(camera: Camera, before: Camera) -> np.ndarray:
    """float64 (3, 3): clip x, y, 1 of what is infinitely far away (row 0 first), now -> clip x, y, w of it, before.

    What is infinitely far does not move with the camera's place. Parallel rays would all end at one place there: such
    a camera takes its background along.
    """
    p, q = camera.projection, before.projection
    axes = np.linalg.inv(p[:2, :2])
    matrix = np.eye(3)  # from perspective to parallel: it stays where it is on the screen
    if camera.orthographic and before.orthographic:
        matrix[:2, :2] = q[:2, :2] @ axes
        matrix[:2, 2] = q[:2, 3] - matrix[:2, :2] @ p[:2, 3]
    elif not (camera.orthographic or before.orthographic):
        ray = np.zeros((3, 3))  # of clip x, y, 1: a direction in camera space
        ray[:2, :2], ray[:2, 2], ray[2, 2] = axes * -p[3, 2], axes @ p[:2, 2], -1
        matrix = q[[0, 1, 3], :3] @ before.view[:3, :3] @ camera.view[:3, :3].T @ ray
    flip = np.diag([1.0, -1.0, 1.0])
    return flip @ matrix @ flip
