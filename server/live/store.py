"""Keeps the stage's state on disk, so that a restart of the whole server brings the same picture back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from paintover.bridge.errors import NotStored, PaintoverError

from .. import disk
from .state import LiveState

log = logging.getLogger("paintover.live")

REST = 0.5
"""Seconds between two writes at least: a fader that moves is not written at each step."""


class Store:
    """Two files, each written whole or not at all: NAME.json with the values, and NAME-presets.json.

    Presets may be megabytes, and change seldom: they are not written again, nor made into text again, for each value.
    """

    def __init__(self, path: Path, state: LiveState) -> None:
        self.path = path
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
        return troubles + self._state.from_json(kept, now)

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

    def _snapshot(self) -> tuple[int, dict[str, Any]]:
        """What to write, taken in the loop's thread, and which in their order it is."""
        self._number += 1
        return self._number, self._state.to_json()

    def _write(self, number: int, kept: dict[str, Any]) -> None:
        with self._lock:
            if number <= self._newest:
                return  # a thread that was slow to start must not undo the last write
            # Presets first: a server that is killed in between then has lost the last moves of a fader, and no preset.
            self._put(self.presets, kept["presets"], self._preset_texts(kept["presets"]))
            self._put(self.path, kept["values"], [_text(kept["values"])])
            self._newest = number

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


def _read(path: Path, troubles: list[PaintoverError]) -> dict[str, Any]:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(kept, dict):
            raise ValueError("it holds no values")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as reason:
        aside = path.with_suffix(".damaged")
        with contextlib.suppress(OSError):
            path.replace(aside)
        words = "What was set on the stage the last time cannot be read ({}); the server starts with defaults."
        troubles.append(NotStored(words.format(reason), hint=f"The file is kept as {aside}."))
        return {}
    return kept
