"""The add-on's preferences: where the server is. They live in the user's profile, never in a .blend."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import bpy

from .bridge.paths import DEFAULT_HOST, DEFAULT_PORT, token_file

if TYPE_CHECKING:
    from bpy.types import Context


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
        description="The “paintover” program that “Start Server” runs; empty looks for it on the PATH",
        subtype="FILE_PATH",
    )  # type: ignore[valid-type]

    def draw(self, context: Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        column = layout.column()
        column.prop(self, "host")
        column.prop(self, "port")
        column.prop(self, "token")
        if not self.token:
            column.label(text=f"This machine's token is read from {token_file()}", icon="INFO")
        column.separator()
        column.prop(self, "command")
        row = column.row(align=True)
        row.operator("paintover.start_server")
        row.operator("paintover.stop_server")


def get() -> PAINTOVER_AP_preferences:
    """The add-on's preferences."""
    return cast(PAINTOVER_AP_preferences, bpy.context.preferences.addons[__package__].preferences)


def register() -> None:
    bpy.utils.register_class(PAINTOVER_AP_preferences)


def unregister() -> None:
    bpy.utils.unregister_class(PAINTOVER_AP_preferences)
