"""Makes messages of frames in a thread: halves are made of floats, values are checked, and Blender goes on."""

from __future__ import annotations

import queue
import threading

import numpy as np

from ..bridge.errors import ConnectionLost, PaintoverError, RenderFailed
from ..bridge.live_messages import LiveFrame
from ..link import Link
from ..passes.assemble import assemble
from ..passes.draw import Frame

Work = tuple[Link, int, Frame, "np.ndarray | None"]


class Sender:
    """One frame at a time. Only the thread sends frames; it touches no bpy."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[tuple[int, Work] | None] = queue.SimpleQueue()
        self._errors: queue.SimpleQueue[PaintoverError] = queue.SimpleQueue()
        self._waiting = 0
        self._done = 0
        self._round = 0
        self._thread = threading.Thread(target=self._run, name="paintover-live", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether a frame has not been sent yet."""
        return self._waiting != self._done

    def send(self, link: Link, number: int, frame: Frame, image: np.ndarray | None) -> None:
        """Have a frame sent."""
        self._waiting += 1
        self._work.put((self._round, (link, number, frame, image)))

    def forget(self) -> None:
        """What has not left yet is for a connection that is gone."""
        self._round += 1

    def failed(self) -> PaintoverError | None:
        """An error that has happened meanwhile."""
        try:
            return self._errors.get_nowait()
        except queue.Empty:
            return None

    def close(self) -> None:
        """End the thread, after the frame that it is at."""
        self._round += 1
        self._work.put(None)
        self._thread.join(5)

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            asked, work = item
            try:
                if asked == self._round:
                    self._send(asked, work)
            except ConnectionLost:
                pass  # whoever polls the link is told
            except PaintoverError as error:
                self._errors.put(error)
            except Exception as error:  # noqa: BLE001 - a thread that ends would stop the stage without a word
                self._errors.put(RenderFailed(reason=f"{type(error).__name__}: {error}"))
            self._done += 1

    def _send(self, asked: int, work: Work) -> None:
        link, number, frame, image = work
        passes = assemble(frame.camera, frame.depth, frame.normal, frame.object_id, frame.edge, frame.names)
        if asked == self._round:
            link.send(LiveFrame(number, passes, image))
