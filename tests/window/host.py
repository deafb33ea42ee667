"""Blender with a window, on a screen in memory: started in the Debian that scripts/common.sh makes, driven by real X
events, watched by what inside.py writes down in Blender."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from ..server_process import TOKEN

ROOT = os.environ.get("PAINTOVER_WINDOW", "")
WHY_NOT = os.environ.get("PAINTOVER_NO_WINDOW", "") or "PAINTOVER_WINDOW names no windowed Blender: run scripts/test"
SIZE = (1280, 800)
SETTINGS = "HOME=/mnt/home BLENDER_USER_RESOURCES=/mnt/profile LIBGL_ALWAYS_SOFTWARE=1 MESA_SHADER_CACHE_DIR=/srv"

# Compiled shaders, kept from one Blender to the next: to compile those of Material Preview takes half a minute of
# processor time.
SHADERS = Path(__file__).parents[2] / ".build" / "shaders"

# Runs in namespaces of its own: its mounts and all that it started end with it, however it ends.
BOOT = """
mount -t proc proc "$0/proc"
mount -t tmpfs tmpfs "$0/dev/shm"
mount --bind "$1" "$0/mnt"
mount --bind "$1/tmp" "$0/tmp"
mount --bind "$2" "$0/srv"
exec chroot "$0" sh /mnt/boot.sh
"""
INSIDE = f"""
cd /mnt
Xvfb -displayfd 3 -screen 0 {SIZE[0]}x{SIZE[1]}x24 +extension GLX 3>display 2>xvfb.log &
while [ ! -s display ]; do sleep 0.05; kill -0 $! || exit 97; done
export DISPLAY=:$(cat display) {SETTINGS}
blender --factory-startup --window-geometry 0 0 {SIZE[0]} {SIZE[1]} --python-exit-code 98 --python inside.py
echo $? > exit.new; mv exit.new exit
"""


def enter(work: Path) -> list[str]:
    """The command that runs work/boot.sh in the Debian with Blender; `work` is /mnt there."""
    for folder in (work / "tmp", work / "home", SHADERS):
        folder.mkdir(parents=True, exist_ok=True)
    own = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
    return [*own, "sh", "-ec", BOOT, ROOT, str(work), str(SHADERS)]


class Windowed:
    """A Blender with a window. `work` becomes /mnt for it, and holds all that it writes.

    `plan` is what inside.py and the script that it runs get to know, as JSON.
    """

    def __init__(self, work: Path, script: Path, addon: Path, plan: dict[str, Any]) -> None:
        self.work = work
        command = enter(work)
        shutil.copy(Path(__file__).with_name("inside.py"), work)
        shutil.copy(script, work / "scene.py")
        shutil.copy(addon, work / "paintover.zip")
        (work / "plan.json").write_text(json.dumps(plan))
        (work / "boot.sh").write_text(INSIDE)
        self.log = work / "blender.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        self._places: dict[str, tuple[int, int]] = {}  # of buttons when they were last seen

    # ------------------------------------------------------------ watching

    def state(self) -> dict[str, Any]:
        """What inside.py wrote last; empty before it wrote anything."""
        try:
            state: dict[str, Any] = json.loads((self.work / "state.json").read_text())
        except FileNotFoundError:
            return {}
        return state

    def look(self) -> dict[str, Any]:
        """The state after all that was done up to now has reached Blender."""
        before = self.state().get("ticks", 0)
        return self.wait_for(lambda state: state["ticks"] >= before + 3, "Blender's main loop")

    def wait_for(self, done: Callable[[dict[str, Any]], Any], what: str, timeout: float = 300.0) -> dict[str, Any]:
        """Poll until `done(state)`; returns that state. Fails with the log if Blender ends or takes too long."""
        until = time.monotonic() + timeout
        while True:
            state = self.state()
            if state and done(state):
                return state
            assert not self.ended, f"Blender ended while the test waited for: {what}\n{self.tail()}"
            assert time.monotonic() < until, f"waited {timeout:g} s for: {what}\n{state}\n{self.tail()}"
            time.sleep(0.02)

    def do(self, python: str) -> None:
        """Have inside.py run a line of Python: for what is not the mouse's and keyboard's part of a test. The state is
        that after it."""
        (self.work / "order.new").write_text(python)
        (self.work / "order.new").rename(self.work / "order.py")
        until = time.monotonic() + 120
        while (self.work / "order.py").exists():
            assert not self.ended, f"Blender ended before it ran: {python}\n{self.tail()}"
            assert time.monotonic() < until, f"{python} was not run\n{self.tail()}"
            time.sleep(0.02)

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-5000:]

    def finish(self, timeout: float = 30.0) -> int:
        """Wait for Blender to end by itself; returns its exit code."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"Blender did not end within {timeout:g} s\n{self.tail()}") from None
        code = self.work / "exit"
        assert code.exists(), self.tail()
        return int(code.read_text())

    def close(self) -> None:
        """End it and everything it started, whatever state it is in."""
        self._process.kill()
        self._process.wait()

    # ------------------------------------------------------------ X

    def x(self, *command: str) -> bytes:
        """Run an X program on Blender's screen; returns what it wrote."""
        (init,) = psutil.Process(self._process.pid).children()
        display = (self.work / "display").read_text().strip()
        return subprocess.run(
            ["nsenter", "--target", str(init.pid), "--mount", "--pid", "--root", f"--wd=/proc/{init.pid}/root",
             "env", f"DISPLAY=:{display}", *command],
            check=True, capture_output=True, timeout=60,
        ).stdout  # fmt: skip

    def move(self, x: float, y: float) -> None:
        """Put the mouse at a place on the screen, in pixels from its upper left corner."""
        self.x("xdotool", "mousemove", str(round(x)), str(round(y)))

    def click(self, x: float, y: float) -> None:
        """Move there, let Blender see it, and press the left button."""
        self.move(x, y)
        self.look()
        self.x("xdotool", "mousedown", "1")
        self.look()
        self.x("xdotool", "mouseup", "1")
        self.look()

    def key(self, name: str) -> None:
        self.x("xdotool", "key", name)
        self.look()

    def screenshot(self, path: Path) -> np.ndarray:
        """What is on the screen, uint8 (H, W, 3); also kept as a PNG in `path`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.x("import", "-window", "root", "png:-"))
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))

    # ------------------------------------------------------------ Blender's interface

    def find(self, button: str) -> tuple[int, int]:
        """The place on the screen of a button of the sidebar: "bpy.ops.paintover.connect()", or for a property's field
        "paintover.prompt".

        The mouse goes down the sidebar until Blender itself says that this button is below it. What it came over is
        remembered, and asked again next time.
        """
        if known := self._places.get(button):
            self.move(*known)
            if self.look()["below"] == button:
                return known
        self._places.clear()
        sidebar = self.look()["sidebar"]
        left, top, width, height = (sidebar[key] for key in ("left", "top", "width", "height"))
        for x in (round(left + width * share) for share in (0.84, 0.3)):  # the tabs take the right edge
            for y in range(top + 24, top + height, 10):
                self.move(x, y)
                below = self.look()["below"]
                self._places.setdefault(below, (x, y))
                if below == button:
                    return self._places[button]
        raise AssertionError(f"no {button} in the sidebar\n{self.tail()}")

    def press(self, button: str) -> None:
        """Click a button of the sidebar with the mouse."""
        self.click(*self.find(button))

    def type_into(self, field: str, text: str) -> None:
        """Replace the text of a field of the sidebar by way of the mouse and the keyboard."""
        self.click(*self.find(field))
        self.key("ctrl+a")
        self.x("xdotool", "type", "--delay", "60", text)
        self.key("Return")

    def open_tab(self, name: str = "Paintover") -> None:
        """Open the viewport's sidebar with N, and click through its tabs to the one of that name."""
        viewport = self.look()["viewport"]
        self.move(viewport["left"] + viewport["width"] / 2, viewport["top"] + viewport["height"] / 2)
        if not self.look()["sidebar"]:
            self.key("n")
        sidebar = self.wait_for(lambda state: state["sidebar"], "the sidebar")["sidebar"]
        x = sidebar["left"] + sidebar["width"] - 10
        for y in range(sidebar["top"] + 20, sidebar["top"] + sidebar["height"], 30):
            if self.look()["tab"] == name:
                return
            self.click(x, y)
        assert self.look()["tab"] == name, f"the sidebar has no tab {name}"


@contextlib.contextmanager
def windowed(folder: Path, addon: Path, scene: str, port: int = 1) -> Iterator[Windowed]:
    """A Blender that installs the extension `addon` and runs `scene`, a script of this folder; its server, if any, is
    at `port`."""
    script, plan = Path(__file__).with_name(scene), {"port": port, "token": TOKEN}
    window = Windowed(folder / "work", script, addon, plan)
    try:
        yield window
    finally:
        window.close()


# Headless: there is no screen at all, as on a render farm.
WITHOUT_WINDOW = f"""
cd /mnt
export {SETTINGS}
exec blender --background --python-exit-code 98 {{}}
"""


def command_line(work: Path, *arguments: str, timeout: float = 400.0) -> tuple[int, str]:
    """Run `blender --background ARGUMENTS`, as one would in a terminal; `work` becomes /mnt for it. Returns its exit
    code and what it wrote."""
    command = enter(work)
    (work / "boot.sh").write_text(WITHOUT_WINDOW.format(shlex.join(arguments)))
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
    return done.returncode, done.stdout + done.stderr
