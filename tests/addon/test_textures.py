"""Textures on objects, and the way back."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest

from paintover import textures, uvs
from paintover.bridge.errors import LinkedData, NoMesh, NothingToRevert, SceneError

from .scenes import add_cube, add_sphere


def picture(side: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


def bytes_of(image: bpy.types.Image) -> np.ndarray:
    flat = np.empty(len(image.pixels), np.float32)
    image.pixels.foreach_get(flat)
    return np.round(flat.reshape(*reversed(image.size), 4)[::-1, :, :3] * 255).astype(np.uint8)


def dressed(scene: bpy.types.Scene) -> bpy.types.Object:
    """A cube with three slots: one of its mesh's, one of its own, one empty; and a hidden one under the first."""
    cube = add_cube(scene)
    for name in ("First", "Second"):
        cube.data.materials.append(bpy.data.materials.new(name))
    cube.data.materials.append(None)
    cube.material_slots[1].link = "OBJECT"
    cube.material_slots[1].material = bpy.data.materials.new("Own")
    cube.material_slots[0].link = "OBJECT"
    cube.material_slots[0].material = bpy.data.materials.new("Hidden")
    cube.material_slots[0].link = "DATA"
    return cube


def look(ob: bpy.types.Object) -> dict[str, Any]:
    """All that painting could change of an object and its mesh."""
    slots = []
    for slot in ob.material_slots:
        link = slot.link
        both = {}
        for side in ("DATA", "OBJECT"):
            slot.link = side
            both[side] = slot.material
        slot.link = link
        slots.append((link, both))
    return {
        "slots": slots,
        "mesh": list(ob.data.materials),
        "uvs": [layer.name for layer in ob.data.uv_layers],
        "keys": (sorted(ob.keys()), sorted(ob.data.keys())),
        "blocks": [
            sorted((b.name, b.users) for b in kind)
            for kind in (bpy.data.materials, bpy.data.images, bpy.data.meshes, bpy.data.objects)
        ],
    }


def test_texture_is_on_the_object(scene: bpy.types.Scene) -> None:
    cube, texture = dressed(scene), picture()
    material = textures.apply(cube, texture, "UVMap")
    assert material.name == "Paintover Cube"
    assert [slot.material for slot in cube.material_slots] == [material] * 3
    image = next(node.image for node in material.node_tree.nodes if node.type == "TEX_IMAGE")
    np.testing.assert_array_equal(bytes_of(image), texture)
    assert image.packed_file
    assert image.colorspace_settings.name == "sRGB"
    assert {node.type for node in material.node_tree.nodes} >= {"EMISSION", "UVMAP"}
    assert textures.is_painted(cube)


def test_revert_is_exact_even_after_painting_twice(scene: bpy.types.Scene) -> None:
    cube = dressed(scene)
    before = look(cube)
    layer = uvs.make(cube)
    textures.apply(cube, picture(), layer)
    again = textures.apply(cube, picture(24, 1), layer, shading="lit")
    assert len(bpy.data.images) == 1
    assert "BSDF_PRINCIPLED" in {node.type for node in again.node_tree.nodes}
    np.testing.assert_array_equal(bytes_of(bpy.data.images[0]), picture(24, 1))
    textures.revert(cube)
    assert look(cube) == before
    with pytest.raises(NothingToRevert):
        textures.revert(cube)


def test_revert_after_renaming_saving_and_loading(scene: bpy.types.Scene, tmp_path: Path) -> None:
    cube = dressed(scene)
    textures.apply(cube, picture(), "UVMap")
    bpy.data.materials["Own"].name = "Renamed"
    bpy.data.materials["Paintover Cube"].name = "Also Renamed"
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "painted.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "painted.blend"))
    cube = bpy.data.objects["Cube"]
    np.testing.assert_array_equal(bytes_of(bpy.data.images["Paintover Cube"]), picture())
    textures.revert(cube)
    slots = cube.material_slots
    assert [(slot.link, slot.material and slot.material.name) for slot in slots] == [
        ("DATA", "First"), ("OBJECT", "Renamed"), ("DATA", None)
    ]  # fmt: skip
    assert not bpy.data.images
    assert "Also Renamed" not in bpy.data.materials


def test_object_with_no_slot(scene: bpy.types.Scene) -> None:
    cube = add_cube(scene)
    before = look(cube)
    material = textures.apply(cube, picture(), "UVMap")
    assert cube.active_material == material
    textures.revert(cube)
    assert look(cube) == before


def test_objects_that_share_a_mesh(scene: bpy.types.Scene) -> None:
    cube = add_cube(scene)
    twin = cube.copy()
    third = cube.copy()
    for ob in (twin, third):
        scene.collection.objects.link(ob)
    before = [look(ob) for ob in (cube, twin, third)]
    layer = uvs.make(cube)
    one, two = textures.apply(cube, picture(), layer), textures.apply(twin, picture(seed=1), layer)
    assert one != two
    assert (cube.active_material, twin.active_material, third.active_material) == (one, two, None)
    textures.revert(cube)
    assert twin.active_material == two, "the other one's paint and UVs stay"
    assert layer in twin.data.uv_layers
    textures.revert(twin)
    assert [look(ob) for ob in (cube, twin, third)] == before


def test_copies_of_a_painted_object_revert_too(scene: bpy.types.Scene) -> None:
    cube = dressed(scene)
    material = textures.apply(cube, picture(), "UVMap")
    twin = cube.copy()
    scene.collection.objects.link(twin)
    textures.revert(cube)
    assert twin.active_material == material
    assert textures.revert_all([cube, twin]) == 1
    assert not bpy.data.images


