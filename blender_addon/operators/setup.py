"""Set up the server on this machine: make, update, repair and remove its Python environment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy

from .. import preferences, server_process
from ..environment import record
from ..environment.installation import Installation, Removal
from ..environment.work import Work
from ..session import session
from .common import go_on, tell

if TYPE_CHECKING:
    from bpy.types import Context

    from ..bridge.errors import PaintoverError


def possible(cls: Any, *, online: bool) -> bool:
    """For poll(): whether the environment may be changed now, and why not."""
    if session.setting_up:
        cls.poll_message_set("It is being set up already")
    elif server_process.running():
        cls.poll_message_set("Stop the server first")
    elif server_process.stopping():
        cls.poll_message_set("The server is still stopping")
    elif online and not bpy.app.online_access:
        cls.poll_message_set(
            "It downloads Python packages: allow it with Preferences > System > Network > Allow Online Access"
        )
    elif online and not preferences.wheel_identity():
        cls.poll_message_set("This build of the extension carries no server: install the extension from its zip")
    else:
        return True
    return False


def run(operator: bpy.types.Operator, work: Work) -> set[Any]:
    """Start work on the environment."""

    def wait() -> PaintoverError | None:
        while not tell(work):
            work.poll(wait=0.2)
        return work.error

    session.error, session.setup = None, work
    work.start()
    return go_on(operator, wait)


class PAINTOVER_OT_setup_server(bpy.types.Operator):
    """Download PyTorch and what else the server needs into a folder of its own, or go on with it. Blender stays usable
    meanwhile"""

    bl_idname = "paintover.setup_server"
    bl_label = "Set Up Server"
    bl_options = {"REGISTER"}

    again: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="From Scratch", description="Delete the environment that is there and make it anew", options={"SKIP_SAVE"}
    )

    @classmethod
    def poll(cls, context: Context) -> bool:
        return possible(cls, online=True)

    def execute(self, context: Context) -> set[Any]:
        chosen = preferences.get()
        ready = record.state(preferences.wheel_identity()) is record.State.READY
        if ready and not self.again and not preferences.wants_another_build():
            self.report({"INFO"}, "The server is set up already; Repair makes it anew")
            return {"FINISHED"}
        python = bpy.path.abspath(chosen.python) if chosen.python else ""
        work = Installation(preferences.PACKAGE, python=python, wanted=chosen.build, again=self.again)
        return run(self, work)


class PAINTOVER_OT_remove_server(bpy.types.Operator):
    """Delete the server that was set up here. Models, results and the token stay"""

    bl_idname = "paintover.remove_server"
    bl_label = "Remove Server"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        if not record.folder().exists():
            cls.poll_message_set("There is none")
            return False
        return possible(cls, online=False)

    def invoke(self, context: Context, event: bpy.types.Event) -> set[Any]:
        return context.window_manager.invoke_confirm(self, event)

    def execute(self, context: Context) -> set[Any]:
        return run(self, Removal())


class PAINTOVER_OT_cancel_setup(bpy.types.Operator):
    """Stop setting up. What has been downloaded is kept: the next time it goes on from there"""

    bl_idname = "paintover.cancel_setup"
    bl_label = "Cancel"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        return session.setting_up

    def execute(self, context: Context) -> set[Any]:
        if session.setup:
            session.setup.cancel()
        return {"FINISHED"}


class PAINTOVER_OT_open_setup_log(bpy.types.Operator):
    """Open the whole log of setting up the server"""

    bl_idname = "paintover.open_setup_log"
    bl_label = "Open Log"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        return record.log_file().exists()

    def execute(self, context: Context) -> set[Any]:
        return bpy.ops.wm.path_open(filepath=str(Path(record.log_file())))


CLASSES = (
    PAINTOVER_OT_setup_server,
    PAINTOVER_OT_remove_server,
    PAINTOVER_OT_cancel_setup,
    PAINTOVER_OT_open_setup_log,
)
