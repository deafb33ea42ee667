"""Cameras: Blender's as matrices, and automatic ones placed around objects."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import bpy
import numpy as np

from .bridge.errors import NoCamera, OutsideCameras, SceneError
from .bridge.scene import Camera, MeshData
from .passes.offstage import layer_name
from .steps import GO_ON, Steps

ELEVATIONS = (-30.0, 10.0, 30.0, 55.0)
"""Degrees. Straight up and down are left out: painting models know few pictures from there."""
AZIMUTHS = 24
LENS = 2.75
"""Cotangent of half the angle of view: about 40°, a normal lens."""
FILL = 0.92
"""Share of the frame that the objects fill."""
GRAZING = np.cos(np.radians(75.0))
SAMPLES = 256
"""Surface points by which candidates are judged, shared among the objects."""
FEWEST = 24
"""Points that even the smallest of many objects gets."""
ENOUGH = 0.005
"""A further camera has to improve the view of the surface by this share."""


def view_size(scene: bpy.types.Scene, longer: int) -> tuple[int, int]:
    """Width and height in the proportions of the scene's render; the longer side is `longer`, both divisible by 8."""
    render = scene.render
    scale = longer / max(render.resolution_x, render.resolution_y)
    width, height = (max(64, round(side * scale / 8) * 8) for side in (render.resolution_x, render.resolution_y))
    return width, height


def _pixel_aspect(render: bpy.types.RenderSettings, width: int, height: int) -> tuple[float, float]:
    """How wide and how high a pixel is. An image that has the proportions of the render, but for its sides being
    multiples of 8, has pixels a little wider or higher than the render's: so it shows the very same, and fits what
    Blender's own engines make."""
    x, y = render.pixel_aspect_x, render.pixel_aspect_y
    over = (render.resolution_x * height) / (render.resolution_y * width)
    if abs(over - 1) > 4 / min(width, height):  # by 4 pixels at the most is a side rounded
        return x, y
    return x * max(1.0, over), y * max(1.0, 1 / over)


def from_scene(scene: bpy.types.Scene, longer: int) -> Camera:
    """The scene's active camera at `view_size`. Raises NoCamera, or SceneError as `from_object` does."""
    if scene.camera is None or scene.camera.type != "CAMERA":
        raise NoCamera()
    return from_object(scene, scene.camera, *view_size(scene, longer))


def from_object(
    scene: bpy.types.Scene,
    camera: bpy.types.Object,
    width: int,
    height: int,
    *,
    view_layer: str | None = None,
    evaluated: bool = False,
) -> Camera:
    """A Blender camera at the scene's current frame; where it is `evaluated`, not again. Raises SceneError for what is
    not a plain camera."""
    layer = scene.view_layers[layer_name(scene, view_layer)]
    if not evaluated:
        layer.update()
    return evaluated_camera(camera.evaluated_get(layer.depsgraph), layer.depsgraph, scene, width, height)


def evaluated_camera(
    camera: bpy.types.Object, depsgraph: bpy.types.Depsgraph, scene: bpy.types.Scene, width: int, height: int
) -> Camera:
    """A Blender camera as it is evaluated in a depsgraph, for `scene`'s render. Raises SceneError."""
    if camera.type != "CAMERA":
        raise SceneError(reason=f"{camera.name!r} is not a camera")
    if camera.data.type not in {"PERSP", "ORTHO"}:
        raise SceneError(
            reason=f"the camera {camera.name!r} is {camera.data.type.lower()}",
            hint="Set its lens type to Perspective or Orthographic (Properties > Data > Lens).",
        )
    to_world = np.array(camera.matrix_world, np.float64)
    if not np.isfinite(to_world).all():
        raise SceneError(
            reason=f"the camera {camera.name!r} is nowhere: its place is not a number",
            hint="Look at its location, its drivers and its constraints.",
        )
    scale = np.linalg.norm(to_world[:3, :3], axis=0)
    if not scale.all():
        raise SceneError(reason=f"the camera {camera.name!r} has a scale of zero", hint="Set its scale to 1.")
    to_world[:3, :3] /= scale
    pixel_x, pixel_y = _pixel_aspect(scene.render, width, height)
    projection = camera.calc_matrix_camera(depsgraph, x=width, y=height, scale_x=pixel_x, scale_y=pixel_y)
    try:
        view = np.linalg.inv(to_world)
    except np.linalg.LinAlgError as reason:
        raise SceneError(
            reason=f"the camera {camera.name!r} is flattened by its parent", hint="Clear the parent's scale."
        ) from reason
    return Camera(camera.name, view, np.array(projection, np.float64), width, height)


