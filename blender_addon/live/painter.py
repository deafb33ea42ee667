"""The live viewport: passes of what changed go to the stage, the newest painting that comes back is shown.

One frame is being painted and one waits, no more: further passes are drawn when the stage has taken one. The session
calls `tick` on Blender's main thread, and gives it what arrives. Nothing here waits for anything.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections import deque
from typing import Any

import bpy
import numpy as np

from .. import properties
from ..bridge.errors import ConnectionLost, PaintoverError, SceneError
from ..bridge.live import LIVE_BY_NAME
from ..bridge.live_messages import (
    OFF,
    LiveEvent,
    LiveJoin,
    LiveLeave,
    LivePicture,
    LiveSet,
    LiveStatus,
    LiveTrouble,
    LiveValues,
)
from ..bridge.parameters import EdgeStyle
from ..bridge.scene import Camera
from ..link import Link
from ..passes.changes import Changes
from ..passes.live import Live
from ..passes.offstage import layer_name
from ..passes.reproject import Known
from . import events, overlay, view
from .capture import Capture
from .parameters import Parameters
from .record import Recording
from .sender import Sender
from .strokes import Strokes

IN_FLIGHT = 2
"""Frames that the stage has and has not painted: one in work, one waiting."""
_parameters: dict[int, Parameters] = {}
"""Scene's session uid -> what it and the stage agreed on, also while nothing is live."""


