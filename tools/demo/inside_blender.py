"""The demo's part inside Blender: installs the built extension, opens or builds the scene, presses the buttons."""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import bpy
import numpy as np

MODULE = "bl_ext.user_default.paintover"
SAMPLE_PROMPT = "gold, white background"


def say(text: str) -> None:
    print(f"Paintover:   0% {text}", flush=True)


def part(name: str) -> Any:
    return importlib.import_module(f"{MODULE}.{name}")


def install(plan: dict[str, Any]) -> None:
    say("Installing the extension")
    bpy.ops.extensions.package_install_files(filepath=plan["zip"], repo="user_default", enable_on_install=True)
    preferences = bpy.context.preferences.addons[MODULE].preferences
    preferences.port, preferences.token = plan["port"], plan["token"]


def open_scene(plan: dict[str, Any]) -> None:
    """Open the scene to paint, with what should be painted selected."""
    if plan["scene"]:
        say("Opening the scene")
        bpy.ops.wm.open_mainfile(filepath=plan["scene"])
        if not bpy.context.selected_objects:
            for ob in bpy.context.view_layer.objects:
                if ob.type == "MESH" and not ob.library and ob.visible_get():
                    ob.select_set(True)
    else:
        say("Building the sample scene")
        bpy.ops.wm.read_factory_settings(use_empty=True)
        sys.path.insert(0, str(Path(__file__).parent))
        importlib.import_module("sample_scene").build()


def picture(path: Path) -> None:
    """Save what the scene's camera sees, as Blender shows it."""
    scene = bpy.context.scene
    cameras, color = part("cameras"), part("passes.color")
    if scene.camera is None:
        return
    (image,) = color.render(scene, [cameras.from_scene(scene, 768)])
    part("operators.export_passes").save_png(image[..., :3].astype(np.float32) / 255, path)


def save_views(task: Any, folder: Path) -> None:
    """Every camera's passes and painting as 8-bit pictures, for the contact sheet."""
    pictures = part("passes.pictures").of_passes
    for number, seen in enumerate(task.views, 1):
        eye = {name: np.round(value.clip(0, 1) * 255).astype(np.uint8) for name, value in pictures(seen).items()}
        painted = task.painted.get(seen.camera.name, np.zeros_like(eye["depth"]))
        np.savez(folder / f"view-{number:02}.npz", name=seen.camera.name, painted=painted, **eye)


def keep_views(folder: Path) -> None:
    """Have a texture task's views saved just before the task lets go of them."""
    task_class = part("texture_task").TextureTask
    release = task_class.release

    def save_and_release(task: Any) -> None:
        save_views(task, folder)
        release(task)

    task_class.release = save_and_release


def main(plan: dict[str, Any]) -> None:
    out, work = Path(plan["out"]), Path(plan["work"])
    seconds: dict[str, float] = {}
    clock = time.monotonic()

    def lap(stage: str) -> None:
        nonlocal clock
        now = time.monotonic()
        seconds[stage] = round(now - clock, 1)
        clock = now

    bpy.context.preferences.view.show_splash = False
    bpy.context.preferences.filepaths.save_version = 0  # no textured.blend1 beside textured.blend
    open_scene(plan)
    install(plan)
    lap("scene")
    say("Rendering before.png")
    picture(out / "before.png")
    lap("before")
    scene = bpy.context.scene
    settings = scene.paintover
    settings.model = plan["model"]
    bpy.ops.paintover.connect()
    settings.prompt = plan["prompt"] or SAMPLE_PROMPT
    settings.seed = plan["seed"]
    if plan["size"]:
        settings.size = plan["size"]
    keep_views(work)
    bpy.ops.paintover.texture()
    task = part("session").session.tasks[-1]
    lap("texture")
    say("Rendering after.png")
    picture(out / "after.png")
    lap("after")
    say("Saving")
    bpy.ops.file.pack_all()
    bpy.ops.wm.save_as_mainfile(filepath=str(out / "textured.blend"), compress=True, copy=True)
    bpy.ops.export_scene.gltf(filepath=str(out / "textured.glb"), export_format="GLB")
    lap("save")
    report = {
        "prompt": settings.prompt,
        "seed": task.settings.seed,
        "model": settings.model,
        "seconds": {**seconds, **{f"server {stage}": round(s, 1) for stage, s in task.seconds.items()}},
        "coverage": {name: round(share, 4) for name, share in task.coverage.items()},
        "notes": task.notes,
        "blender": bpy.app.version_string,
    }
    (work / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[sys.argv.index("--") + 1]).read_text()))
