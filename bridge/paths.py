"""Where Paintover keeps what belongs to the user: token, models list, job results, logs. The same on both sides."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

from .errors import TokenUnreadable

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 9699
OTHER_FOLDER = "Allow it, make room, or name another folder in the environment variable PAINTOVER_DATA."
"""The next step where the data folder cannot be written."""


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
        return token_file().read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeError) as reason:
        raise TokenUnreadable(path=token_file(), reason=reason) from reason


def make_token() -> str:
    """The token of this machine's server; made at the first call, readable by its owner only."""
    if token := read_token():
        return token
    path = token_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written whole before it gets its name: a crash, a full disk or another server's start never leaves half of one.
    part = path.with_suffix(f".{os.getpid()}")
    part.unlink(missing_ok=True)
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(24))
    part.replace(path)
    return read_token()
