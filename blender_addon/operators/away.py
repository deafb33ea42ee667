"""Take over, resume or dismiss jobs of this file that ended, or go on, without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bpy

from ..bridge.errors import PaintoverError, UnknownJob
from ..bridge.messages import CANCELLED, DONE, ENDED, FAILED, QUEUED, RUNNING, JobSummary
from ..session import session
from ..takeover_task import TakeOverTask
from .common import needs_server, refuse, run

if TYPE_CHECKING:
    from bpy.types import Context

FLUSH = 5.0
"""Seconds for which background mode, which may end at once, waits until the message has left."""
STOPPED = (CANCELLED, FAILED)


class _AboutAJob:
    job: bpy.props.StringProperty(
        name="Job",
        description="Name of the job on the server; empty takes the newest of this scene",
        options={"SKIP_SAVE"},
    )  # type: ignore[valid-type]

    @classmethod
    def poll(cls, context: Context) -> bool:
        if not needs_server(cls):
            return False
        if not session.offers(context.scene):
            cls.poll_message_set("The server has nothing of this scene that it has not got")  # type: ignore[attr-defined]
            return False
        return True

    def _find(self, context: Context, *states: str) -> JobSummary:
        """The job that is meant, or UnknownJob."""
        for offer in session.offers(context.scene):
            if offer.job == self.job or (not self.job and (not states or offer.state in states)):
                return offer
        raise UnknownJob(
            "The server has no such job of this scene.", hint="It may have been taken over or dismissed already."
        )


class PAINTOVER_OT_take_over(_AboutAJob, bpy.types.Operator):
    """Get what the server painted for this scene while Blender was away, and put it where it belongs"""

    bl_idname = "paintover.take_over"
    bl_label = "Take Over"
    bl_options = {"REGISTER"}  # the result, when it comes, is a step of its own to undo

    def execute(self, context: Context) -> set[Any]:
        try:
            task = TakeOverTask(self._find(context, QUEUED, RUNNING, DONE), context.scene)
        except PaintoverError as error:
            return refuse(self, error)
        return run(self, task)


class PAINTOVER_OT_resume(_AboutAJob, bpy.types.Operator):
    """Go on with a job that was cancelled or failed: the views that are finished are kept"""

    bl_idname = "paintover.resume"
    bl_label = "Resume"
    bl_options = {"REGISTER"}  # the result, when it comes, is a step of its own to undo

    def execute(self, context: Context) -> set[Any]:
        try:
            task = TakeOverTask(self._find(context, *STOPPED), context.scene, resume=True)
        except PaintoverError as error:
            return refuse(self, error)
        return run(self, task)


class PAINTOVER_OT_dismiss(_AboutAJob, bpy.types.Operator):
    """Remove from the server what it keeps of this job. Nothing in this file changes"""

    bl_idname = "paintover.dismiss"
    bl_label = "Dismiss"
    bl_options = {"REGISTER"}

    def execute(self, context: Context) -> set[Any]:
        try:
            session.dismiss(self._find(context, *ENDED).job)
            if bpy.app.background and session.link.client:
                session.link.client.flush(FLUSH)
        except PaintoverError as error:
            return refuse(self, error)
        return {"FINISHED"}


CLASSES = (PAINTOVER_OT_take_over, PAINTOVER_OT_resume, PAINTOVER_OT_dismiss)
"""Resume and Dismiss are for jobs that are over; Take Over follows one that is not."""
