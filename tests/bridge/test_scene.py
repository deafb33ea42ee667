from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from paintover.bridge.errors import BadMesh, BadMessage, BadPasses
from paintover.bridge.scene import Camera

from .conftest import make_camera, make_mesh, make_passes

ORTHO = np.array([[0.5, 0, 0, 0.1], [0, 0.7, 0, -0.2], [0, 0, -0.02, -1.0], [0, 0, 0, 1.0]])


@pytest.mark.parametrize("projection", [make_camera().projection, ORTHO], ids=["perspective", "ortho"])
def test_unproject_undoes_project(projection: np.ndarray) -> None:
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    view = np.eye(4)
    view[:3, :3], view[:3, 3] = turn, (0.3, -0.5, -4.0)
    camera = Camera("c", view, projection, 40, 30)
    depth = np.random.default_rng(3).uniform(1, 9, (30, 40)).astype(np.float32)
    points = camera.unproject(depth)
    pixels, back = camera.project(points.reshape(-1, 3))
    x, y = np.meshgrid(np.arange(40) + 0.5, np.arange(30) + 0.5)
    np.testing.assert_allclose(pixels, np.stack([x, y], -1).reshape(-1, 2), atol=1e-6)
    np.testing.assert_allclose(back, depth.ravel(), rtol=1e-6)
    assert camera.orthographic == (projection is ORTHO)


def test_a_point_above_the_axis_lands_in_the_upper_half() -> None:
    camera = make_camera(16, 8)
    (right, up), depth = camera.project(np.array([[0.2, 0.0, -2.0], [0.0, 0.2, -2.0]]))
    assert right[0] > up[0]
    assert up[1] < 4 < 8
    assert np.allclose(depth, 2)


def test_background_unprojects_to_nan() -> None:
    depth = np.full((8, 16), np.inf, np.float32)
    assert np.isnan(make_camera().unproject(depth)).all()


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_damaged_depth_is_named(bad: float) -> None:
    passes = make_passes()
    depth = passes.depth.copy()
    depth[2, 3] = bad
    with pytest.raises(BadPasses, match="depth"):
        dataclasses.replace(passes, depth=depth).check_values()
    passes.check_values()


def test_every_normal_that_is_no_number_is_named() -> None:
    passes = make_passes()
    normal = passes.normal.copy()
    damaged = dataclasses.replace(passes, normal=normal)
    for bits in (*range(0, 1 << 16, 127), 0x7BFF, 0x7C00, 0x7FFF, 0xFBFF, 0xFC00, 0xFFFF):
        normal.view(np.uint16)[2, 3, 1] = bits
        if np.isfinite(normal).all():
            damaged.check_values()
        else:
            with pytest.raises(BadPasses, match="normal"):
                damaged.check_values()


def test_meshes_are_checked() -> None:
    mesh = make_mesh()
    mesh.check_values()
    with pytest.raises(BadMessage, match="vertex"):
        dataclasses.replace(mesh, triangles=np.array([[0, 1, 3]], np.int32))
    with pytest.raises(BadMesh, match="NaN"):
        dataclasses.replace(mesh, uvs=np.full((1, 3, 2), np.nan, np.float32)).check_values()
    none = {"triangles": (0, 3), "normals": (0, 3, 3), "uvs": (0, 3, 2), "materials": (0,)}
    empty = dataclasses.replace(mesh, **{k: np.zeros(s, getattr(mesh, k).dtype) for k, s in none.items()})
    with pytest.raises(BadMesh, match="no faces"):
        empty.check_values()


def test_the_hash_depends_on_every_field() -> None:
    mesh = make_mesh()
    others = [
        dataclasses.replace(mesh, name="Other"),
        dataclasses.replace(mesh, object_id=2),
        *(dataclasses.replace(mesh, **{n: getattr(mesh, n) * 2}) for n in ("positions", "normals")),
        dataclasses.replace(mesh, uvs=mesh.uvs + 1),
        dataclasses.replace(mesh, materials=mesh.materials + 1),
        dataclasses.replace(mesh, triangles=mesh.triangles[:, ::-1].copy()),
    ]
    assert len({m.content_hash() for m in (mesh, *others)}) == len(others) + 1
    assert make_mesh().content_hash() == mesh.content_hash()
