"""UV maps: what is found to be usable, and new layers that disturb nothing."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
import pytest

from paintover import uvs
from paintover.bridge.errors import EmptyMesh, LinkedData, SceneError

from .scenes import add_cube, add_plane, add_sphere


def coordinates(ob: bpy.types.Object, layer: str = "UVMap") -> np.ndarray:
    flat = np.empty(len(ob.data.loops) * 2, np.float32)
    ob.data.uv_layers[layer].uv.foreach_get("vector", flat)
    return flat.reshape(-1, 2)


def set_coordinates(ob: bpy.types.Object, values: np.ndarray) -> None:
    ob.data.uv_layers["UVMap"].uv.foreach_set("vector", np.ravel(values).astype(np.float32))


def test_primitives_are_usable(scene: bpy.types.Scene) -> None:
    for ob in (add_cube(scene), add_sphere(scene), add_plane(scene, size=1)):
        state = uvs.check(ob.data)
        assert state.usable, (ob.name, state)
        assert state.layer == "UVMap"


def test_missing(scene: bpy.types.Scene) -> None:
    cube = add_cube(scene)
    cube.data.uv_layers.remove(cube.data.uv_layers[0])
    assert uvs.check(cube.data).problem == "missing"
    assert uvs.check(cube.data).describe() == "has no UVs"


def test_every_side_on_the_whole_image_overlaps(scene: bpy.types.Scene) -> None:
    cube = add_cube(scene)
    set_coordinates(cube, np.tile([(0, 0), (1, 0), (1, 1), (0, 1)], (6, 1)))
    state = uvs.check(cube.data)
    assert state.problem == "overlapping"
    assert state.share == pytest.approx(5 / 6, abs=0.01)


def test_two_sides_on_one_place_overlap(scene: bpy.types.Scene) -> None:
    cube = add_cube(scene)
    values = coordinates(cube).reshape(6, 4, 2)
    values[1] = values[0]
    set_coordinates(cube, values)
    state = uvs.check(cube.data)
    assert state.problem == "overlapping"
    assert state.share == pytest.approx(1 / 5, abs=0.01)


def test_mirrored_halves_overlap(scene: bpy.types.Scene) -> None:
    """Triangles of both windings on one place."""
    ball = add_sphere(scene)
    values = coordinates(ball)
    values[:, 0] = np.where(values[:, 0] > 0.5, 1 - values[:, 0], values[:, 0])
    set_coordinates(ball, values)
    assert uvs.check(ball.data).share > 0.9


def test_outside_and_collapsed(scene: bpy.types.Scene) -> None:
    cube = add_cube(scene)
    values = coordinates(cube)
    set_coordinates(cube, values + np.array((1, 0)))
    assert uvs.check(cube.data).problem == "outside"
    set_coordinates(cube, values * (1, 0))
    assert uvs.check(cube.data).problem == "collapsed"
    set_coordinates(cube, values * np.nan)
    assert uvs.check(cube.data).problem == "outside"


def test_border_of_one_pixel_is_tolerated() -> None:
    square = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], float)
    left, right = square * (0.5, 1), square * (0.5, 1) + (0.4995, 0)
    triangles = np.array([quad[list(corners)] for quad in (left, right) for corners in ((0, 1, 2), (0, 2, 3))])
    assert uvs.overlap(triangles) < uvs.TOLERATED
    assert uvs.overlap(np.concatenate([triangles, triangles[:1] * (0.5, 1)])) > uvs.TOLERATED


def furnish(scene: bpy.types.Scene) -> bpy.types.Object:
    cube = add_cube(scene)
    cube.data.uv_layers.new(name="Second")
    cube.data.uv_layers.active = cube.data.uv_layers["Second"]
    cube.data.uv_layers["UVMap"].active_render = True
    add_sphere(scene).select_set(True)
    cube.select_set(False)
    return cube


def roles(mesh: bpy.types.Mesh) -> tuple[str, list[str], list[str]]:
    layers = mesh.uv_layers
    return layers.active.name, [a.name for a in layers if a.active_render], [a.name for a in layers]


def state(scene: bpy.types.Scene) -> tuple:
    blocks = ("scenes", "objects", "meshes", "collections")
    return (
        bpy.context.scene,
        bpy.context.view_layer.objects.active,
        [(ob.name, ob.select_get(), ob.mode) for ob in scene.objects],
        [sorted(block.name for block in getattr(bpy.data, kind)) for kind in blocks],
    )


def test_make_and_remove_leave_everything_else_alone(scene: bpy.types.Scene) -> None:
    cube = furnish(scene)
    before, old = state(scene), (roles(cube.data), coordinates(cube), coordinates(cube, "Second"))
    name = uvs.make(cube)
    assert name == "Paintover"
    assert state(scene) == before
    assert roles(cube.data)[:2] == old[0][:2]
    assert uvs.check(cube.data, name).usable
    np.testing.assert_array_equal(coordinates(cube), old[1])
    np.testing.assert_array_equal(coordinates(cube, "Second"), old[2])
    assert uvs.make(cube) == name, "a second time it is made anew in place"
    assert len(cube.data.uv_layers) == 3
    cube.data.uv_layers.active = cube.data.uv_layers[name]
    cube.data.uv_layers[name].active_render = True
    assert uvs.remove(cube.data)
    assert roles(cube.data) == old[0]
    assert not list(cube.data.keys())
    assert not uvs.remove(cube.data)


def test_a_layer_of_the_users_own_of_that_name_is_left_alone(scene: bpy.types.Scene) -> None:
    cube = add_cube(scene)
    cube.data.uv_layers[0].name = "Paintover"
    before = coordinates(cube, "Paintover")
    name = uvs.make(cube)
    assert name == "Paintover.001"
    np.testing.assert_array_equal(coordinates(cube, "Paintover"), before)
    assert uvs.make(cube) == name, "a second time it is made anew in place"
    assert uvs.remove(cube.data)
    assert [layer.name for layer in cube.data.uv_layers] == ["Paintover"]


def test_make_where_there_is_none_and_with_hidden_faces(scene: bpy.types.Scene) -> None:
    ball = add_sphere(scene)
    ball.data.uv_layers.remove(ball.data.uv_layers[0])
    ball.data.polygons.foreach_set("hide", np.ones(len(ball.data.polygons), bool))
    uvs.make(ball)
    assert uvs.check(ball.data).usable
    assert all(polygon.hide for polygon in ball.data.polygons)
    uvs.remove(ball.data)
    assert not ball.data.uv_layers


def test_make_keeps_shape_keys(scene: bpy.types.Scene) -> None:
    cube = add_cube(scene)
    cube.shape_key_add(name="Basis")
    cube.shape_key_add(name="Bulge")
    uvs.make(cube)
    assert [key.name for key in cube.data.shape_keys.key_blocks] == ["Basis", "Bulge"]
    assert len(bpy.data.shape_keys) == 1


def test_make_is_refused_before_any_change(scene: bpy.types.Scene, tmp_path: Path) -> None:
    nothing = bpy.data.objects.new("Nothing", bpy.data.meshes.new("Nothing"))
    with pytest.raises(EmptyMesh):
        uvs.make(nothing)
    cube = add_cube(scene)
    bpy.ops.object.mode_set(mode="EDIT")
    with pytest.raises(SceneError, match="Edit Mode"):
        uvs.make(cube)
    bpy.ops.object.mode_set(mode="OBJECT")
    while len(cube.data.uv_layers) < 8:
        cube.data.uv_layers.new()
    with pytest.raises(SceneError, match="eight"):
        uvs.make(cube)
    bpy.data.libraries.write(str(tmp_path / "library.blend"), {cube})
    with bpy.data.libraries.load(str(tmp_path / "library.blend"), link=True) as (_, wanted):
        wanted.objects = ["Cube"]
    with pytest.raises(LinkedData):
        uvs.make(wanted.objects[0])
