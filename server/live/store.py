"""Keeps the stage's state on disk, so that a restart of the whole server brings the same picture back."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from paintover.bridge.errors import NotStored, PaintoverError
from paintover.bridge.live import LIVE_BY_NAME

from .. import disk
from .state import LiveState

log = logging.getLogger("paintover.live")

LARGEST = int(LIVE_BY_NAME["output_width"].maximum or 0)
"""Pixels of a picture's longer side."""
REST = 0.5
"""Seconds between two writes at least: a fader that moves is not written at each step."""


class Store:
    """Files, each written whole or not at all: NAME.json with the values, NAME-presets.json, and NAME-frozen.png while
    Freeze holds a picture.

    Presets may be megabytes, and change seldom: they are not written again, nor made into text again, for each value.
    """

    def __init__(self, path: Path, state: LiveState, frozen: Callable[[], np.ndarray | None] = lambda: None) -> None:
        """`frozen` gives the picture that Freeze holds, uint8 (H, W, 3), which never changes."""
        self.path = path
        self.picture: np.ndarray | None = None
        """The one that was held, if Freeze is on (see `load`)."""
        self._frozen = frozen
        self._frozen_path = path.with_name(f"{path.stem}-frozen.png")
        self._png: tuple[np.ndarray, bytes] | None = None
        self.presets = path.with_name(f"{path.stem}-presets.json")
        self._state = state
        self._lock = threading.Lock()
        self._number = self._newest = 0
        self._written: dict[Path, Any] = {}
        self._texts: dict[str, tuple[object, bytes]] = {}
        """Preset -> what it is, and its JSON."""
        self._broken = False

    def load(self, now: float) -> list[PaintoverError]:
        """Bring back what was kept. Returns what could not be: a damaged file is set aside as NAME.damaged."""
        troubles: list[PaintoverError] = []
        kept = {"values": _read(self.path, troubles), "presets": _read(self.presets, troubles)}
        troubles += self._state.from_json(kept, now)
        if self._state.values["freeze"]:
            self.picture = _read_picture(self._frozen_path, troubles)
        return troubles

    async def keep(self, tell: Callable[[PaintoverError], None]) -> None:
        """Write whatever changes, until cancelled; then a last time. A disk that fails is told once, and tried on."""
        version = -1
        try:
            while True:
                if version != self._state.version:
                    version = self._state.version
                    if not await self._try(tell):
                        version = -1
                await asyncio.sleep(REST)
        finally:
            try:
                self.save()
            except PaintoverError as error:
                log.warning("%s", error)

    async def _try(self, tell: Callable[[PaintoverError], None]) -> bool:
        try:
            await self._write_in_thread()
        except PaintoverError as error:
            if not self._broken:
                log.warning("%s", error)
                tell(error)
            self._broken = True
            return False
        self._broken = False
        return True

    async def _write_in_thread(self) -> None:
        """Raises DiskFull or NotStored, whatever it was: no memory and no thread left may pass, too."""
        try:
            await asyncio.to_thread(self._write, *self._snapshot())
        except PaintoverError:
            raise
        except Exception as error:
            words = f"What is set on the stage could not be stored ({type(error).__name__}: {error})."
            raise NotStored(words, hint="It is tried again.") from error

    def save(self) -> None:
        """Write now. Raises DiskFull or NotStored."""
        self._write(*self._snapshot())

    def _snapshot(self) -> tuple[int, dict[str, Any], np.ndarray | None]:
        """What to write, taken in the loop's thread, and which in their order it is."""
        self._number += 1
        return self._number, self._state.to_json(), self._frozen()

    def _write(self, number: int, kept: dict[str, Any], frozen: np.ndarray | None) -> None:
        with self._lock:
            if number <= self._newest:
                return  # a thread that was slow to start must not undo the last write
            # Presets first: a server that is killed in between then has lost the last moves of a fader, and no preset.
            self._put(self.presets, kept["presets"], self._preset_texts(kept["presets"]))
            self._put(self.path, kept["values"], [_text(kept["values"])])
            self._put_picture(frozen)  # last: the largest, and the first that a full disk has no room for
            self._newest = number

    def _put_picture(self, frozen: np.ndarray | None) -> None:
        path = self._frozen_path
        if frozen is None:
            self._png = self._written[path] = None
            with contextlib.suppress(OSError):  # it is not shown anyway
                path.unlink(missing_ok=True)
            return
        if self._png is None or self._png[0] is not frozen:
            self._png = frozen, _png(frozen)
        if self._written.get(path) is not frozen:
            with disk.told("the picture that is frozen", path.parent):
                disk.write(path, [self._png[1]])
            self._written[path] = frozen

    def _preset_texts(self, presets: dict[str, Any]) -> list[bytes]:
        """JSON of all presets, in pieces: text is made only of those that are new."""
        before = self._texts
        self._texts = {
            name: before[name] if name in before and before[name][0] is look else (look, _text(look))
            for name, look in presets.items()
        }
        pieces = [b"%s%s:%s" % (b"," if i else b"{", _text(n), t) for i, (n, (_, t)) in enumerate(self._texts.items())]
        return [*pieces, b"}" if pieces else b"{}"]

    def _put(self, path: Path, kept: Any, pieces: Iterable[bytes]) -> None:
        if self._written.get(path) == kept:
            return
        with disk.told("what is set on the stage", path.parent):
            disk.write(path, pieces)
        self._written[path] = kept


def _text(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _png(image: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _read_picture(path: Path, troubles: list[PaintoverError]) -> np.ndarray | None:
    """uint8 (H, W, 3), or None."""
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as file:
            if max(file.size) > LARGEST:
                raise ValueError(f"it has {file.width} × {file.height} pixels")
            return np.asarray(file.convert("RGB"))
    except FileNotFoundError:
        return None
    except Exception as reason:  # noqa: BLE001 - whatever a damaged file does to its decoder
        troubles.append(_set_aside(path, f"The picture that was frozen cannot be read ({reason})"))
        return None


def _set_aside(path: Path, words: str) -> NotStored:
    aside = path.with_suffix(".damaged")
    with contextlib.suppress(OSError):
        path.replace(aside)
    return NotStored(words, hint=f"The file is kept as {aside}.")


def _read(path: Path, troubles: list[PaintoverError]) -> dict[str, Any]:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(kept, dict):
            raise ValueError("it holds no values")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as reason:
        words = "What was set on the stage the last time cannot be read ({}); the server starts with defaults."
        troubles.append(_set_aside(path, words.format(reason)))
        return {}
    return kept
