"""Hints: what each ControlNet is shown, pixel for pixel."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from paintover.bridge import hints
from paintover.bridge.scene import Camera, Passes

SIZE = 64


@pytest.fixture
def sphere() -> Passes:
    """A unit sphere, five units from a camera that looks at its middle; nothing behind it."""
    projection = np.array([[2.0, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, -1.02, -0.2], [0, 0, -1, 0]])
    view = np.eye(4)
    view[2, 3] = -5
    camera = Camera("Camera", view, projection, SIZE, SIZE)
    _, directions = camera.rays()
    center = np.array([0, 0, -5.0])
    a, b, c = (directions**2).sum(-1), directions @ center, center @ center - 1
    hit = b**2 - a * c > 0
    depth = np.where(hit, (b - np.sqrt(np.clip(b**2 - a * c, 0, None))) / a, np.inf)
    normal = np.where(hit[..., None], np.where(hit, depth, 0)[..., None] * directions - center, 0)
    edge = np.zeros((SIZE, SIZE), np.uint8)
    edge[10, 20], edge[11, 20] = 255, 100
    return Passes(camera, depth.astype(np.float32), normal.astype(np.float16), edge, hit.astype(np.uint16))


def test_depth_is_near_white_and_background_black(sphere: Passes) -> None:
    hint = hints.make_hint(sphere, "depth")
    hit = np.isfinite(sphere.depth)
    assert hint.shape == (SIZE, SIZE, 3)
    assert hint.dtype == np.float32
    assert (hint[~hit] == 0).all()
    assert (hint[hit] >= 0.199).all()
    nearest = np.unravel_index(np.argmin(sphere.depth), sphere.depth.shape)
    assert hint[nearest].tolist() == [1, 1, 1]


def test_depth_is_affine_in_disparity() -> None:
    depth = np.broadcast_to(np.linspace(1, 10, 200, dtype=np.float32), (8, 200))
    hint = hints.depth_hint(depth)[0, 10:-10, 0]
    slope, offset = np.polyfit(1 / depth[0, 10:-10], hint, 1)
    assert slope > 0
    np.testing.assert_allclose(hint, slope / depth[0, 10:-10] + offset, atol=1 / 255)


def test_depth_of_a_wall_and_of_nothing() -> None:
    assert (hints.depth_hint(np.full((8, 8), 3.0, np.float32)) == 1).all()
    assert (hints.depth_hint(np.full((8, 8), np.inf, np.float32)) == 0).all()


def test_depth_from_near_to_far() -> None:
    """Limits of a shot: their ends are white and 0.2, what is beyond them is clipped, and the rest of the image counts
    for nothing."""
    depth = np.array([[1.0, 2.0, 4.0, 8.0, 100.0, np.inf]], np.float32)
    hint = hints.depth_hint(depth, (2.0, 8.0))[0, :, 0]
    np.testing.assert_allclose(hint, [1, 1, 0.2 + 0.8 / 3, 0.2, 0.2, 0], atol=1 / 255)
    np.testing.assert_array_equal(
        hints.depth_hint(depth[:, 2:3], (2.0, 8.0))[0, 0], hints.depth_hint(depth, (2.0, 8.0))[0, 2]
    )
    assert hints.depth_hint(np.full((4, 4), 5.0), (2.0, 8.0)).max() < 0.5, "a wall has its place, too"


def test_a_shots_range_is_that_of_its_images_together() -> None:
    shot = hints.ShotRange()
    assert shot.limits() is None
    shot.add(np.full((16, 16), np.inf))
    assert shot.limits() is None
    random = np.random.default_rng(1)
    images = [random.uniform(2, 9, (64, 64)) for _ in range(5)]
    for image in images:
        shot.add(image)
    near, far = shot.limits() or (0, 0)
    low, high = np.percentile(1 / np.concatenate(images), (1, 99))
    assert near == pytest.approx(1 / high, rel=0.01)
    assert far == pytest.approx(1 / low, rel=0.01)


def test_camera_normals_on_a_sphere(sphere: Passes) -> None:
    """mini's convention: red is right, green is up, blue is toward the camera, background grey."""
    hint = hints.make_hint(sphere, "normal", "camera")
    middle = SIZE // 2
    assert hint[middle, middle + 10, 0] > 0.7 > 0.3 > hint[middle, middle - 10, 0]
    assert hint[middle - 10, middle, 1] > 0.7 > 0.3 > hint[middle + 10, middle, 1]
    assert hint[middle, middle, 2] > 0.99
    np.testing.assert_allclose(hint[0, 0], 128 / 255, atol=1e-6)


def test_bae_normals_on_a_sphere(sphere: Passes) -> None:
    """NormalBae's convention: red is left, green is up, blue is toward the camera, background faces the camera."""
    hint = hints.make_hint(sphere, "normal")
    middle = SIZE // 2
    assert hint[middle, middle - 10, 0] > 0.7 > 0.3 > hint[middle, middle + 10, 0]
    assert hint[middle - 10, middle, 1] > 0.7 > 0.3 > hint[middle + 10, middle, 1]
    assert hint[middle, middle, 2] > 0.99
    np.testing.assert_allclose(hint[0, 0], [128 / 255, 128 / 255, 1], atol=1e-6)
    with pytest.raises(ValueError, match="opengl"):
        hints.make_hint(sphere, "normal", "opengl")


def test_edges_keep_their_shades(sphere: Passes) -> None:
    hint = hints.make_hint(sphere, "edge")
    assert hint[10, 20].tolist() == [1, 1, 1]
    np.testing.assert_allclose(hint[11, 20], 100 / 255, atol=1e-6)
    assert hint.sum() == pytest.approx(3 * 355 / 255)


def test_lines_of_canny_are_black_and_white(sphere: Passes) -> None:
    """cv2.Canny, with which canny ControlNets were trained, gives 0 and 255."""
    hint = hints.make_hint(sphere, "edge", lines="canny")
    assert hint[10, 20].tolist() == [1, 1, 1]
    assert hint.sum() == 3  # less than half covered is not covered
    assert hints.edge_hint(np.full((1, 1), 128, np.uint8), "canny").min() == 1
    with pytest.raises(ValueError, match="pencil"):
        hints.make_hint(sphere, "edge", lines="pencil")


def test_there_is_no_other_hint(sphere: Passes) -> None:
    with pytest.raises(ValueError, match="pose"):
        hints.make_hint(sphere, "pose")


@pytest.fixture(scope="module")
def training() -> ModuleType:
    """The functions that mini's training drew its hints with."""
    path = Path(__file__).parents[2] / "tools" / "train_mini" / "hints.py"
    if not path.exists():
        pytest.skip("the training tools are not in this checkout")
    spec = importlib.util.spec_from_file_location("train_mini_hints", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_mini_sees_what_it_was_trained_on(sphere: Passes, training: ModuleType) -> None:
    for hint, trained in (
        (hints.make_hint(sphere, "depth", "camera"), training.depth_hint(sphere.depth)),
        (hints.make_hint(sphere, "normal", "camera"), training.normal_hint(sphere.normal)),
        (hints.make_hint(sphere, "edge", "camera"), training.edge_hint(sphere.edge)),
    ):
        np.testing.assert_array_equal(np.round(hint * 255).astype(np.uint8), trained)
        np.testing.assert_array_equal(hint, trained.astype(np.float32) / 255)
