"""Painted frames as a strip of the sequencer, and as a video, by Blender's own FFmpeg writer."""

from __future__ import annotations

from pathlib import Path

import bpy

from .. import strips
from ..bridge.errors import RenderFailed, SceneError
from .files import Folder

CODECS = {
    "H264": ("H.264", "MPEG4", ".mp4", "Plays everywhere"),
    "PRORES": ("ProRes", "QUICKTIME", ".mov", "For editing and grading: large files, hardly any loss"),
}
"""Codec -> label, container, how its files end, and what it is for."""


def codecs() -> list[str]:
    """Those of CODECS that this Blender can write: 4.2 has no ProRes."""
    known = bpy.types.FFmpegSettings.bl_rna.properties["codec"].enum_items.keys()
    return [codec for codec in CODECS if codec in known]


def held(scene: bpy.types.Scene, folder: Folder) -> tuple[list[str], int]:
    """For every frame of the scene's range, the name of the file to show: its own, or the last one before it (where
    only every n-th was painted, or one is missing, that is held); and how many are missing. Raises SceneError if there
    are none."""
    names: list[str] = []
    missing = early = 0
    for number in range(scene.frame_start, scene.frame_end + 1):
        path = folder.file(number)
        if path.exists():
            names += [path.name] * (1 + (early if not names else 0))
            continue
        missing += (number - scene.frame_start) % scene.frame_step == 0
        early += not names  # before the first that is there, that one is shown
        names += names[-1:]
    if not names:
        raise SceneError(
            reason=f"no painted frames of it are in {folder.path}", hint="Press Render Shot, or choose their folder."
        )
    return names, missing


def place(scene: bpy.types.Scene, folder: Folder, names: list[str]) -> str:
    """Lay the frames out in the scene's sequencer; returns the strip's name."""
    return strips.lay(scene, folder.name, folder.path, names, scene.frame_start)


def video(scene: bpy.types.Scene, folder: Folder, names: list[str], codec: str) -> Path:
    """Write the frames as a video beside them; returns its path. Blocks Blender's main thread. Raises RenderFailed."""
    _, container, suffix, _ = CODECS[codec]
    path = folder.path / f"{folder.name}{suffix}"
    part = folder.path / f".{folder.name}.part{suffix}"
    if bpy.app.is_job_running("RENDER"):
        raise RenderFailed(reason="Blender is rendering", hint="Wait until that render is done, and run it again.")
    had_result = "Render Result" in bpy.data.images
    temporary = bpy.data.scenes.new("Paintover Video")
    try:
        temporary.frame_start, temporary.frame_end = scene.frame_start, scene.frame_start + len(names) - 1
        place(temporary, folder, names)
        _set_up(scene, temporary, folder.path / names[0], part, container, codec)
        part.write_bytes(b"")  # the system's own words, where Blender would only say that it failed
        bpy.ops.render.render(animation=True, scene=temporary.name)
        if not part.stat().st_size:
            raise RenderFailed(reason=f"{path} was not written", hint="Blender's console may say why.")
        part.replace(path)
    except OSError as reason:
        words = f"{path} cannot be written: {reason.strerror or reason}."
        raise RenderFailed(words, hint="Make room there, or choose another folder.") from reason
    except RuntimeError as reason:  # the operator's own error report
        raise RenderFailed(reason=str(reason).strip()) from reason
    finally:
        bpy.data.scenes.remove(temporary)
        if not had_result and (result := bpy.data.images.get("Render Result")):
            bpy.data.images.remove(result)
        part.unlink(missing_ok=True)
    return path


def _set_up(
    scene: bpy.types.Scene, temporary: bpy.types.Scene, first: Path, path: Path, container: str, codec: str
) -> None:
    image = bpy.data.images.load(str(first))
    size = tuple(image.size)
    bpy.data.images.remove(image)
    render = temporary.render
    render.resolution_x, render.resolution_y, render.resolution_percentage = *size, 100
    render.fps, render.fps_base = scene.render.fps, scene.render.fps_base
    render.use_sequencer, render.use_compositing, render.use_file_extension = True, False, False
    render.filepath = str(path)
    if bpy.app.version >= (4, 5):  # braces are templates there
        render.filepath = render.filepath.replace("{", "{{").replace("}", "}}")
    temporary.view_settings.view_transform = "Standard"  # pictures stay as they are
    if hasattr(render.image_settings, "media_type"):  # from 5.0 on
        render.image_settings.media_type = "VIDEO"
    render.image_settings.file_format = "FFMPEG"
    ffmpeg = render.ffmpeg
    ffmpeg.format, ffmpeg.codec, ffmpeg.audio_codec = container, codec, "NONE"
    if codec == "H264":
        ffmpeg.constant_rate_factor, ffmpeg.gopsize = "HIGH", 12
