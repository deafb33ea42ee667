"""Painted frames in other views: every surface finds its own paint, and nobody else's."""

from __future__ import annotations

from collections.abc import Iterator

import bpy
import numpy as np
import pytest

from paintover import cameras
from paintover.bridge.scene import Camera
from paintover.live import view
from paintover.passes import gpu_route
from paintover.passes.draw import Frame
from paintover.passes.live import Live
from paintover.passes.reproject import Known, Painted

from .scenes import add_camera, add_plane, add_sphere

SIZE = 128


@pytest.fixture
def live(scene: bpy.types.Scene) -> Iterator[Live]:
    add_camera(scene)
    with Live(scene) as made:
        yield made


def look(scene: bpy.types.Scene, location: tuple[float, float, float] | None = None, size: int = SIZE) -> Camera:
    """The scene's camera, put somewhere and aimed at the origin."""
    camera = scene.camera
    if location:
        camera.location = location
        camera.rotation_euler = (-camera.location).to_track_quat("-Z", "Y").to_euler()
    return cameras.from_object(scene, camera, size, size)


def pattern(frame: Frame, places: dict[str, np.ndarray] | None = None) -> np.ndarray:
    """float (H, W, 3): smooth paint fixed to every object, in its own space; grey on the background."""
    image = np.full((*frame.depth.shape, 3), 0.5)
    for number, name in frame.names.items():
        mask = frame.object_id == number
        inverse = np.linalg.inv(np.array(bpy.data.objects[name].matrix_world, np.float64))
        assert frame.position is not None
        local = frame.position[mask] @ inverse[:3, :3].T + inverse[:3, 3]
        image[mask] = 0.5 + 0.3 * np.sin(3 * local + number)
    return image


def paint(live: Live, camera: Camera) -> tuple[Painted, np.ndarray]:
    frame = live.frame(camera, position=True)
    picture = np.round(pattern(frame) * 255).astype(np.uint8)
    return Painted.upload(Known.of(live.read(), frame), picture), picture


def shown(live: Live, camera: Camera, painted: Painted, *, fill: bool = False) -> np.ndarray:
    return gpu_route.reproject(live.read(), camera, lambda: painted).image(fill=fill)


@pytest.mark.parametrize("kind", ["plain", "ortho", "shift", "ortho shift tall"])
def test_the_same_view_gives_the_picture_back(scene: bpy.types.Scene, kind: str) -> None:
    add_camera(scene, kind)
    add_sphere(scene)
    with Live(scene) as live:
        camera = cameras.from_object(scene, scene.camera, 96, 64)
        painted, picture = paint(live, camera)
        image = shown(live, camera, painted)
    assert (image[..., 3] == 1).mean() > 0.999
    known = image[..., 3] == 1
    assert np.abs(image[known][:, :3] * 255 - picture[known]).max() <= 1.01


def test_another_view_shows_the_same_paint_on_the_surfaces(scene: bpy.types.Scene, live: Live) -> None:
    add_sphere(scene, fine=True)
    add_plane(scene, 6, (0, 0, -1))
    painted, picture = paint(live, look(scene, (0, -5, 2)))
    camera = look(scene, (1.2, -4.8, 2.3))
    image = shown(live, camera, painted)
    truth = pattern(live.frame(camera, position=True))
    known = image[..., 3] > 0
    assert 0.6 < known.mean() < 0.97
    error = np.abs(image[..., :3] - truth)[known]
    assert np.quantile(error, 0.99) < 0.02
    assert np.abs(picture / 255 - truth).mean() > 10 * error.mean(), "holding the picture is far worse"
    filled = shown(live, camera, painted, fill=True)
    assert (filled[..., 3] == 1).all()
    assert np.array_equal(filled[known], image[known])


