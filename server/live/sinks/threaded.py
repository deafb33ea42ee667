"""A sink that another library may hold up: in a thread of its own, where it gets the newest frame when it is ready."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

import numpy as np

from . import OutputFrame

log = logging.getLogger("paintover.live")

RETRY = 2.0
"""Seconds after which a driver that failed is opened again."""


class Driver(Protocol):
    """The part that knows the library. All but `check` is called from one thread."""

    name: str

    def check(self) -> None:
        """Import what is needed. Raises SinkMissing."""

    def open(self, width: int, height: int) -> None: ...

    def show(self, image: np.ndarray) -> None:
        """uint8 (height, width, channels), as it was opened for."""

    def close(self) -> None: ...


class ThreadedSink:
    """Drives a driver. What goes wrong there is logged once, and tried again every RETRY seconds."""

    def __init__(
        self, driver: Driver, take: Callable[[OutputFrame], np.ndarray | None] = lambda frame: frame.image
    ) -> None:
        """`take` makes what the driver shows of a frame, in the sink's thread; None: nothing new."""
        self.name = driver.name
        self._take = take
        self._driver = driver
        self._frame: OutputFrame | None = None
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._size: tuple[int, int] | None = None
        self._failed = False
        self.shown = 0
        """Frames that the driver took."""

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name=f"paintover-{self.name}", daemon=True)
        self._thread.start()

    def send(self, frame: OutputFrame) -> None:
        with self._changed:
            self._frame = frame
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread:
            self._thread.join(2.0)  # a driver that hangs is left behind

    def _run(self) -> None:
        while (frame := self._next()) is not None:
            try:
                if (image := self._take(frame)) is None:
                    continue
                self._show(image)
            except Exception as error:
                if not self._failed:
                    log.error("The output %s failed; it is tried again every %.0f s", self.name, RETRY, exc_info=error)
                self._failed = True
                self._shut()
                self._wait(time.monotonic() + RETRY)
            else:
                self.shown += 1
                self._failed = False
        self._shut()

    def _next(self) -> OutputFrame | None:
        """The newest frame that was not shown yet; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._frame is not None or self._closing)
            frame, self._frame = self._frame, None
            return None if self._closing else frame

    def _wait(self, until: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closing, until - time.monotonic())

    def _show(self, image: np.ndarray) -> None:
        height, width = image.shape[:2]
        if self._size != (width, height):
            self._shut()
            self._driver.open(width, height)
            self._size = (width, height)
        self._driver.show(image)

    def _shut(self) -> None:
        if self._size is not None:
            self._size = None
            try:
                self._driver.close()
            except Exception as error:
                log.warning("The output %s did not close", self.name, exc_info=error)
