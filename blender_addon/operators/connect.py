"""Connect, disconnect, start and stop the server, cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bpy

from .. import preferences, pump, server_process
from ..bridge.errors import PaintoverError, ServerNotRunning
from ..bridge.paths import DEFAULT_HOST
from ..link import LinkState
from ..session import session
from .common import go_on, refuse

if TYPE_CHECKING:
    from bpy.types import Context

TIMEOUT = 30.0
"""Seconds for which background mode waits for a connection."""


class PAINTOVER_OT_connect(bpy.types.Operator):
    """Connect to the Paintover server that the preferences name"""

    bl_idname = "paintover.connect"
    bl_label = "Connect"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        if session.link.state is LinkState.CONNECTING:
            cls.poll_message_set("Connecting already")
            return False
        return True

    def execute(self, context: Context) -> set[Any]:
        chosen = preferences.get()
        session.connect(chosen.host, chosen.port, chosen.token or None)

        def wait() -> PaintoverError | None:
            try:
                session.wait(lambda: session.link.state is LinkState.OFFLINE or session.jobs is not None, TIMEOUT)
            except TimeoutError:
                return ServerNotRunning(host=chosen.host, port=chosen.port)
            return session.error

        return go_on(self, wait)


class PAINTOVER_OT_disconnect(bpy.types.Operator):
    """Disconnect from the server; jobs that run there go on"""

    bl_idname = "paintover.disconnect"
    bl_label = "Disconnect"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        return session.link.state is not LinkState.OFFLINE

    def execute(self, context: Context) -> set[Any]:
        session.disconnect()
        return {"FINISHED"}


class PAINTOVER_OT_start_server(bpy.types.Operator):
    """Start a Paintover server on this machine and connect to it. It ends with Blender, unless others use it or a job
    still runs"""

    bl_idname = "paintover.start_server"
    bl_label = "Start Server"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        if server_process.running():
            cls.poll_message_set("It runs already")
            return False
        if server_process.stopping():
            cls.poll_message_set("The one that was stopped has not ended yet")
            return False
        if session.setting_up:
            cls.poll_message_set("The server is being set up")
            return False
        return True

    def execute(self, context: Context) -> set[Any]:
        chosen = preferences.get()
        try:
            server_process.start(bpy.path.abspath(chosen.command), chosen.port)
        except PaintoverError as error:
            return refuse(self, error)
        # Host and token of the preferences may be those of another machine; this one's token is in its file.
        session.await_server(DEFAULT_HOST, chosen.port, None)

        def wait() -> PaintoverError | None:
            session.wait(lambda: not session.awaited and session.link.state is not LinkState.CONNECTING)
            return session.error

        return go_on(self, wait)


class PAINTOVER_OT_stop_server(bpy.types.Operator):
    """Stop the server that this Blender started"""

    bl_idname = "paintover.stop_server"
    bl_label = "Stop Server"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        if not server_process.running():
            cls.poll_message_set("This Blender started no server")
            return False
        return True

    def execute(self, context: Context) -> set[Any]:
        session.disconnect()
        server_process.stop(wait=bpy.app.background)
        pump.start()  # its end is noticed there
        return {"FINISHED"}


class PAINTOVER_OT_cancel(bpy.types.Operator):
    """Stop painting. Objects whose texture has arrived keep it; everything else stays as it was"""

    bl_idname = "paintover.cancel"
    bl_label = "Cancel"
    bl_options = {"REGISTER"}

    job: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Job", description="Name of the job to stop; empty stops all", options={"SKIP_SAVE"}
    )

    @classmethod
    def poll(cls, context: Context) -> bool:
        if not session.active:
            cls.poll_message_set("Nothing is being painted")
            return False
        return True

    def execute(self, context: Context) -> set[Any]:
        try:
            session.cancel(self.job)
        except PaintoverError as error:
            return refuse(self, error)
        return {"FINISHED"}


class PAINTOVER_OT_hide_error(bpy.types.Operator):
    """Take this message away"""

    bl_idname = "paintover.hide_error"
    bl_label = "Hide"
    bl_options = {"INTERNAL"}

    def execute(self, context: Context) -> set[Any]:
        session.hide_error()
        return {"FINISHED"}


CLASSES = (
    PAINTOVER_OT_connect,
    PAINTOVER_OT_disconnect,
    PAINTOVER_OT_start_server,
    PAINTOVER_OT_stop_server,
    PAINTOVER_OT_cancel,
    PAINTOVER_OT_hide_error,
)
