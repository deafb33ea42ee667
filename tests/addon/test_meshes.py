"""Evaluated meshes: in world space, as rendered, with all copies."""

from __future__ import annotations

import bpy
import numpy as np
import pytest
from mathutils.bvhtree import BVHTree

from paintover import cameras, meshes, passes
from paintover.bridge.errors import BadMesh, EmptyMesh, SceneError, ZeroScale
from paintover.bridge.scene import MeshData

from .scenes import add_camera, add_cube, add_plane, add_sphere, instancer


def collect(scene: bpy.types.Scene, *objects: bpy.types.Object) -> list[MeshData]:
    return meshes.collect(scene, objects, {ob.name: "UVMap" for ob in objects})


def facing(mesh: MeshData) -> np.ndarray:
    """Unit normals by the winding of the triangles, (T, 3)."""
    a, b, c = np.moveaxis(mesh.positions[mesh.triangles], 1, 0)
    normal = np.cross(b - a, c - a)
    return normal / np.linalg.norm(normal, axis=1, keepdims=True)


def test_cube(scene: bpy.types.Scene) -> None:
    cube = add_cube(scene, (1, 2, 3))
    cube.data.materials.append(None)
    cube.data.materials.append(None)
    cube.data.polygons[2].material_index = 1
    (mesh,) = collect(scene, cube)
    assert mesh.name == "Cube"
    assert len(mesh.triangles) == 12
    np.testing.assert_allclose(mesh.positions.min(0), (0, 1, 2))
    np.testing.assert_allclose(mesh.positions.max(0), (2, 3, 4))
    np.testing.assert_allclose(mesh.normals, np.repeat(facing(mesh)[:, None], 3, 1), atol=1e-6)
    assert sorted(mesh.materials) == [0] * 10 + [1] * 2
    assert mesh.uvs.min() >= 0
    assert mesh.uvs.max() <= 1
    assert mesh.object_id == 1
    outward = mesh.positions[mesh.triangles].mean(1) - (1, 2, 3)
    assert ((outward * facing(mesh)).sum(1) > 0).all()


@pytest.mark.parametrize("scale", [(-1, 1, 1), (1, 2, 0.5), (-1, -2, -0.5)])
def test_scaled_normals_face_outward(scale: tuple[float, float, float], scene: bpy.types.Scene) -> None:
    ball = add_sphere(scene, fine=True)
    ball.scale, ball.rotation_euler = scale, (0.2, 0.5, 1.1)
    (mesh,) = collect(scene, ball)
    rotation = np.array(ball.rotation_euler.to_matrix())
    local = mesh.positions[mesh.triangles].astype(float) @ rotation / scale
    expected = local / scale @ rotation.T  # gradient of the ellipsoid
    expected /= np.linalg.norm(expected, axis=-1, keepdims=True)
    assert ((mesh.normals * expected).sum(-1) > 0.999).all()
    assert ((facing(mesh) * expected.mean(1)).sum(-1) > 0).all(), "the winding was turned with the mirror"


def test_rendered_subdivision_counts(scene: bpy.types.Scene) -> None:
    cube = add_cube(scene)
    modifier = cube.modifiers.new("Subdivision", "SUBSURF")
    modifier.levels, modifier.render_levels = 0, 2
    assert len(collect(scene, cube)[0].triangles) == 12 * 16


def test_array_and_geometry_nodes_copies(scene: bpy.types.Scene) -> None:
    cube = add_cube(scene)
    cube.modifiers.new("Array", "ARRAY").count = 2
    (mesh,) = collect(scene, cube)
    assert len(mesh.triangles) == 24
    cube.modifiers.clear()
    cube.modifiers.new("Instances", "NODES").node_group = instancer()
    (mesh,) = collect(scene, cube)
    assert len(mesh.triangles) == 36
    np.testing.assert_allclose(mesh.positions.max(0), (1, 7, 1))


def test_collection_instances_are_copies_of_their_object(scene: bpy.types.Scene) -> None:
    group = bpy.data.collections.new("Group")
    scene.collection.children.link(group)
    cube = add_cube(scene)
    group.objects.link(cube)
    for name, x in (("Left", -5), ("Right", 5)):
        copy = bpy.data.objects.new(name, None)
        copy.instance_type, copy.instance_collection, copy.location.x = "COLLECTION", group, x
        scene.collection.objects.link(copy)
    (mesh,) = collect(scene, cube)
    assert len(mesh.triangles) == 36
    assert mesh.positions[:, 0].min() == -6
    assert mesh.positions[:, 0].max() == 6


def test_linked_duplicates_are_objects_of_their_own(scene: bpy.types.Scene) -> None:
    cube = add_cube(scene)
    twin = cube.copy()
    twin.location.x = 5
    scene.collection.objects.link(twin)
    one, two = collect(scene, cube, twin)
    assert len(one.triangles) == len(two.triangles) == 12
    assert two.positions[:, 0].min() == 4
    assert one.object_id != two.object_id


def test_surface_is_the_one_in_the_passes(scene: bpy.types.Scene) -> None:
    ball = add_sphere(scene)
    ball.modifiers.new("Subdivision", "SUBSURF").render_levels = 2
    ball.rotation_euler, ball.scale = (0.4, 0.2, 0), (1.2, -0.8, 1)
    add_camera(scene)
    (mesh,) = collect(scene, ball)
    seen = passes.render(scene, cameras.from_object(scene, scene.camera, 48, 32))
    tree = BVHTree.FromPolygons(mesh.positions.tolist(), mesh.triangles.tolist())
    places = seen.camera.unproject(seen.depth)[np.isfinite(seen.depth)]
    assert len(places) > 100
    assert max(tree.find_nearest(place)[3] for place in places) < 2e-3
    assert set(np.unique(seen.object_id)) == {0, mesh.object_id}


def test_no_faces(scene: bpy.types.Scene) -> None:
    ob = bpy.data.objects.new("Nothing", bpy.data.meshes.new("Nothing"))
    scene.collection.objects.link(ob)
    with pytest.raises(EmptyMesh, match="Nothing"):
        collect(scene, ob)


def test_zero_scale(scene: bpy.types.Scene) -> None:
    cube = add_cube(scene)
    cube.scale.y = 0
    with pytest.raises(ZeroScale, match="Cube"):
        collect(scene, cube)


def test_tiny_is_not_zero(scene: bpy.types.Scene) -> None:
    cube = add_cube(scene)
    cube.scale = (1e-4, 1e-4, 1e-4)
    assert len(collect(scene, cube)[0].triangles) == 12


def test_hidden_in_renders(scene: bpy.types.Scene) -> None:
    cube = add_cube(scene)
    cube.hide_render = True
    with pytest.raises(SceneError, match="hidden in renders"):
        collect(scene, cube)


def test_lost_uvs(scene: bpy.types.Scene) -> None:
    plane = add_plane(scene, size=2)
    with pytest.raises(SceneError, match="Other"):
        meshes.collect(scene, [plane], {"Plane": "Other"})


def test_broken_coordinates(scene: bpy.types.Scene) -> None:
    cube = add_cube(scene)
    cube.data.vertices[0].co.x = float("nan")
    with pytest.raises(BadMesh, match="Cube"):
        collect(scene, cube)


def test_nothing_is_left_behind(scene: bpy.types.Scene) -> None:
    cube = add_cube(scene)
    before = {
        kind: sorted(b.name for b in getattr(bpy.data, kind)) for kind in ("scenes", "objects", "meshes", "images")
    }
    collect(scene, cube)
    after = {kind: sorted(b.name for b in getattr(bpy.data, kind)) for kind in before}
    assert after == before
