"""Painted images as Blender images: their names, their editors, their previews."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
import pytest

from paintover import images
from paintover.bridge.messages import DONE, ImageResult, JobState
from paintover.bridge.parameters import Settings
from paintover.panels import preview
from paintover.session import Session
from paintover.tasks import ViewTask

from .scripted import cube, deliver, offered, prepare, result

pytestmark = pytest.mark.usefixtures("registered")


def test_an_image_of_the_users_own_is_not_overwritten(session: Session) -> None:
    own = bpy.data.images.new("Paintover Cube", 8, 8)
    ob = cube()
    task = offered(session)
    bpy.data.objects.remove(ob)
    deliver(session, result(task))
    assert tuple(own.size) == (8, 8)
    assert bpy.data.images["Paintover Cube.001"].size[0] == 64


def test_a_painted_image_is_saved_with_the_file(tmp_path: Path) -> None:
    """Where no editor shows it, nothing else uses it: Blender would leave it out of the file."""
    name = images.show("Paintover Camera", np.full((64, 64, 3), 200, np.uint8), Settings(prompt="moss"))
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "saved.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "saved.blend"))
    assert bpy.data.images[name].size[:] == (64, 64)


def test_an_image_editor_that_is_pinned_keeps_its_image() -> None:
    own = bpy.data.images.new("Own", 8, 8)
    (area, *_) = bpy.context.window_manager.windows[0].screen.areas
    area.type = "IMAGE_EDITOR"
    space = area.spaces.active
    for pinned in (True, False):
        space.image, space.use_image_pin = own, pinned
        images.show("Paintover Camera", np.full((64, 64, 3), 200, np.uint8), Settings())
        assert (space.image == own) is pinned


def test_a_view_becomes_an_image_of_any_size(session: Session) -> None:
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    bpy.context.scene.collection.objects.link(camera)
    bpy.context.scene.camera = camera
    cube()
    for side in (64, 128):
        task = ViewTask(Settings(size=side), bpy.context.scene)
        session.start(task)
        prepare(session, task)
        image = np.full((side, side, 3), 10, np.uint8)
        deliver(session, ImageResult(task.job, image, task.settings), JobState(task.job, DONE))
        assert task.error is None
        assert tuple(bpy.data.images[task.image].size) == (side, side)
    assert len(bpy.data.images) == 1


def test_two_previews_stand_side_by_side() -> None:
    preview.register()
    try:
        first, second = (np.full((8, 8, 3), value, np.uint8) for value in (10, 20))
        preview.icon("a", first)
        made = preview._previews["a"]
        preview.icon("b", second)
        preview.keep({"a", "b", "c"})
        preview.icon("a", first)
        assert preview._previews["a"] is made, "it is not made anew for the other"
        assert tuple(preview._previews["b"].image_pixels_float[:3]) == pytest.approx([20 / 255] * 3, abs=0.01)
        preview.keep({"b"})
        assert "a" not in preview._previews
    finally:
        preview.unregister()
