"""Makes docs/images/live.jpg: the live viewport when the timeline has just played, and the monitor page beside it.

Run, where scripts/test has set everything up, with nothing beside it:
  bash -c '. scripts/common.sh; window_env
           PAINTOVER_WINDOW=$blender_window .venv/bin/python -m tests.window.live_picture'
"""

from __future__ import annotations

import io
import socket
import tempfile
from pathlib import Path

from PIL import Image

import build_addon

from ..server.test_monitor_page import make_browser, size
from ..server_process import TOKEN, running
from ..waiting import wait_until
from . import host

PICTURE = Path(__file__).parents[2] / "docs" / "images" / "live.jpg"
SETTINGS = {
    "prompt": "copper, white background", "live_model": "mini-turbo", "live_steps": 2, "output_width": 256,
    "output_height": 256, "control_depth": True, "control_normal": True, "control_edge": True,
}  # fmt: skip
ARRANGED = """
bpy.data.objects.remove(bpy.data.objects["Plane"])
seen = next(area for area in bpy.context.screen.areas if area.type == "VIEW_3D").spaces.active.region_3d
seen.view_rotation, seen.view_distance = Euler((1.35, 0, 0.5)).to_quaternion(), 5.5
bpy.context.scene.frame_end = 40
"""
"""A face that turns before the viewer."""
HEIGHT, GAP = 560, 12


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def viewport(blender: host.Windowed, folder: Path) -> Image.Image:
    """The viewport's part of the screen, once it paints well."""
    blender.wait_for(lambda state: state["paintover"], "the extension")
    for name, value in SETTINGS.items():
        blender.do(f"bpy.context.scene.paintover.{name} = {value!r}")
    blender.do("from mathutils import Euler\n" + ARRANGED)
    blender.open_tab()
    blender.press("bpy.ops.paintover.connect()")
    blender.wait_for(lambda state: state["paintover"]["online"], "the connection")
    blender.press("bpy.ops.paintover.live_toggle()")
    blender.wait_for(lambda state: state.get("pictures", 0) > 2, "the first paintings")
    blender.do("bpy.ops.screen.animation_play()")
    painted = blender.look()["pictures"]
    blender.wait_for(lambda state: state["pictures"] > painted + 30 and 10 < state["frame"] < 25, "its full pace")
    blender.do("bpy.ops.screen.animation_cancel(restore_frame=False)")
    seen = blender.wait_for(lambda state: state["flying"] == 0, "the newest painting")["viewport"]
    blender.screenshot(folder / "screen.png")
    with Image.open(folder / "screen.png") as screen:
        box = (seen["left"], seen["top"], seen["left"] + seen["width"], seen["top"] + seen["height"])
        return screen.convert("RGB").crop(box)


def page(port: int) -> Image.Image:
    browser = make_browser()
    try:
        size(browser, 1080, HEIGHT)
        browser.get(f"http://127.0.0.1:{port}/?token={TOKEN}")
        frames = "return Number(document.getElementById('frame').dataset.frames ?? 0)"
        wait_until(lambda: browser.execute_script(frames) > 20)
        return Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
    finally:
        browser.quit()


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="paintover-") as name:
        folder, port = Path(name), free_port()
        zipped = build_addon.build(folder / "dist")
        with (
            running(folder / "server", "diffusers", "--http-port", str(port)) as server,
            host.windowed(folder, zipped, "live_scene.py", server.port) as blender,
        ):
            left, right = viewport(blender, folder), page(port)
        left = left.resize((round(left.width * HEIGHT / left.height), HEIGHT), Image.Resampling.LANCZOS)
        both = Image.new("RGB", (left.width + GAP + right.width, HEIGHT), "white")
        both.paste(left, (0, 0))
        both.paste(right, (left.width + GAP, 0))
        both.save(PICTURE, quality=88)
        print(PICTURE)


if __name__ == "__main__":
    main()
