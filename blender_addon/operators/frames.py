"""Work on one frame of the timeline after another: with a window in small steps, in background at one go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import bpy

from ..bridge.errors import PaintoverError
from .common import refuse

if TYPE_CHECKING:
    from bpy.types import Context


class OverFrames:
    """What an operator needs to go over frames: progress in the status bar, Esc, and back to the artist's frame."""

    verb = ""
    """What it does, for the status bar: “saves passes”."""

    def begin(self, context: Context, frames: Iterator[None], *, modal: bool) -> set[Any]:
        """For execute(). `frames` does a frame with every step, at the frame that it sets."""
        self._scene, self._frames, self._done = context.scene.name, frames, 0
        self._frame = context.scene.frame_current, context.scene.frame_subframe
        self._timer = None
        if modal and not bpy.app.background:
            self._manager = context.window_manager
            self._timer = self._manager.event_timer_add(0.01, window=context.window)
            self._manager.modal_handler_add(self)
            return {"RUNNING_MODAL"}
        while (result := self._step()) == {"RUNNING_MODAL"}:
            pass
        return result

    def modal(self, context: Context, event: bpy.types.Event) -> set[Any]:
        result = {"RUNNING_MODAL"}
        if event.type == "ESC":
            self._finish()
            self.report({"WARNING"}, f"Stopped after {self._done} frames")  # type: ignore[attr-defined]
            result = {"CANCELLED"}
        elif event.type == "TIMER":
            context.workspace.status_text_set(f"Paintover {self.verb}: {self._done} frames. Esc stops.")
            result = self._step()
        return result

    def cancel(self, context: Context) -> None:
        """Blender ends it: it quits, or another file is opened."""
        self._finish()

    def done(self, scene: bpy.types.Scene) -> None:
        """All frames are done, and the artist's is back. May raise PaintoverError."""
        raise NotImplementedError

    def explain(self, reason: OSError) -> PaintoverError:
        """In plain words."""
        raise reason

    def _step(self) -> set[Any]:
        """One more frame."""
        try:
            next(self._frames)
            self._done += 1
            return {"RUNNING_MODAL"}
        except StopIteration:
            self._finish()
        except OSError as reason:
            self._finish()
            return refuse(self, self.explain(reason))
        except PaintoverError as error:
            self._finish()
            return refuse(self, error)
        except BaseException:
            self._finish()
            raise
        try:
            self.done(bpy.data.scenes[self._scene])
        except PaintoverError as error:
            return refuse(self, error)
        return {"FINISHED"}

    def _finish(self) -> None:
        """Back to the frame where the artist was."""
        self._frames.close()  # type: ignore[attr-defined]
        if self._timer:
            self._manager.event_timer_remove(self._timer)
            bpy.context.workspace.status_text_set(None)
            self._timer = None
        scene = bpy.data.scenes.get(self._scene)
        if scene and (scene.frame_current, scene.frame_subframe) != self._frame:
            scene.frame_set(self._frame[0], subframe=self._frame[1])
