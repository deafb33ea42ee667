"""What is there: where the environment lives, what it was made from, and whether it is whole."""

from __future__ import annotations

import contextlib
import enum
import hashlib
import json
import shutil
import sys
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..bridge import VERSION
from ..bridge.paths import data_folder

SCRIPTS, SUFFIX = ("Scripts", ".exe") if sys.platform == "win32" else ("bin", "")
STAGES = ("environment", "torch", "server", "check")
"""What a set-up does, in this order; each is noted in the record when it is done."""


def folder() -> Path:
    """All that a set-up makes, but its log."""
    return data_folder() / "server"


def environment() -> Path:
    return folder() / "environment"


def log_file() -> Path:
    return data_folder() / "server-setup.log"


def environment_python() -> Path:
    return environment() / SCRIPTS / f"python{SUFFIX}"


def program() -> str | None:
    """The `paintover` program of a finished environment."""
    path = environment() / SCRIPTS / f"paintover{SUFFIX}"
    record = read()
    return str(path) if record and record.finished and path.exists() else None


@dataclass
class Record:
    """What an environment was made from and how far it is."""

    version: str = ""
    wheel: str = ""
    """Identity of the server's wheel (see `identity`)."""
    python: str = ""
    python_version: str = ""
    torch: str = ""
    build: str = ""
    build_label: str = ""
    device: str = ""
    """What it paints on, as its own check found."""
    notes: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        return set(STAGES) <= set(self.done)

    def write(self) -> None:
        """Keep it: whole or not at all."""
        target = folder() / "record.json"
        part = target.with_suffix(".part")
        part.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
        part.replace(target)


def read() -> Record | None:
    """The record of the environment that is there, or None."""
    try:
        values = json.loads((folder() / "record.json").read_text(encoding="utf-8"))
        return Record(**values)
    except (OSError, ValueError, TypeError):
        return None


def drop() -> None:
    """Delete the environment. The record first: cut short, this must not leave half an environment that is said to be
    whole."""
    (folder() / "record.json").unlink(missing_ok=True)
    delete(environment())


def delete(folder: Path) -> None:
    """Delete a folder, whether it is there or not."""
    if folder.exists():
        shutil.rmtree(folder)


class State(enum.Enum):
    ABSENT = "Not set up"
    UNFINISHED = "Set-up is not finished"
    BROKEN = "Broken: the Python that it was made from is gone"
    OUTDATED = "Made by another version of this extension"
    READY = "Ready"


def state(wheel: str) -> State:
    """How things stand for an extension that carries the wheel of this identity. Reads two small files."""
    record = read()
    if record is None:
        return State.UNFINISHED if environment().exists() else State.ABSENT
    if not record.finished:
        return State.UNFINISHED
    if not _has_base():
        return State.BROKEN
    return State.READY if record.wheel == wheel else State.OUTDATED


def _has_base() -> bool:
    """Whether the interpreter that the environment refers to still exists: Blender's own goes with that Blender."""
    with contextlib.suppress(OSError):
        for line in (environment() / "pyvenv.cfg").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition("=")
            if name.strip() == "home":
                return Path(value.strip()).exists() and environment_python().exists()
    return False


def wheel_in(package: Path) -> Path | None:
    """The server's wheel in the extension's package folder; a tree that was staged for development has none."""
    return next(iter(sorted(package.glob("*.whl"))), None)


def identity(wheel: Path) -> str:
    """What tells one wheel from another: its version and the hashes that it lists of its files."""
    with zipfile.ZipFile(wheel) as archive:
        listed = next(name for name in archive.namelist() if name.endswith(".dist-info/RECORD"))
        return f"{VERSION}-{hashlib.sha256(archive.read(listed)).hexdigest()[:16]}"
