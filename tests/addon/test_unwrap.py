"""New UVs: every part has a place of its own, little of the image is left empty, and no operator is at work."""

from __future__ import annotations

import threading

import bpy
import numpy as np
import pytest

from paintover import uvs
from paintover.unwrap import Surface

from .scenes import add_cube, add_plane, add_sphere


def add(scene: bpy.types.Scene, shape: str) -> bpy.types.Object:
    if shape == "cube":
        return add_cube(scene)
    if shape == "sphere":
        return add_sphere(scene)
    if shape == "plane":
        return add_plane(scene, size=3)
    if shape == "monkey":
        bpy.ops.mesh.primitive_monkey_add()
    elif shape == "torus":
        bpy.ops.mesh.primitive_torus_add()
    elif shape == "cone":
        bpy.ops.mesh.primitive_cone_add(vertices=7)
    else:
        bpy.ops.mesh.primitive_ico_sphere_add(subdivisions=5)
        rough(bpy.context.object.data)
    return bpy.context.object


def rough(mesh: bpy.types.Mesh) -> None:
    """A surface as one sculpts it, with noise in it."""
    flat = np.empty(len(mesh.vertices) * 3, np.float32)
    mesh.vertices.foreach_get("co", flat)
    flat = flat.reshape(-1, 3) * (1 + 0.02 * np.random.default_rng(0).standard_normal((len(mesh.vertices), 1)))
    mesh.vertices.foreach_set("co", flat.ravel().astype(np.float32))
    mesh.update()


def covered(mesh: bpy.types.Mesh, layer: str) -> float:
    """Share of the image that a layer's faces cover."""
    layout = uvs.read(mesh, layer)
    assert layout is not None
    triangles = layout.uvs[layout.triangles].reshape(-1, 3, 2)
    a, b = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    return float(np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / 2)


def blenders_own(ob: bpy.types.Object) -> str:
    layer = ob.data.uv_layers.new(name="Blender")
    ob.data.uv_layers.active = layer
    bpy.context.view_layer.objects.active = ob
    bpy.ops.object.mode_set(mode="EDIT")
    bpy.ops.mesh.select_all(action="SELECT")
    bpy.ops.uv.smart_project(angle_limit=1.15, island_margin=0.01)
    bpy.ops.object.mode_set(mode="OBJECT")
    return "Blender"


@pytest.mark.parametrize("shape", ["cube", "sphere", "plane", "monkey", "torus", "cone", "rough"])
def test_uvs_are_usable_and_fill_the_image_about_as_well_as_blenders_own(scene: bpy.types.Scene, shape: str) -> None:
    ob = add(scene, shape)
    name = uvs.make(ob)
    state = uvs.check(ob.data, name)
    assert state.usable, state
    ours, theirs = covered(ob.data, name), covered(ob.data, blenders_own(ob))
    print(f"{shape}: {ours:.2f}, Blender {theirs:.2f}")
    assert ours > 0.85 * theirs


def test_areas_keep_their_proportions_and_nothing_is_mirrored(scene: bpy.types.Scene) -> None:
    cube = add_cube(scene)
    cube.data.transform(np.diag((1.0, 2.0, 3.0, 1.0)).tolist())
    layout = uvs.read(cube.data, uvs.make(cube))
    assert layout is not None
    triangles = layout.uvs[layout.triangles].reshape(-1, 3, 2).astype(np.float64)
    a, b = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    signed = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    assert (signed > 0).all()
    np.testing.assert_allclose(signed / signed.sum(), layout.area / layout.area.sum(), rtol=1e-3)


def test_it_touches_no_bpy_and_may_run_in_a_thread(scene: bpy.types.Scene) -> None:
    surface, found = uvs.surface(add_sphere(scene).data), []
    thread = threading.Thread(target=lambda: found.append(surface.unwrap()))
    thread.start()
    thread.join(60)
    np.testing.assert_array_equal(found[0], surface.unwrap())


def test_dust_and_needles() -> None:
    """Thousands of separate pieces, some of them long and thin."""
    random = np.random.default_rng(1)
    count = 3000
    size = np.where(np.arange(count) % 7 == 0, 2.0, 0.05)[:, None]
    first = random.uniform(-5, 5, (count, 3))
    corners = np.stack([first, first + size * random.normal(size=(count, 3)), first + 0.05], 1)
    numbers = np.arange(3 * count)
    flat = Surface(corners.reshape(-1, 3), numbers[::3], numbers, numbers).unwrap().reshape(-1, 3, 2)
    assert np.isfinite(flat).all()
    assert flat.min() >= 0
    assert flat.max() <= 1
    low, high = flat.min(1), flat.max(1)
    apart = (low[:, None] >= high[None]).any(2)
    assert (apart | apart.T | np.eye(count, dtype=bool)).all()


def test_what_has_no_area_or_is_no_number() -> None:
    square = np.array([(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (np.nan, 0, 0)], np.float32)
    quad = Surface(square, np.array([0, 4, 7]), np.array([0, 1, 2, 3, 0, 1, 4, 0, 0, 0]), np.arange(10))
    assert np.isfinite(quad.unwrap()).all()
    point = Surface(np.zeros((3, 3), np.float32), np.array([0]), np.arange(3), np.arange(3))
    assert np.isfinite(point.unwrap()).all()