class LiveView:
    """What is live in this Blender. Ends with `close`, for good."""

    def __init__(self, scene: bpy.types.Scene, area: bpy.types.Area | None) -> None:
        """`area`: the viewport that is painted over. Raises NoGpu."""
        self._scene = scene.session_uid
        self._viewport = view.Viewport.of(area) if area else None
        self._live = Live(scene)
        self._changes = Changes()
        self._strokes = Strokes()
        self._parameters = _parameters.setdefault(self._scene, Parameters())
        self._rig = events.Rig()
        self._timecode = events.Timecode()
        self._sender = Sender()
        self._number = random.randrange(1 << 30)  # pictures of another source's frames are known by their numbers
        self._flying: dict[int, tuple[Known, float]] = {}
        """Frames that the stage has: what is known of them, and when their passes were begun."""
        self._shown: int | None = None
        """Number of the frame whose painting is shown."""
        self._answered = 0
        """Up to which number the stage has said something to the frames."""
        self._camera: Camera | None = None
        self._edges: EdgeStyle | None = None
        """Of the frame that was sent last."""
        self._changed = True
        self.closed = False
        self.joined = False
        self.error: PaintoverError | None = None
        """What is wrong; gone as soon as a painting arrives."""
        self.status = LiveStatus(OFF)
        self.picture: np.ndarray | None = None
        """The newest painting, uint8 (H, W, 3)."""
        self.known: Known | None = None
        """What it was painted from."""
        self.latency = 0.0
        """Seconds from beginning a frame's passes to the arrival of its painting, of the newest one."""
        self._arrivals: deque[float] = deque(maxlen=16)
        self.pictures = 0
        """How many paintings have arrived."""
        self.recording: Recording | None = None
        self._overlay = overlay.Overlay(self)

    # ------------------------------------------------------------ for the panel and the operators

    @property
    def scene(self) -> bpy.types.Scene | None:
        return next((scene for scene in bpy.data.scenes if scene.session_uid == self._scene), None)

    @property
    def rate(self) -> float:
        """Paintings a second, lately."""
        if len(self._arrivals) < 2 or time.monotonic() - self._arrivals[-1] > 2:
            return 0.0
        return (len(self._arrivals) - 1) / max(self._arrivals[-1] - self._arrivals[0], 1e-6)

    @property
    def viewport(self) -> tuple[bpy.types.Window, bpy.types.Area] | None:
        return self._viewport.find() if self._viewport else None

    @property
    def passes(self) -> Live:
        return self._live

    # ------------------------------------------------------------ for the session

    def take_up(self, link: Link) -> None:
        """There is a connection (again): take part in the stage."""
        link.send(LiveJoin(source=True, pictures=True))
        self._parameters.rejoined()
        self.joined, self._changed = True, True
        self._flying.clear()
        self._sender.forget()

    def lose(self, error: PaintoverError) -> None:
        """The connection is gone. The last painting stays, and the session connects again."""
        self.joined, self.error = False, error
        self._flying.clear()
        self._sender.forget()

    def tick(self, link: Link) -> bool:
        """Send what is to be sent; returns whether there is something new to see in the panel. Raises SceneError when
        it cannot go on: its scene or its viewport is gone."""
        scene = self.scene
        if scene is None:
            raise SceneError(reason="the scene that was live is gone", hint="Start Live again.")
        if self._viewport and not (self._viewport.find() or self._viewport.exists):
            raise SceneError(reason="the viewport that was live was closed", hint="Start Live in another one.")
        if self.recording and self.recording.error:
            self.error = self.recording.error
        if not self.joined:
            return False
        if changed := self._parameters.outgoing(scene):
            link.send(LiveSet(changed))
        try:
            self._rig.move(scene, self._parameters.values)
            self._timecode.follow(scene, self._parameters.values)
        except PaintoverError as error:
            self.error = error
        if failed := self._sender.failed():
            self.error = failed
        if bpy.app.is_job_running("RENDER"):
            return False  # the graphics card is Blender's until that is done
        brought = self._strokes.bring(scene, scene.view_layers[layer_name(scene)])
        _, anything, _ = self._changes.take()
        self._changed = self._changed or anything or brought
        return self._send(scene, link)

    def _send(self, scene: bpy.types.Scene, link: Link) -> bool:
        values = self._parameters.values
        waiting = sum(number > self._answered for number in self._flying)
        if not values or not values["play"] or waiting >= IN_FLIGHT or self._sender.busy:
            return False
        try:
            camera = self._present_camera(scene)
            edges = properties.snapshot(scene).edges if values["control_edge"] else None
            same = view.same(camera, self._camera) and edges == self._edges
            if camera is None or (same and not self._changed):
                return False
            begun = time.monotonic()
            found = self._viewport.find() if self._viewport else None
            space = found[1].spaces.active if found and scene.paintover.live_camera == "VIEWPORT" else None
            stage = self._live.read(space)
            frame = self._live.draw(stage, camera, edges=edges)
            known = Known.of(stage, frame)
            image = Capture.image(found, camera) if float(values["strength"]) < 1 and found else None
            self._changes.take()  # what was evaluated for this frame is in it
        except PaintoverError as error:
            new = str(error) != str(self.error)
            self.error, self._camera = error, None
            return new
        self._changed, self._camera, self._edges = False, camera, edges
        self._number += 1
        self._flying[self._number] = known, begun
        self._sender.send(link, self._number, frame, image)
        return False

    def _present_camera(self, scene: bpy.types.Scene) -> Camera | None:
        """What is to be painted now; None while there is nothing to see it in."""
        width, height = self.size
        if self._viewport is None or scene.paintover.live_camera == "SCENE":
            return view.scene_camera(scene, width, height)
        found = self._viewport.find()
        if found is None:
            raise SceneError(
                reason="the viewport that is live is not on the screen",
                hint="Go back to its workspace, or turn Live off and on again in another viewport.",
            )
        if found[0].scene != scene:
            return None
        space, region = found[1].spaces.active, view.canvas(found[1])
        if space.region_quadviews:
            raise SceneError(reason="a quad view cannot be live", hint="Leave it: View > Area > Toggle Quad View.")
        if region.width < 1 or region.height < 1:
            return None
        whole = view.camera_of(space.region_3d, region.width, region.height)
        return view.part_of(whole, view.frame_in(region.width, region.height, width, height), width, height)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the frames that the stage paints."""
        values = self._parameters.values
        width, height = (values.get(name, LIVE_BY_NAME[name].default) for name in ("output_width", "output_height"))
        return int(width), int(height)

    def receive(self, message: Any, link: Link) -> bool:
        """Take a message of the stage. Returns True."""
        scene = self.scene
        if isinstance(message, LivePicture):
            self._show(message)
        elif isinstance(message, LiveStatus):
            self.status = message
        elif isinstance(message, LiveTrouble):
            self.error = message.failure.error()
            # It may be that a frame is never painted: the next one is not held back.
            self._answered = self._number
            for number in sorted(self._flying)[:-IN_FLIGHT]:
                del self._flying[number]
        elif isinstance(message, LiveValues) and scene:
            if mine := self._parameters.incoming(scene, message.values):
                link.send(LiveSet(mine))
        elif isinstance(message, LiveEvent) and scene:
            try:
                events.run(message.address, self.viewport)
            except PaintoverError as error:
                self.error = error
        return True

    def _show(self, message: LivePicture) -> None:
        now = time.monotonic()
        self._arrivals.append(now)
        self.pictures += 1
        if self.recording:
            self.recording.add(message.image)
        if flown := self._flying.get(message.number):
            self.known, self._shown, self.latency = flown[0], message.number, now - flown[1]
        elif message.number != self._shown:
            return  # of another source's frame: nothing is known of it here
        # What comes again of the frame shown before is newer paint on the same geometry.
        self.picture, self.error = message.image, None
        for number in [number for number in self._flying if number <= message.number]:
            del self._flying[number]
        self._overlay.redraw()

    def undone(self) -> None:
        """Blender has replaced its data: undo, redo."""
        self._changed = True
        if scene := self.scene:
            self._parameters.restore(scene)

    def close(self, link: Link | None = None) -> None:
        """Stop being live: leave the stage, and let go of everything."""
        if self.closed:
            return
        self.closed = True
        self._overlay.close()
        self._changes.close()
        self._strokes.close()
        self._live.close()
        self._sender.close()
        if self.recording:
            self.recording.finish()
        if link and self.joined:
            with contextlib.suppress(ConnectionLost):
                link.send(LiveLeave())
        self._flying.clear()
