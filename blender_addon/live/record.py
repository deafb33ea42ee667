"""Paintings as files: one, or every one that arrives as the frames of an image sequence that plays as fast as it was
seen."""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import bpy
import numpy as np

from .. import folders, png, strips
from ..bridge.errors import PaintoverError, RenderFailed, SceneError

WAITING = 16
"""Paintings that may wait for the disk; what comes beyond that is left out, and said."""


def folder(scene: bpy.types.Scene) -> Path:
    """Where the scene's snapshots and recordings go. Raises SceneError."""
    return folders.chosen(scene.paintover.live_folder, "recordings", "Live > Record")


def snapshot(scene: bpy.types.Scene, picture: bytes, stamp: str) -> Path:
    """Save a PNG to the scene's folder. Raises SceneError, or RenderFailed."""

    return _new(folder(scene) / f"snapshot {stamp}.png", lambda path: _write(path, picture))


def _write(path: Path, data: bytes) -> None:
    """Make a file, whole or not at all. Raises OSError; FileExistsError if there is one."""
    with path.open("xb") as file:
        try:
            file.write(data)
            file.flush()
        except OSError:
            with contextlib.suppress(OSError):  # what is wrong was said
                file.close()
            path.unlink(missing_ok=True)
            raise


def _new(path: Path, make: Callable[[Path], object]) -> Path:
    """Make a file or folder that is not there yet: what has this name, of the same second or of another Blender, is
    kept, and the new one gets a number. Raises RenderFailed."""
    name = path.stem
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for count in itertools.count(2):
            with contextlib.suppress(FileExistsError):
                make(path)
                break
            path = path.with_name(f"{name} {count}{path.suffix}")
    except OSError as reason:
        words = f"{path} cannot be made ({reason.strerror})."
        raise RenderFailed(words, hint="Choose another folder.") from reason
    return path


class Recording:
    """Writes an image sequence in a thread.

    A frame's number is the time that has passed, in frames of the scene's rate; while nothing newer came, the one
    before is written again. So the sequence has no gaps, and plays at the speed at which it was seen.
    """

    last: ClassVar[Recording | None] = None
    """The one that ended last in this Blender, by whatever."""

    def __init__(self, scene: bpy.types.Scene) -> None:
        """Raises SceneError, or RenderFailed if the folder cannot be made."""
        self.path = _new(folder(scene) / time.strftime("live %Y-%m-%d %H-%M-%S"), Path.mkdir)
        self.rate = scene.render.fps / scene.render.fps_base
        self.first_frame = scene.frame_current
        """Of the scene when the recording began."""
        self.frames = 0
        """Files that are written."""
        self.left_out = 0
        self.error: PaintoverError | None = None
        self._queue: queue.Queue[tuple[float, np.ndarray | None]] = queue.Queue(WAITING)
        """What came when; None is the end."""
        self._thread = threading.Thread(target=self._run, name="paintover-record", daemon=True)
        self._thread.start()

    def add(self, image: np.ndarray) -> None:
        """Take a painting, uint8 (H, W, 3). Returns at once."""
        try:
            self._queue.put_nowait((time.monotonic(), image))
        except queue.Full:
            self.left_out += 1

    def finish(self) -> None:
        """Write what is waiting, and end."""
        self._queue.put((time.monotonic(), None))
        self._thread.join()
        Recording.last = self

    def files(self) -> list[str]:
        """Names of the files, in their order."""
        return [_name(number) for number in range(1, self.frames + 1)]

    def _run(self) -> None:
        data = b""
        begun = 0.0
        while True:
            try:
                moment, image = self._queue.get(timeout=0.05)
            except queue.Empty:
                if data:  # as it goes, so that a long hold leaves nothing to do at the end
                    self._write(data, int((time.monotonic() - begun) * self.rate))
                continue
            begun = begun or moment
            if data:  # up to this moment the one before was seen
                self._write(data, int((moment - begun) * self.rate))
            if image is None:
                break
            try:
                data = png.encode(image)
            except Exception as error:  # noqa: BLE001 - whoever ends the recording waits for this thread
                words = f"A painting of the recording cannot be saved ({type(error).__name__}: {error})."
                self.error = self.error or RenderFailed(words)
        if data:
            self._write(data, self.frames + 1)

    def _write(self, data: bytes, until: int) -> None:
        """Write the frame as often as it was seen."""
        while self.frames < until and self.error is None:
            try:
                _write(self.path / _name(self.frames + 1), data)
            except OSError as reason:
                self.error = RenderFailed(
                    f"The recording in {self.path} cannot be written ({reason.strerror}).",
                    hint="Free some space or choose another folder, then record again.",
                )
                return
            self.frames += 1


def _name(number: int) -> str:
    return f"{number:05}.png"


def place(scene: bpy.types.Scene, path: Path, files: list[str], frame: int) -> str:
    """Put an image sequence into the scene's sequencer, on the first free channel; returns the strip's name. Raises
    SceneError if there is nothing to put there."""
    if not files:
        raise SceneError(reason="nothing was recorded", hint="Record while paintings arrive.")
    if not (path / files[0]).is_file():
        raise SceneError(reason=f"the recording is no longer in {path}", hint="Put it back, or record again.")
    return strips.lay(scene, path.name, path, files, frame)