def test_painting_a_copy_does_not_change_the_original(scene: bpy.types.Scene) -> None:
    cube = dressed(scene)
    material = textures.apply(cube, picture(), "UVMap")
    twin = cube.copy()
    scene.collection.objects.link(twin)
    assert textures.apply(twin, picture(seed=1), "UVMap") != material
    assert cube.active_material == material
    np.testing.assert_array_equal(bytes_of(bpy.data.images["Paintover Cube"]), picture())


def test_material_and_image_that_the_artist_deleted(scene: bpy.types.Scene) -> None:
    cube = dressed(scene)
    textures.apply(cube, picture(), "UVMap")
    bpy.data.materials.remove(bpy.data.materials["Paintover Cube"])
    bpy.data.images.remove(bpy.data.images["Paintover Cube"])
    material = textures.apply(cube, picture(), "UVMap")
    assert cube.active_material == material
    bpy.data.materials.remove(material)
    bpy.data.materials.remove(bpy.data.materials["Own"])
    textures.revert(cube)
    assert cube.material_slots[1].link == "OBJECT"
    assert cube.material_slots[1].material is None
    assert cube.material_slots[0].material.name == "First"


def test_slot_that_was_added_after_painting(scene: bpy.types.Scene) -> None:
    cube = dressed(scene)
    textures.apply(cube, picture(), "UVMap")
    new = bpy.data.materials.new("New")
    cube.data.materials.append(new)
    textures.apply(cube, picture(), "UVMap")
    textures.revert(cube)
    assert cube.material_slots[3].link == "DATA"
    assert cube.material_slots[3].material == new


def test_linked_data_is_refused_before_any_change(scene: bpy.types.Scene, tmp_path: Path) -> None:
    path = str(tmp_path / "library.blend")
    bpy.data.libraries.write(path, {add_cube(scene)})
    bpy.ops.wm.read_factory_settings(use_empty=True)
    with bpy.data.libraries.load(path, link=True) as (_, wanted):
        wanted.objects = ["Cube"]
    linked = wanted.objects[0]
    local = bpy.data.objects.new("Local", linked.data)
    # A linked mesh without a slot gives its object none either, and an override is of no use then.
    for ob, advice in ((linked, "library override"), (local, "Objects and Data")):
        with pytest.raises(LinkedData, match=advice):
            textures.apply(ob, picture(), "UVMap")
    assert not bpy.data.images
    assert not bpy.data.materials


def test_local_object_with_a_linked_mesh(scene: bpy.types.Scene, tmp_path: Path) -> None:
    path = str(tmp_path / "library.blend")
    bpy.data.libraries.write(path, {dressed(scene)})
    bpy.ops.wm.read_factory_settings(use_empty=True)
    with bpy.data.libraries.load(path, link=True) as (_, wanted):
        wanted.meshes = ["Cube"]
    local = bpy.data.objects.new("Local", wanted.meshes[0])
    bpy.context.scene.collection.objects.link(local)
    before = look(local)
    assert textures.apply(local, picture(), "UVMap") == local.active_material
    textures.revert(local)
    assert look(local) == before


def test_what_cannot_be_painted(scene: bpy.types.Scene) -> None:
    with pytest.raises(NoMesh, match="Lamp"):
        textures.apply(bpy.data.objects.new("Lamp", bpy.data.lights.new("Lamp", "POINT")), picture(), "UVMap")
    cube = add_cube(scene)
    with pytest.raises(SceneError, match="Gone"):
        textures.apply(cube, picture(), "Gone")
    assert not textures.is_painted(cube)
    assert not bpy.data.images
    with pytest.raises(NothingToRevert):
        textures.revert_all([cube, add_sphere(scene)])


def test_large_texture_is_quick(scene: bpy.types.Scene) -> None:
    texture = np.zeros((2048, 2048, 3), np.uint8)
    texture[0, 0] = 255
    textures.apply(add_cube(scene), texture, "UVMap")
    assert tuple(bpy.data.images[0].size) == (2048, 2048)


@pytest.mark.skipif(
    bpy.app.version < (4, 3, 0), reason="Blender 4.2 as a Python module crashes at its exit once it has exported glTF"
)
@pytest.mark.parametrize("shading", ["unlit", "lit"])
def test_gltf_carries_the_texture(shading: textures.Shading, scene: bpy.types.Scene, tmp_path: Path) -> None:
    textures.apply(add_cube(scene), picture(), "UVMap", shading=shading)
    path = tmp_path / "painted.glb"
    bpy.ops.export_scene.gltf(filepath=str(path), export_format="GLB")
    data = path.read_bytes()
    (length,) = struct.unpack_from("<I", data, 12)
    content = json.loads(data[20 : 20 + length])
    (material,) = content["materials"]
    assert len(content["images"]) == 1
    if shading == "unlit":
        shown = material.get("emissiveTexture") or material["pbrMetallicRoughness"]["baseColorTexture"]
    else:
        shown = material["pbrMetallicRoughness"]["baseColorTexture"]
    assert shown["index"] == 0


def test_fill_image_changes_size_in_place(scene: bpy.types.Scene) -> None:
    wide = np.random.default_rng(0).integers(0, 256, (8, 16, 3), np.uint8)
    image = textures.fill_image(None, "Pic/ture", wide)
    np.testing.assert_array_equal(bytes_of(image), wide)
    user = bpy.data.textures.new("User", "IMAGE")
    user.image = image
    new = textures.fill_image(image, "Picture", wide[:, :8])
    assert user.image == new == image
    np.testing.assert_array_equal(bytes_of(new), wide[:, :8])
    assert tuple(new.size) == (8, 8)