def test_objects_keep_their_paint_when_others_come_and_go(scene: bpy.types.Scene, live: Live) -> None:
    first, ball = add_plane(scene, 6, (0, 0, -1)), add_sphere(scene)
    camera = look(scene, (0, -5, 2))
    painted, picture = paint(live, camera)
    ball.name = "Renamed"
    new = add_sphere(scene)
    new.name, new.location = "A", (0, 0, 40)  # out of sight, and the first by name
    image = shown(live, camera, painted)
    known = image[..., 3] == 1
    assert known.mean() > 0.999
    assert np.abs(image[known][:, :3] * 255 - picture[known]).max() <= 1.01
    bpy.data.objects.remove(first)
    new.location = (1.3, -0.5, 0.4)
    image = shown(live, camera, painted)
    frame = live.frame(camera, position=True)
    number = {name: number for number, name in frame.names.items()}
    there = frame.object_id == number["Renamed"]
    assert (image[there][:, 3] == 1).mean() > 0.9
    assert (image[frame.object_id == number["A"]][:, 3] == 0).all(), "what is new was never painted"


def test_moved_and_deformed_objects_take_their_paint_along(scene: bpy.types.Scene, live: Live) -> None:
    ball = add_sphere(scene, fine=True)
    camera = look(scene, (0, -5, 1))
    painted, picture = paint(live, camera)
    ball.location, ball.rotation_euler = (0.7, 0.3, 0.2), (0.1, 0.2, 0.4)
    image = shown(live, camera, painted)
    frame = live.frame(camera, position=True)
    known = (image[..., 3] > 0) & (frame.object_id > 0)
    assert known.sum() > 0.65 * (frame.object_id > 0).sum(), "all but the rim that has come around"
    assert np.quantile(np.abs(image[..., :3] - pattern(frame))[known], 0.95) < 0.03

    painted, picture = paint(live, camera)
    ball.shape_key_add(name="Basis")
    key = ball.shape_key_add(name="Up")
    for point in key.data:
        point.co.z += 0.5
    live.frame(camera)
    painted, picture = paint(live, camera)
    key.value = 1
    image = shown(live, camera, painted)
    frame = live.frame(camera, position=True)
    assert frame.position is not None
    frame.position[..., 2] -= 0.5  # along the object's own z, which it leans by 0.2: near enough
    known = (image[..., 3] > 0) & (frame.object_id > 0)
    assert known.sum() > 0.6 * (frame.object_id > 0).sum()
    assert np.median(np.abs(image[..., :3] - pattern(frame))[known]) < 0.12
    assert np.median(np.abs(picture / 255 - pattern(frame))[known]) > 0.05


def test_what_was_hidden_takes_nobody_elses_paint(scene: bpy.types.Scene, live: Live) -> None:
    """A ball before a wall: beside the ball, where it hid the wall, nothing is known, and filling uses the wall's."""
    add_sphere(scene, (0, -2, 0))
    wall = add_plane(scene, 20)
    wall.rotation_euler.x = 1.5708
    camera = look(scene, (0, -6, 0))
    frame = live.frame(camera)
    ball = frame.object_id == next(number for number, name in frame.names.items() if name != wall.name)
    picture = np.where(ball[..., None], np.uint8([250, 0, 0]), np.uint8([0, 0, 250]))
    painted = Painted.upload(Known.of(live.read(), frame), picture)
    camera = look(scene, (1.5, -6, 0))
    now = live.frame(camera)
    on_wall = now.object_id == next(number for number, name in now.names.items() if name == wall.name)
    image = shown(live, camera, painted)
    hidden = on_wall & (image[..., 3] == 0)
    assert hidden.mean() > 0.02
    assert image[on_wall & ~hidden][:, 0].max() < 0.02, "no red on the wall"
    filled = shown(live, camera, painted, fill=True)
    assert filled[on_wall][:, 0].max() < 0.02
    assert filled[on_wall][:, 2].min() > 0.95


def test_painted_outlines_do_not_stay_behind(scene: bpy.types.Scene, live: Live) -> None:
    """Paint of a ball reaches two pixels over its outline: on the wall behind, it goes nowhere but along the ball."""
    add_sphere(scene, (0, -2, 0))
    wall = add_plane(scene, 20)
    wall.rotation_euler.x = 1.5708
    camera = look(scene, (0, -6, 0))
    frame = live.frame(camera)
    number = next(number for number, name in frame.names.items() if name == wall.name)
    red = frame.object_id != number
    for _ in range(2):
        red = grown(red)
    picture = np.where(red[..., None], np.uint8([250, 0, 0]), np.uint8([0, 0, 250]))
    painted = Painted.upload(Known.of(live.read(), frame), picture)
    same = shown(live, camera, painted)
    assert (same[..., 3] == 1).all()
    assert np.abs(same[..., :3] * 255 - picture).max() <= 1.01, "where the outline is, it stays"
    camera = look(scene, (1.5, -6, 0))
    ball = live.frame(camera).object_id != number
    beside = grown(grown(grown(ball)))
    for fill in (False, True):
        image = shown(live, camera, painted, fill=fill)
        assert image[~beside][:, 0].max() < 0.1, "no ghost of it on the wall"
    assert (image[..., 3] == 1).all()


