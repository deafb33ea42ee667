"""Finds a Python that the server's environment can be made from."""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..bridge.errors import NoPython, PythonUnusable
from .processes import ask

OLDEST, NEWEST = (3, 11), (3, 14)
"""What the server runs on. PyTorch has no builds for interpreters that are newer than it."""

PREFERRED = ("python3.13", "python3.12", "python3.11", "python3.14", "python3", "python")

PLACES = {
    "linux": ("~/.pyenv/versions/3.1[1-4].*/bin/python", "~/.local/share/uv/python/cpython-3.1[1-4]*/bin/python3"),
    "darwin": (  # a Blender that was started from the Dock has a PATH without any of these
        "/Library/Frameworks/Python.framework/Versions/3.1[1-4]/bin/python3",
        "/opt/homebrew/bin/python3.1[1-4]",
        "~/.pyenv/versions/3.1[1-4].*/bin/python",
    ),
    "win32": ("~/AppData/Local/Programs/Python/Python31[1-4]/python.exe",),
}
"""Where interpreters are that the PATH may not lead to."""

HINTS = {
    "linux": "Install Python with its venv module (Debian, Ubuntu: sudo apt install python3-venv), or name another "
    "Python 3.11 to 3.14 in the preferences, then press the button again.",
    "darwin": "Install Python 3.13 from python.org, or name another Python 3.11 to 3.14 in the preferences, then press "
    "the button again.",
    "win32": "Install Python 3.13 from python.org or the Microsoft Store, or name another Python 3.11 to 3.14 in the "
    "preferences, then press the button again.",
}

PROBE = """
import json, platform, struct, sys, sysconfig
missing = []
for name in ("venv", "ensurepip"):
    try:
        __import__(name)
    except ImportError:
        missing.append(name)
print(json.dumps({
    "version": list(sys.version_info[:3]), "path": sys.executable, "bits": struct.calcsize("P") * 8, "missing": missing,
    "machine": platform.machine(), "threads": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
}))
"""


@dataclass(frozen=True)
class Python:
    """An interpreter that will do."""

    path: str
    version: str


def examine(path: str) -> Python:
    """Ask an interpreter what it is. Raises PythonUnusable, which says why it will not do."""
    answer = ask([path, "-I", "-c", PROBE])
    try:
        facts = json.loads(answer or "")
        version = ".".join(map(str, facts["version"]))
        if problem := _problem(facts, version):
            raise PythonUnusable(path=path, reason=problem, hint=HINTS.get(sys.platform))
        return Python(facts["path"], version)
    except (ValueError, KeyError, TypeError) as reason:
        raise PythonUnusable(path=path, reason="it does not run", hint=HINTS.get(sys.platform)) from reason


def _problem(facts: dict[str, object], version: str, platform: str = sys.platform) -> str:
    """What is wrong with an interpreter, in words, or an empty text."""
    number = tuple(facts["version"][:2])  # type: ignore[index]
    if not OLDEST <= number <= NEWEST:
        return f"it is Python {version}; the server needs 3.{OLDEST[1]} to 3.{NEWEST[1]}"
    if facts["missing"]:
        return f"Python {version} lacks {' and '.join(facts['missing'])}"  # type: ignore[arg-type]
    if facts["bits"] != 64:
        return "it is a 32-bit Python"
    if facts["threads"]:
        return "it is a free-threaded build, for which packages are missing"
    if platform == "darwin" and facts["machine"] == "x86_64":
        return "it is an Intel build; PyTorch exists for Apple silicon alone"
    return ""


def launcher(answer: str | None) -> list[str]:
    """The interpreters in what Windows' launcher says to `py -0p`, newest first as it lists them."""
    return re.findall(r"[A-Za-z]:\\[^\r\n]*?python[\d.]*\.exe", answer or "")


def candidates(own: str = sys.executable, platform: str = sys.platform) -> Iterator[str]:
    """Paths of interpreters to try, best first. The last is the one that Blender ships: an environment made from it
    breaks when that Blender is removed."""
    for name in PREFERRED:
        if found := shutil.which(name):
            yield found
    if platform == "win32":
        yield from launcher(ask(["py", "-0p"]))
    for pattern in PLACES.get(platform, ()):
        yield from sorted(glob.glob(os.path.expanduser(pattern)), reverse=True)
    if Path(own).name.lower().startswith("python"):  # in some builds it is Blender itself
        yield own


def find(
    named: str = "",
    paths: Callable[[], Iterable[str]] = candidates,
    tell: Callable[[str], None] = lambda line: None,
) -> Python:
    """The interpreter to use: `named` and no other, or the first of `paths()` that will do; `tell` hears why others
    will not. Raises PythonUnusable for `named`, or NoPython with all the reasons."""
    if named:
        return examine(named)
    seen: set[str] = set()
    reasons: list[str] = []
    for path in paths():
        if path in seen:
            continue
        seen.add(path)
        try:
            return examine(path)
        except PythonUnusable as error:
            tell(error.message)
            reasons.append(error.message)
    raise NoPython(reason=" ".join(reasons[:3]) or "none is installed", hint=HINTS.get(sys.platform))