def from_view(view: bpy.types.RegionView3D, width: int, height: int) -> Camera:
    """What a viewport looks through, as an image of any size in its proportions.

    An orthographic viewport shows what is behind its own eye too: then the camera stands as far back as it shows.
    """
    matrix, projection = np.array(view.view_matrix, np.float64), np.array(view.window_matrix, np.float64)
    if projection[3, 3] and (near := (projection[2, 3] + 1) / projection[2, 2]) < 0:
        matrix[2, 3] += near
        projection[2, 3] -= projection[2, 2] * near
    return Camera("Viewport", matrix, projection, width, height)


def automatic_steps(
    scene: Callable[[], bpy.types.Scene],
    meshes: Sequence[MeshData],
    count: int,
    size: int,
    *,
    view_layer: str | None = None,
) -> Steps[list[Camera]]:
    """At most `count` square cameras that together see as much as possible of `meshes`, as directly as possible.

    Candidates stand around the objects at four elevations. What other geometry hides from a candidate does not
    count, so none is chosen below a floor or behind a wall. They are sorted around the objects: neighbours in the
    list are neighbours in space. Raises OutsideCameras if no candidate sees any of the objects.

    A step is one candidate at the most; the scene is asked for anew after every one.
    """
    points, normals = _sample(meshes)
    extent = np.concatenate([_few(mesh.positions) for mesh in meshes]).astype(np.float64)
    for name in [ob.name for ob in _layer(scene(), view_layer).objects if ob.type == "MESH"]:
        yield GO_ON
        _prepare_rays(_layer(scene(), view_layer), name)
    candidates, quality = [], []
    for azimuth in np.arange(AZIMUTHS) * 360.0 / AZIMUTHS:
        for elevation in ELEVATIONS:
            yield GO_ON
            candidates.append(around(extent, azimuth, elevation, size))
            layer = _layer(scene(), view_layer)
            quality.append(_quality(scene(), layer.depsgraph, candidates[-1], points, normals))
    chosen = _cover(np.stack(quality), count)
    if not chosen:
        raise OutsideCameras(name=meshes[0].name, hint="Uncover the object, or use cameras of your own.")
    return [
        Camera(f"View {number}", camera.view, camera.projection, size, size)
        for number, camera in enumerate((candidates[i] for i in sorted(chosen)), 1)
    ]


def _layer(scene: bpy.types.Scene, name: str | None) -> bpy.types.ViewLayer:
    """The scene's view layer, up to date."""
    layer = scene.view_layers[layer_name(scene, name)]
    layer.update()
    return layer


def _prepare_rays(layer: bpy.types.ViewLayer, name: str) -> None:
    """Have Blender sort the object's triangles for rays: else the first ray does that, for all objects at once."""
    ob = layer.objects.get(name)
    if ob and ob.visible_get(view_layer=layer):
        with contextlib.suppress(RuntimeError):  # it has no surface
            ob.evaluated_get(layer.depsgraph).closest_point_on_mesh((0, 0, 0))


