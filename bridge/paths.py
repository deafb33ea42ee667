"""Where Paintover keeps what belongs to the user: token, models list, job results, logs. The same on both sides."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from pathlib import Path

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 9699


def data_folder() -> Path:
    """The user's data folder for Paintover (PAINTOVER_DATA overrides it). It may not exist yet."""
    override = os.environ.get("PAINTOVER_DATA")
    if override:
        return Path(override)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "Paintover"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "Paintover"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "paintover"


def token_file() -> Path:
    return data_folder() / "token"


def read_token() -> str:
    """The token of this machine's server, or an empty text where none was made yet."""
    try:
        return token_file().read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""


def make_token() -> str:
    """The token of this machine's server; made at the first call, readable by its owner only."""
    if token := read_token():
        return token
    path = token_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    token = secrets.token_urlsafe(24)
    # Two servers may start at once: whoever creates the file first decides.
    with (
        contextlib.suppress(FileExistsError),
        open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file,
    ):
        file.write(token)
    return read_token()
