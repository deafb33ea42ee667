"""Keeps the stage's state on disk, so that a restart of the whole server brings the same picture back."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

from paintover.bridge.errors import DiskFull, NotStored, PaintoverError

from .state import LiveState

log = logging.getLogger("paintover.live")

REST = 0.5
"""Seconds between two writes at least: a fader that moves is not written at each step."""


class Store:
    """One file (data/live-PORT.json), written whole or not at all."""

    def __init__(self, path: Path, state: LiveState) -> None:
        self.path = path
        self._state = state
        self._written = ""
        self._lock = threading.Lock()
        self._number = self._newest = 0
        self._broken = False

    def load(self, now: float) -> list[PaintoverError]:
        """Bring back what was kept. Returns what could not be: a damaged file is set aside as NAME.damaged."""
        try:
            text = self.path.read_text(encoding="utf-8")
            kept = json.loads(text)
            if not isinstance(kept, dict):
                raise ValueError("it holds no values")
        except FileNotFoundError:
            return []
        except (OSError, ValueError, RecursionError) as reason:
            aside = self.path.with_suffix(".damaged")
            with contextlib.suppress(OSError):
                self.path.replace(aside)
            words = "The stage's values of the last time cannot be read ({}); the server starts with defaults."
            return [NotStored(words.format(reason), hint=f"The file is kept as {aside}.")]
        return self._state.from_json(kept, now)

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
            with contextlib.suppress(PaintoverError):
                self.save()

    async def _try(self, tell: Callable[[PaintoverError], None]) -> bool:
        try:
            await asyncio.to_thread(self._write, *self._snapshot())
        except PaintoverError as error:
            if not self._broken:
                log.warning("%s", error)
                tell(error)
            self._broken = True
            return False
        self._broken = False
        return True

    def save(self) -> None:
        """Write now. Raises DiskFull or NotStored."""
        self._write(*self._snapshot())

    def _snapshot(self) -> tuple[int, dict[str, object]]:
        """What to write, taken in the loop's thread, and which in their order it is."""
        self._number += 1
        return self._number, self._state.to_json()

    def _write(self, number: int, kept: dict[str, object]) -> None:
        with self._lock:
            if number > self._newest:  # a thread that was slow to start must not undo the last write
                self._put(kept)
                self._newest = number

    def _put(self, kept: dict[str, object]) -> None:
        text = json.dumps(kept, ensure_ascii=False, separators=(",", ":"))
        if text == self._written:
            return
        part = self.path.with_suffix(".part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with part.open("w", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                part.replace(self.path)
            except OSError:
                with contextlib.suppress(OSError):  # the disk's own trouble is what is reported
                    part.unlink(missing_ok=True)
                raise
        except OSError as reason:
            what, folder = "what is set on the stage", self.path.parent
            if reason.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull(what=what, folder=folder) from reason
            raise NotStored(what=what, reason=reason.strerror or reason, folder=folder) from reason
        self._written = text
