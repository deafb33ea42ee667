"""A shot over time: settings, prompts and LoRAs that animate, markers, cuts, steps and ranges."""

from __future__ import annotations

from pathlib import Path

import bpy
import pytest

from paintover import properties
from paintover.animate import timeline
from paintover.bridge import loras
from paintover.operators import animate as operators
from paintover.session import Session
from paintover.tasks import TaskState

from .scenes import add_camera
from .shots import Server, film, numbers, render, start

pytestmark = pytest.mark.usefixtures("registered")


def test_settings_and_prompts_animate(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    film(scene, tmp_path)
    settings = scene.paintover
    settings.guidance = 2.0
    settings.keyframe_insert("guidance", frame=1)
    settings.guidance = 12.0
    settings.keyframe_insert("guidance", frame=6)
    settings.driver_add("control_depth_scale").driver.expression = "frame / 10"
    settings.driver_add("steps").driver.expression = "frame * 100"
    ice = settings.prompts.add()
    ice.text, ice.weight = "blue ice", 0.0
    ice.keyframe_insert("weight", frame=3)
    ice.weight = 1.0
    ice.keyframe_insert("weight", frame=4)
    scene.timeline_markers.new("Paint: red brick", frame=5)
    scene.timeline_markers.new("just a marker", frame=2)
    _, server = render(session)
    found = {frame.number: frame.settings for frame in server.frames}
    assert (found[1].guidance, found[6].guidance) == (2.0, 12.0)
    assert found[1].guidance < found[2].guidance < found[4].guidance
    assert [round(found[n].control_depth_scale, 3) for n in range(1, 7)] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert found[2].steps == 150, "what goes beyond its range stays at its end"
    assert found[1].prompt == found[3].prompt == "moss"
    assert found[4].prompt == "moss::1.0000 blue ice::1.0000"
    assert found[5].prompt == "red brick::1.0000 blue ice::1.0000"


def test_weights_of_loras_animate(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    film(scene, tmp_path)
    settings = scene.paintover
    assert properties.snapshot(scene).lora == ""
    settings.lora = "film:0.8"
    for name in ("sketch", " "):
        settings.loras.add().text = name
    for frame, weight in ((1, 0.0), (6, 1.0)):
        settings.loras[0].weight = weight
        settings.loras[0].keyframe_insert("weight", frame=frame)
    _, server = render(session)
    found = {frame.number: loras.parse(frame.settings.lora) for frame in server.frames}
    assert all([one.name for one in each] == ["film", "sketch"] and each[0].weight == 0.8 for each in found.values())
    weights = [found[number][1].weight for number in range(1, 7)]
    assert weights == sorted(weights)
    assert (weights[0], weights[-1]) == (0.0, 1.0)
    assert 0 < weights[2] < 1
    settings.lora = ""
    scene.frame_set(6)
    assert properties.snapshot(scene).lora == "sketch:1.0000"


def test_the_lists_over_time(scene: bpy.types.Scene) -> None:
    classes = [cls for cls in operators.CLASSES if cls.bl_idname.endswith(("_add", "_remove"))]
    assert len(classes) == 4
    for cls in classes:
        bpy.utils.register_class(cls)
    try:
        for kind in ("prompt", "lora"):
            add, remove = (getattr(bpy.ops.paintover, f"{kind}_{verb}") for verb in ("add", "remove"))
            assert not remove.poll()
            for text in "abc":
                add()
                getattr(scene.paintover, f"{kind}s")[-1].text = text
            setattr(scene.paintover, f"{kind}_index", 1)
            remove()
            assert [one.text for one in getattr(scene.paintover, f"{kind}s")] == ["a", "c"]
            assert getattr(scene.paintover, f"{kind}_index") == 0
    finally:
        for cls in classes:
            bpy.utils.unregister_class(cls)


def test_cameras_that_markers_bind_are_cuts(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    film(scene, tmp_path)
    first = scene.camera
    other = add_camera(scene, location=(-4, -3, 3))
    scene.camera = first
    scene.timeline_markers.new("A", frame=1).camera = first
    scene.timeline_markers.new("B", frame=4).camera = other
    hidden = scene.timeline_markers.new("C", frame=5)
    hidden.camera = add_camera(scene, location=(0, 0, 9))
    hidden.camera.hide_render = True
    scene.camera = first
    task, server = render(session)
    assert [shot.numbers for shot in server.shots.values()] == [(1, 2, 3), (4, 5, 6)]
    begins = {frame.number for frame in server.frames if not frame.links}
    assert begins == {1, 4}
    assert {frame.number: frame.passes.camera.name for frame in server.frames}[5] == other.name
    assert task.pace.done == 6
    scene.timeline_markers[1].frame = 5
    task, server = render(session)
    assert [shot.numbers for shot in server.shots.values()] == [(1, 2, 3, 4), (5, 6)]


def test_steps_and_ranges_that_run_backwards(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    film(scene, tmp_path)
    scene.frame_start, scene.frame_end, scene.frame_step = 0, 10, 4
    scene.paintover.shot_backwards = True
    _, server = render(session)
    (shot,) = server.shots.values()
    assert shot.numbers == (8, 4, 0)
    assert numbers(tmp_path) == ["Scene_0000.png", "Scene_0004.png", "Scene_0008.png"]


def test_timeline_words() -> None:
    markers = [(10, "paint: red brick"), (20, "cut"), (30, " Paint:  blue ice ")]
    assert [timeline.words_at(markers, frame) for frame in (9, 10, 29, 30)] == [
        None, "red brick", "red brick", "blue ice",
    ]  # fmt: skip


def test_what_is_typed_meanwhile_is_not_for_this_shot(session: Session, scene: bpy.types.Scene, tmp_path: Path) -> None:
    """The tab's fields are also those of pictures, textures and Live; an undo takes them back, another model brings its
    own."""
    film(scene, tmp_path)
    settings = scene.paintover
    settings.driver_add("control_depth_scale").driver.expression = "frame / 10"
    ice = settings.prompts.add()
    ice.text = "blue ice"
    for number, weight in ((1, 1.0), (6, 0.5)):
        ice.weight = weight
        ice.keyframe_insert("weight", frame=number)
    task, server = start(session), Server(session)
    server.run(task, until=lambda: len(server.kept) >= 1)
    settings.prompt, settings.guidance, settings.negative_prompt = "gold", 1.5, "dust"
    ice.text = "lava"
    server.run(task)
    assert task.state is TaskState.DONE, task.error
    found = {frame.number: frame.settings for frame in server.frames}
    assert len(found) == 6
    assert {(one.guidance, one.negative_prompt) for one in found.values()} == {(found[1].guidance, "")}
    assert [found[n].prompt for n in (1, 6)] == ["moss::1.0000 blue ice::1.0000", "moss::1.0000 blue ice::0.5000"]
    assert [round(found[n].control_depth_scale, 3) for n in range(1, 7)] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
