"""The add-on's preferences: where the server is, and setting one up. They live in the user's profile, never in a
.blend."""

from __future__ import annotations

import functools
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import bpy

from . import server_process
from .bridge.paths import DEFAULT_HOST, DEFAULT_PORT, token_file
from .environment import record
from .environment.builds import DOWNLOADS, WANTED
from .session import session

if TYPE_CHECKING:
    from bpy.types import Context

    from .environment.work import Work

PACKAGE = Path(__file__).parent / "server_package"
LOG_LINES = 8
"""Lines of a running set-up that are shown."""
BUILDS = tuple((name, *words) for name, words in WANTED.items())


class PAINTOVER_AP_preferences(bpy.types.AddonPreferences):
    bl_idname = __package__

    host: bpy.props.StringProperty(name="Host", description="Address of the Paintover server", default=DEFAULT_HOST)  # type: ignore[valid-type]
    port: bpy.props.IntProperty(
        name="Port", description="Port of the Paintover server", default=DEFAULT_PORT, min=1, max=65535
    )  # type: ignore[valid-type]
    token: bpy.props.StringProperty(
        name="Token",
        description="Secret of a server on another machine; leave it empty for the one on this machine",
        subtype="PASSWORD",
    )  # type: ignore[valid-type]
    command: bpy.props.StringProperty(
        name="Server Command",
        description="The “paintover” program that “Start Server” runs; empty takes the one that was set up here, or "
        "else looks for it on the PATH",
        subtype="FILE_PATH",
    )  # type: ignore[valid-type]
    python: bpy.props.StringProperty(
        name="Python",
        description="The Python 3.11 to 3.14 that the server is set up with; empty finds one by itself",
        subtype="FILE_PATH",
    )  # type: ignore[valid-type]
    build: bpy.props.EnumProperty(
        name="Build of PyTorch", description="Which graphics card PyTorch should use", items=BUILDS, default="AUTO"
    )  # type: ignore[valid-type]

    def draw(self, context: Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        draw_setup(layout, self)
        box = layout.box()
        box.label(text="Connection")
        column = box.column()
        column.prop(self, "host")
        column.prop(self, "port")
        column.prop(self, "token")
        if not self.token:
            column.label(text=f"This machine's token is read from {token_file()}", icon="INFO")
        column.prop(self, "command")


def draw_setup(layout: Any, preferences: PAINTOVER_AP_preferences) -> None:
    """The server on this machine: how things stand, and what can be done about it."""
    box = layout.box()
    state = record.state(wheel_identity())
    known = record.read()
    box.label(text=f"Server on this machine: {state.value.lower()}", icon=_icon(state))
    if known and known.finished:
        made = f"Paintover {known.version}, Python {known.python_version}, PyTorch for {known.build_label}"
        box.label(text=f"{made}; it paints on: {known.device}", icon="BLANK1")
        for note in known.notes:
            box.label(text=note, icon="INFO")
    work = session.setup
    if work and not work.ended:
        draw_work(box, work)
        return
    if error := session.complaint:
        lines = box.column(align=True)
        lines.scale_y = 0.8
        for number, line in enumerate(textwrap.wrap(str(error), 100)):
            lines.label(text=line, icon="ERROR" if number == 0 else "BLANK1")
    column = box.column()
    column.prop(preferences, "build")
    column.prop(preferences, "python")
    if state is record.State.ABSENT:
        text = f"One press downloads PyTorch and what else the server needs: {DOWNLOADS}, by the graphics card"
        box.label(text=text, icon="INFO")
    if state is not record.State.READY and not bpy.app.online_access:
        box.label(text="System > Network > Allow Online Access permits that", icon="ERROR")
    row = box.row(align=True)
    if state is not record.State.READY or wants_another_build():
        row.operator("paintover.setup_server", text=BUTTONS[state], icon="IMPORT")
    else:
        row.operator("paintover.start_server", icon="PLAY")
        row.operator("paintover.stop_server", icon="SNAP_FACE")
    if state is not record.State.ABSENT:
        row = box.row(align=True)
        row.operator("paintover.setup_server", text="Repair", icon="FILE_REFRESH").again = True
        row.operator("paintover.remove_server", icon="TRASH")
        row.operator("paintover.open_setup_log", icon="TEXT")
    elif server_process.program(preferences.command):
        row = box.row(align=True)
        row.operator("paintover.start_server", icon="PLAY")
        row.operator("paintover.stop_server", icon="SNAP_FACE")


BUTTONS = {
    record.State.ABSENT: "Set Up Server",
    record.State.UNFINISHED: "Go On Setting Up",
    record.State.BROKEN: "Repair",
    record.State.OUTDATED: "Update Server",
    record.State.READY: "Install the Other Build",
}


def draw_work(layout: Any, work: Work) -> None:
    """A set-up that is under way: stage, progress, the newest lines of its log, and a way to stop it."""
    row = layout.row(align=True)
    row.progress(factor=work.fraction, text=work.stage)
    row.operator("paintover.cancel_setup", text="", icon="X")
    column = layout.column(align=True)
    column.scale_y = 0.7
    for line in list(work.lines)[-LOG_LINES:]:
        column.label(text=line[:140])
    layout.operator("paintover.open_setup_log", icon="TEXT")


def _icon(state: record.State) -> str:
    if state is record.State.READY:
        return "CHECKMARK"
    return "DOT" if state is record.State.ABSENT else "ERROR"


@functools.cache
def wheel_identity() -> str:
    """Identity of the server's wheel that this extension carries, or an empty text: a staged tree has none."""
    wheel = record.wheel_in(PACKAGE)
    return record.identity(wheel) if wheel else ""


def wants_another_build() -> bool:
    """Whether the user has chosen a build by name and another one is installed."""
    known, wanted = record.read(), get().build
    return bool(known and known.finished and wanted != "AUTO" and not known.build.startswith(wanted.lower()))


def get() -> PAINTOVER_AP_preferences:
    """The add-on's preferences."""
    return cast(PAINTOVER_AP_preferences, bpy.context.preferences.addons[__package__].preferences)


def register() -> None:
    bpy.utils.register_class(PAINTOVER_AP_preferences)


def unregister() -> None:
    bpy.utils.unregister_class(PAINTOVER_AP_preferences)
