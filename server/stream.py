"""The stream's loop in the worker: it paints one frame after the other, each from the newest that has come.

It paces itself. Nothing is asked for frame by frame, so a change waits for the frame that is being painted and for
nothing else; where the next frame would be the same as the last, it waits for a message.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from paintover.bridge.cores import core, keep_off
from paintover.bridge.live_messages import ERROR

from .engine import Engine, Stream, failure_of
from .worker_messages import StreamControl, StreamPicture, StreamSettings, StreamState


class StreamLoop:
    """One stage's frames. `hear` what comes, and `paint` as soon as `patience` is 0."""

    def __init__(self, engine: Engine, send: Callable[[Any], None], listen: Callable[[], None]) -> None:
        """`listen` has this loop hear what has come up to now."""
        self._engine = engine
        self._send = send
        self._listen = listen
        self._stream: Stream | None = None
        self._control: StreamControl | None = None
        self._settings: StreamSettings | None = None
        self._used: tuple[StreamControl | None, StreamSettings | None] = None, None
        """What the last frame was painted from."""
        self._failed = False

    def hear(self, message: Any) -> bool:
        """Keep a message for the next frame, if it is for the stream: returns whether it was."""
        if isinstance(message, StreamControl):
            self._control = message
        elif isinstance(message, StreamSettings):
            self._settings = message
        else:
            return False
        return True

    @property
    def patience(self) -> float | None:
        """Seconds for which there is nothing to paint unless a message comes; None: any number of them."""
        if self._settings is None or self._settings.settings.freeze or not self._settings.settings.play:
            return None
        control, used = self._used
        if self._control is not control or self._settings is not used:
            return 0.0
        return None if self._stream is None or self._failed else self._stream.patience

    def paint(self) -> None:
        """Paint a frame and send it. What goes wrong is said, and tried again as soon as something changes."""
        assert self._settings is not None
        control, settings = self._used = self._control, self._settings
        if control:
            keep_off(control.core, self._engine.threads)
        try:
            if self._stream is None:
                self._stream = self._engine.stream(self._send)
            frame = self._stream.frame(control, settings, self._newest)
        except Exception as error:  # noqa: BLE001 - whatever a frame does, the worker lives on and says so
            self._failed = True
            failure = failure_of(error)
            self._send(StreamState(ERROR, failure.message, failure=failure))
            return
        self._failed = False
        if frame is not None:
            of_control = frame.control if frame.control is not None else control.number if control else -1
            of_settings = settings.number if frame.settings is None else frame.settings
            self._send(StreamPicture(of_control, of_settings, frame.image, frame.seed, frame.seconds, core()))

    def _newest(self) -> StreamSettings:
        """The settings of now, which the frame that is being painted is to show."""
        self._listen()
        assert self._settings is not None
        self._used = self._used[0], self._settings
        return self._settings
