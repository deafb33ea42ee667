"""A shot that Blender's own render asks for, frame by frame: in that render's thread, over a connection of its own.
Frames are read and drawn in the main thread, step by step.

Blender wants frames in order of showing; a keyframe that lies ahead is evaluated by the render's own depsgraph, as
Cycles does for motion blur (RenderEngine.frame_set), and painted before those that lead up to it.
"""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import bpy
import numpy as np

from .. import main_thread
from ..bridge.client import Client
from ..bridge.errors import Cancelled, ConnectionLost, LinkError, PaintoverError, SceneError, SenderGone, ServerSilent
from ..bridge.messages import (
    CANCELLED,
    ENDED,
    Cancel,
    Failure,
    Follow,
    FrameGiven,
    FrameKept,
    FrameMissing,
    FramePainted,
    FrameWanted,
    JobState,
    Progress,
    Shot,
    Trouble,
)
from ..bridge.origin import Origin
from ..bridge.parameters import Settings
from ..bridge.shot import ShotFrame, interval_of
from ..passes.draw import Frame
from .footage import Moment
from .moments import Look, stable_ids
from .parts import Part
from .rest import Rest

PATIENCE = 120.0
"""Seconds for which a connection that was lost is made again."""
Connect = Callable[[], Client]


class EngineShot:
    """One job on the server. Its frames are asked for in order."""

    def __init__(
        self, connect: Connect, look: Look, settings: Settings, numbers: Sequence[int], origin: Origin
    ) -> None:
        """Raises LinkError, BadMessage, TooLarge."""
        self.look, self.numbers = look, tuple(numbers)
        shot = Shot(settings, self.numbers, look.width, look.height)
        self._part = Part(numbers, interval_of(settings), self._read, self._draw)
        self._painted: dict[int, np.ndarray] = {}
        self._sent: dict[int, ShotFrame] = {}
        """By place: what the server has, and asks for again when it goes on after a rest."""
        self._given = 0
        """Frames that Blender has got."""
        self._engine: Any = None
        self._depsgraph: Any = None
        self._draw_with: Callable[..., Frame] | None = None
        self.last: Moment | None = None
        """Of the frame that Blender got last."""
        self._over = False
        self._at_key = False
        """Whether the frame that was painted last is a keyframe: the server can go on from there without loss."""
        self._connect = connect
        self._client = connect()
        try:
            self._job = self._client.submit(shot, origin)
        except BaseException:
            self._client.close()
            raise
        self._rest = Rest(self._job, self._send)

    def awaits(self, number: int) -> bool:
        """Whether Blender may ask for this frame now: it lies ahead."""
        return number in self.numbers[self._given :]

    def frame(
        self,
        engine: bpy.types.RenderEngine,
        depsgraph: bpy.types.Depsgraph,
        number: int,
        draw: Callable[..., Frame],
        others: Collection[EngineShot] = (),
    ) -> tuple[np.ndarray, Moment]:
        """A painted frame, uint8 (H, W, 3), and the moment that it shows; the depsgraph is at that frame afterwards.
        Raises Cancelled and whatever is wrong.

        `others`: shots of other view layers, whose frames Blender asks for in turn. The server does one shot at a
        time, and can ask for no frame of a layer that Blender is not at: so they rest, and this one goes on to the next
        keyframe before its turn is over.
        """
        self._engine, self._depsgraph, self._draw_with = engine, depsgraph, draw
        try:
            if number not in self._painted:
                for other in others:
                    other.rest()
                while number not in self._painted or (others and not self._at_key and not self._over):
                    self._listen()
            moment = main_thread.do(lambda: self._read(number), engine.test_break)
        except BaseException:
            engine.frame_set(number, 0.0)
            raise
        finally:
            self._engine = self._depsgraph = self._draw_with = None
        image = self._painted[number]
        self._given = self.numbers.index(number) + 1
        for passed in [one for one in self._painted if self.numbers.index(one) < self._given]:
            del self._painted[passed]
        return image, moment

    def rest(self) -> None:
        """Have the server do something else, until the next frame is asked for."""
        if not self._over:
            self._rest.begin()

    def _send(self, message: Any) -> None:
        """A connection that was lost is made again by whoever listens next, and the server then says once more what it
        waits for."""
        with contextlib.suppress(ConnectionLost):
            self._client.send(message)

    def _listen(self) -> None:
        """Take the next message, or wait a moment for one."""
        if self._engine.test_break():
            raise Cancelled()
        try:
            message = self._client.receive(timeout=0.1)
        except queue.Empty:
            return
        except (ConnectionLost, ServerSilent) as error:
            self._reconnect(error)
            return
        if isinstance(message, Trouble):
            raise message.failure.error()
        if getattr(message, "job", "") != self._job:
            return
        if isinstance(message, FrameWanted):
            for place in range(message.place, min(message.place + message.count, len(self.numbers))):
                if not self._rest.resting:  # else that is from before
                    self._give(place)
        elif isinstance(message, FramePainted):
            self._painted[message.number] = message.image
            if not self._rest.resting:  # else it has stopped at an earlier frame, and goes on from there
                self._sent = {place: frame for place, frame in self._sent.items() if place > message.place}
            self._at_key = self._part.footage.places[message.place].key
            self._send(FrameKept(self._job, message.place))
        elif isinstance(message, Progress):
            self._engine.update_stats("", message.stage)
            self._engine.update_progress(message.fraction)  # of the whole shot
        elif isinstance(message, JobState) and not self._rest.takes(message) and message.state in ENDED:
            self._ended(message)

    def _ended(self, message: JobState) -> None:
        failure = message.failure.error() if message.failure else None
        if isinstance(failure, SenderGone):
            self._rest.end()
            return
        self._over = True
        if failure or message.state == CANCELLED:
            raise failure or Cancelled()

    def _give(self, place: int) -> None:
        if sent := self._sent.get(place):
            self._send(FrameGiven(self._job, place, sent))
            return
        steps, stopped = self._part.frame(place), self._engine.test_break
        try:
            while True:
                main_thread.do(lambda: next(steps), stopped)
                if stopped():
                    raise Cancelled()
        except StopIteration as done:
            self._sent[place] = done.value
            self._send(FrameGiven(self._job, place, done.value))
        except Cancelled:
            raise
        except PaintoverError as error:
            self._send(FrameMissing(self._job, place, Failure.of(error)))
            raise

    def _read(self, number: int) -> Moment:
        scene = self._depsgraph.scene
        self._engine.frame_set(number, 0.0)
        return self.look.evaluated(scene, self._depsgraph, number, stable_ids())

    def _draw(self, *arguments: Any, **options: Any) -> Frame:
        assert self._draw_with is not None
        try:
            return self._draw_with(*arguments, **options)
        except (RuntimeError, SystemError) as reason:
            raise SceneError(reason=f"the graphics card cannot draw it ({reason})") from reason

    def _reconnect(self, error: LinkError) -> None:
        """The server may have been started again: it knows the job, and what was painted comes again."""
        self._client.close()
        until = time.monotonic() + PATIENCE
        while True:
            if self._engine.test_break():
                raise Cancelled()
            if time.monotonic() > until:
                raise error
            self._engine.update_stats("", "Connection lost: connecting again")
            try:
                self._client = self._connect()
                self._client.send(Follow(self._job))
                return
            except LinkError:
                time.sleep(0.5)

    def close(self) -> None:
        """Have the server end what is not finished, and let go."""
        with contextlib.suppress(PaintoverError):
            if not self._over and self._given < len(self.numbers):
                self._client.send(Cancel(self._job))
            self._client.flush(2.0)
        self._client.close()
        self._part.footage.forget()
        self._painted.clear()
        self._sent.clear()
