"""The sample scene has what the tour promises, and it can be painted as it is."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import bpy
import numpy as np
import pytest

from paintover import cameras, meshes, passes, uvs

from .conftest import ROOT
from .scenes import automatic


@pytest.fixture
def still_life() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sample_scene", ROOT / "tools" / "demo" / "sample_scene.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.build()
    return module


def test_contents(still_life: ModuleType, scene: bpy.types.Scene) -> None:
    collection = bpy.data.collections[still_life.COLLECTION]
    selected = set(bpy.context.selected_objects)
    assert len(selected) >= 6
    assert selected <= set(collection.objects)
    assert bpy.context.view_layer.objects.active in selected
    assert any(len(ob.modifiers) >= 3 for ob in selected), "a modifier stack"
    assert any(ob.instance_type == "COLLECTION" for ob in collection.objects), "an instance"
    assert any(ob.data.users > 1 for ob in selected), "a linked duplicate"
    assert scene.camera.parent, "a parented camera"
    without = [ob.name for ob in selected if not ob.data.uv_layers]
    assert without == ["Bowl"], "one object without UVs"
    for ob in selected:
        assert ob.data.validate() is False, f"{ob.name} is a valid mesh"


def test_other_objects_have_usable_uvs(still_life: ModuleType) -> None:
    for ob in bpy.context.selected_objects:
        if ob.name != "Bowl":
            assert uvs.check(ob.data).usable, (ob.name, uvs.check(ob.data))


def test_everything_is_in_the_picture(still_life: ModuleType, scene: bpy.types.Scene) -> None:
    seen = passes.render(scene, cameras.from_scene(scene, 128))
    names = set(seen.names.values())
    assert {ob.name for ob in bpy.context.selected_objects} <= names
    assert {"Berry 1", "Berry 2", "Berry 3"} <= names


def test_it_can_be_painted(still_life: ModuleType, scene: bpy.types.Scene) -> None:
    objects = [ob for ob in bpy.context.selected_objects if ob.name != "Backdrop"]
    layers = {ob.name: uvs.check(ob.data).layer or uvs.make(ob) for ob in objects}
    found = meshes.collect(scene, objects, layers)
    for mesh in found:  # closed or not, normals face out: away from the middle of a convex enough thing
        corners = mesh.positions[mesh.triangles]
        winding = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        agree = (winding * mesh.normals.mean(1)).sum(1) >= 0
        assert agree.mean() > 0.99, mesh.name
    views = automatic(scene, found, 3)
    assert len(views) == 3
    seen = passes.render_views(scene, views)
    for mesh in found:
        assert any((view.object_id == mesh.object_id).any() for view in seen), mesh.name
