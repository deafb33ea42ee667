"""A painted frame onto objects: what it shows is painted, everything else keeps what it had."""

from __future__ import annotations

import bpy
import numpy as np
import pytest

from paintover import cameras, textures
from paintover.bridge.errors import SceneError
from paintover.live.mesh_paint import MeshPaintTask
from paintover.passes.live import Live
from paintover.passes.reproject import Known
from paintover.session import Session

from .scenes import add_camera

pytestmark = pytest.mark.usefixtures("registered")
RED, GREEN = (220, 30, 30), (30, 200, 30)


def known_of(scene: bpy.types.Scene, location: tuple[float, float, float]) -> Known:
    if scene.camera is None:
        add_camera(scene)
    scene.camera.location = location
    scene.camera.rotation_euler = (-scene.camera.location).to_track_quat("-Z", "Y").to_euler()
    with Live(scene) as live:
        frame = live.frame(cameras.from_object(scene, scene.camera, 128, 128))
        return Known.of(live.read(), frame)


def flat(color: tuple[int, int, int]) -> np.ndarray:
    return np.broadcast_to(np.uint8(color), (128, 128, 3))


def paint(
    scene: bpy.types.Scene, objects: list[bpy.types.Object], known: Known, picture: np.ndarray, size: int, *, lit: bool
) -> list[str]:
    """Have a session do the task; returns what the artist is told. Raises what it fails with."""
    scene.paintover.texture_size, scene.paintover.shading = size, "LIT" if lit else "UNLIT"
    task, session = MeshPaintTask(scene, objects, known, picture), Session()
    session.start(task)
    session.wait(lambda: task.ended, 60)
    if task.error:
        raise task.error
    return task.notes


def color_of_faces(ob: bpy.types.Object) -> dict[tuple[int, int, int], np.ndarray]:
    """Normal of every face of a cube -> the middle of its texture there, 0…255."""
    image = ob[textures.PAINTED]["image"]
    width, height = image.size
    pixels = np.empty(width * height * image.channels, np.float32)
    image.pixels.foreach_get(pixels)
    pixels = pixels.reshape(height, width, image.channels)
    found = {}
    for polygon in ob.data.polygons:
        uv = np.mean([ob.data.uv_layers.active.uv[loop].vector for loop in polygon.loop_indices], 0)
        at = tuple(round(value) for value in polygon.normal)
        found[at] = pixels[int(uv[1] * height), int(uv[0] * width), :3] * 255
    return found


def test_what_is_seen_is_painted_and_the_rest_kept(scene: bpy.types.Scene) -> None:
    bpy.ops.mesh.primitive_cube_add()
    cube = bpy.context.object
    cube.data.materials.append(bpy.data.materials.new("Old"))
    front = known_of(scene, (0, -6, 0))
    assert paint(scene, [cube], front, flat(RED), 128, lit=False) == []
    right = known_of(scene, (6, 0, 0))
    paint(scene, [cube], right, flat(GREEN), 128, lit=False)
    faces = color_of_faces(cube)
    np.testing.assert_allclose(faces[0, -1, 0], RED, atol=2)
    np.testing.assert_allclose(faces[1, 0, 0], GREEN, atol=2)
    np.testing.assert_allclose(faces[0, 1, 0], RED, atol=2)  # never seen: the mean of the first painting
    assert cube.material_slots[0].material.name == "Paintover Cube"
    textures.revert(cube)
    assert cube.material_slots[0].material.name == "Old"


def test_it_is_the_same_object_whatever_it_is_called_and_what_was_added_since(scene: bpy.types.Scene) -> None:
    bpy.ops.mesh.primitive_cube_add()
    cube = bpy.context.object
    known = known_of(scene, (0, -6, 0))
    cube.name = "Renamed"
    bpy.ops.mesh.primitive_cube_add(location=(0, 9, 0))
    other = bpy.context.object
    other.name = "A"  # it comes first by name
    paint(scene, [cube, other], known, flat(RED), 128, lit=False)
    np.testing.assert_allclose(color_of_faces(cube)[0, -1, 0], RED, atol=2)
    assert textures.PAINTED not in other


def test_objects_without_uvs_get_some_and_give_them_back(scene: bpy.types.Scene) -> None:
    bpy.ops.mesh.primitive_cube_add()
    cube = bpy.context.object
    cube.data.uv_layers.remove(cube.data.uv_layers[0])
    (note,) = paint(scene, [cube], known_of(scene, (0, -6, 0)), flat(RED), 64, lit=True)
    assert "new UV layer" in note
    textures.revert(cube)
    assert not cube.data.uv_layers


def test_what_stands_before_an_object_does_not_end_up_on_it(scene: bpy.types.Scene) -> None:
    bpy.ops.mesh.primitive_cube_add()
    cube = bpy.context.object
    bpy.ops.mesh.primitive_cube_add(size=3, location=(0, -3, 0))
    with pytest.raises(SceneError, match="shows none of the selected objects"):
        paint(scene, [cube], known_of(scene, (0, -9, 0)), flat(RED), 64, lit=False)
    assert not textures.is_painted(cube)


def test_an_edited_object_is_refused_in_plain_words(scene: bpy.types.Scene) -> None:
    bpy.ops.mesh.primitive_cube_add()
    cube = bpy.context.object
    known = known_of(scene, (0, -6, 0))
    bpy.ops.object.mode_set(mode="EDIT")
    with pytest.raises(SceneError):
        paint(scene, [cube], known, flat(RED), 64, lit=False)
    bpy.ops.object.mode_set(mode="OBJECT")