def around(points: np.ndarray, azimuth: float, elevation: float, size: int) -> Camera:
    """A square camera that looks at `points` (N, 3) and is just far enough to hold them all.

    Angles are in degrees; azimuth 0 is Blender's front view (from −y), growing toward +x; elevation is upward.
    """
    a, e = np.radians(azimuth), np.radians(elevation)
    back = np.array([np.sin(a) * np.cos(e), -np.cos(a) * np.cos(e), np.sin(e)])
    right = np.array([np.cos(a), np.sin(a), 0.0])
    axes = np.stack([right, np.cross(back, right), back])  # rows: camera x, y, z in the world
    placed = points @ axes.T
    center = (placed.min(0) + placed.max(0)) / 2
    x, y, z = (placed - center).T
    distance = (z + np.maximum(abs(x), abs(y)) * LENS / FILL).max()
    radius = max(np.linalg.norm(placed - center, axis=1).max(), 1e-6)
    distance = max(distance, radius * 0.1)
    view = np.eye(4)
    view[:3, :3] = axes
    view[:3, 3] = -center - (0, 0, distance)
    near, far = distance * 0.01, distance + radius * 20
    projection = np.zeros((4, 4))
    projection[0, 0] = projection[1, 1] = LENS
    projection[2, 2:] = -(far + near) / (far - near), -2 * far * near / (far - near)
    projection[3, 2] = -1
    return Camera(f"{azimuth:g}° {elevation:g}°", view, projection, size, size)


def _few(positions: np.ndarray, limit: int = 2000) -> np.ndarray:
    """Enough of the vertices to frame them all: an even choice, and the outermost."""
    if len(positions) <= limit:
        return positions
    outermost = np.concatenate([positions.argmin(0), positions.argmax(0)])
    return np.concatenate([positions[:: len(positions) // limit], positions[outermost]])


def _sample(meshes: Sequence[MeshData]) -> tuple[np.ndarray, np.ndarray]:
    """Points on the surfaces and their normals, (N, 3) each: as many on a small object as on a large one."""
    random = np.random.default_rng(0)
    each = max(FEWEST, SAMPLES // len(meshes))
    points, normals = [], []
    for mesh in meshes:
        corners = mesh.positions[mesh.triangles].astype(np.float64)
        area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        if not area.sum() > 0:
            continue
        picked = random.choice(len(area), each, p=area / area.sum())
        weights = random.dirichlet((1, 1, 1), each)[..., None]
        points.append((corners[picked] * weights).sum(1))
        normal = (mesh.normals[picked] * weights).sum(1)
        normals.append(normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9))
    if not points:
        raise OutsideCameras(name=meshes[0].name, hint="Its faces have no area: repair the mesh.")
    return np.concatenate(points), np.concatenate(normals)


def _quality(
    scene: bpy.types.Scene,
    depsgraph: bpy.types.Depsgraph,
    camera: Camera,
    points: np.ndarray,
    normals: np.ndarray,
) -> np.ndarray:
    """(N,): how directly the camera sees each point: the cosine, or 0 where it is grazing, turned away or hidden."""
    position = camera.position
    to_point = points - position
    distance = np.linalg.norm(to_point, axis=1)
    direction = to_point / distance[:, None]
    cosine = -(direction * normals).sum(1)
    seen = np.zeros(len(points))
    for i in np.flatnonzero(cosine > GRAZING):
        if _reaches(scene, depsgraph, position, direction[i], distance[i]):
            seen[i] = cosine[i]
    return seen


def _reaches(
    scene: bpy.types.Scene,
    depsgraph: bpy.types.Depsgraph,
    origin: np.ndarray,
    direction: np.ndarray,
    distance: float,
) -> bool:
    """Whether nothing that renders stands in the way."""
    left = distance * 0.998  # the point's own surface is no obstacle
    for _ in range(16):
        hit, place, _, _, obstacle, _ = scene.ray_cast(depsgraph, origin, direction, distance=left)
        if not hit:
            return True
        # Cutters of boolean modifiers and boxes of fog: the viewport has them, the picture does not.
        if not (obstacle.hide_render or obstacle.display_type in {"WIRE", "BOUNDS"}):
            return False
        step = float(np.linalg.norm(np.array(place) - origin)) + distance * 1e-5
        origin, left = origin + direction * step, left - step
        if left <= 0:
            return True
    return False


def _cover(quality: np.ndarray, count: int) -> list[int]:
    """Greedy choice of rows of (candidates, points): each adds the most to the best view of every point."""
    best = np.zeros(quality.shape[1])
    chosen: list[int] = []
    while len(chosen) < count:
        gain = np.maximum(quality - best, 0).sum(1)
        winner = int(gain.argmax())
        if gain[winner] <= ENOUGH * quality.shape[1]:
            break
        chosen.append(winner)
        best = np.maximum(best, quality[winner])
    return chosen