def test_paint_has_no_pinholes(scene: bpy.types.Scene, live: Live) -> None:
    """A smaller painting seen larger, and from elsewhere: what was painted shows, up to its outlines."""
    add_plane(scene, 6, (0, 0, -1))
    painted, _ = paint(live, look(scene, (3.5, -3.5, 2.5), 192))
    size = 560
    for place in ((3.5, -3.5, 2.5), (4.5, -3, 3.5), (2, -4.5, 2)):
        camera = look(scene, place, size)
        missing = shown(live, camera, painted)[..., 3] == 0
        surface = np.isfinite(live.frame(camera).depth)
        around = np.pad(missing, 1, mode="edge")
        beside = sum(around[y : y + size, x : x + size].astype(int) for y in range(3) for x in range(3))
        assert (missing & (beside < 5) & surface).sum() <= 8, "single pixels"


def grown(mask: np.ndarray) -> np.ndarray:
    """The mask and all pixels beside it, corners included."""
    padded = np.pad(mask, 1)
    rows, columns = mask.shape
    return np.any([padded[y : y + rows, x : x + columns] for y in range(3) for x in range(3)], axis=0)


def test_pictures_of_other_sizes(scene: bpy.types.Scene, live: Live) -> None:
    add_sphere(scene)
    camera = look(scene, (0, -5, 1))
    frame = live.frame(camera)
    for height, width in ((1, 1), (64, 96), (300, 200)):
        picture = np.full((height, width, 3), (200, 100, 50), np.uint8)
        painted = Painted.upload(Known.of(live.read(), frame), picture)
        image = shown(live, camera, painted)
        np.testing.assert_allclose(image[..., :3], np.broadcast_to((200, 100, 50), (SIZE, SIZE, 3)) / 255, atol=0.005)


def test_views_of_any_size(scene: bpy.types.Scene, live: Live) -> None:
    """A viewport of one pixel, and one of 8k, which is drawn smaller."""
    add_sphere(scene)
    painted, _ = paint(live, look(scene, (0, -5, 1)))
    one = shown(live, look(scene, size=1), painted)
    assert one.shape == (1, 1, 4)
    region = next(a for a in bpy.context.window_manager.windows[0].screen.areas if a.type == "VIEW_3D")
    whole = view.camera_of(region.spaces.active.region_3d, 7680, 4320)
    assert (whole.width, whole.height) == (4096, 2304)
    assert view.camera_of(region.spaces.active.region_3d, 1, 1).width == 1
    assert view.frame_in(1, 1, 512, 512) == (0, 0, 1, 1)
    assert view.frame_in(200, 100, 512, 512) == (0.25, 0, 0.75, 1)


def test_a_part_of_a_view_is_where_it_says(scene: bpy.types.Scene) -> None:
    for kind in ("plain", "ortho", "shift"):
        add_camera(scene, kind)
        whole = cameras.from_object(scene, scene.camera, 200, 100)
        part = view.part_of(whole, (0.25, 0.1, 0.75, 0.6), 64, 64)
        points = np.random.default_rng(0).normal(size=(20, 3)) * 0.5
        in_whole, in_part = whole.project(points)[0] / (200, 100), part.project(points)[0] / 64
        np.testing.assert_allclose(0.25 + 0.5 * in_part[:, 0], in_whole[:, 0], atol=1e-9)
        np.testing.assert_allclose(0.4 + 0.5 * in_part[:, 1], in_whole[:, 1], atol=1e-9)
        np.testing.assert_allclose(view.place_of(part, whole), (0.25, 0.1, 0.75, 0.6), atol=1e-6)
        assert view.place_of(cameras.around(points, 20, 20, 64), whole) is None
