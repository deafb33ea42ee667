"""Finding a Python that the server's environment can be made with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from paintover.bridge.errors import NoPython, PythonUnusable
from paintover.environment import pythons

from .interpreters import interpreter

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(os.name != "posix", reason="the stand-in interpreters are shell scripts"),
]


def test_the_first_that_will_do(tmp_path: Path) -> None:
    broken = tmp_path / "shim"
    broken.write_text("#!/bin/sh\nexit 127\n")
    broken.chmod(0o755)
    paths = [
        str(tmp_path / "missing"),
        str(broken),
        interpreter(tmp_path / "old", version=[3, 10, 1]),
        interpreter(tmp_path / "bare", missing=["ensurepip"]),
        interpreter(tmp_path / "good"),
        interpreter(tmp_path / "later"),
    ]
    told: list[str] = []
    found = pythons.find("", lambda: paths, told.append)
    assert (Path(found.path).name, found.version) == ("good", "3.12.4")
    assert len(told) == 4
    assert "3.10.1" in told[2]
    assert "lacks ensurepip" in told[3]
    with pytest.raises(NoPython) as none:
        pythons.find("", lambda: paths[:4])
    assert "does not run" in none.value.message
    assert "python3-venv" in none.value.hint
    with pytest.raises(PythonUnusable) as named:
        pythons.find(paths[2], lambda: paths)
    assert "3.10.1" in named.value.message


@pytest.mark.parametrize(
    ("platform", "facts", "words"),
    [
        ("linux", {}, ""),
        ("linux", {"version": [3, 15, 0]}, "3.15.0"),
        ("win32", {"bits": 32}, "32-bit"),
        ("win32", {"threads": True}, "free-threaded"),
        ("darwin", {}, "Intel"),
        ("darwin", {"machine": "arm64"}, ""),
    ],
)
def test_what_will_not_do(platform: str, facts: dict[str, Any], words: str) -> None:
    known = {"version": [3, 12, 0], "missing": [], "bits": 64, "threads": False, "machine": "x86_64", **facts}
    problem = pythons._problem(known, ".".join(map(str, known["version"])), platform)
    assert words in problem
    assert bool(problem) == bool(words)


def test_blenders_own_python_is_the_last_resort(tmp_path: Path) -> None:
    own = interpreter(tmp_path / "python3.11")
    assert list(pythons.candidates(own))[-1] == own
    assert "/opt/blender/blender" not in list(pythons.candidates("/opt/blender/blender"))


def test_windows_launcher() -> None:
    answer = (
        " -V:3.13 *        C:\\Users\\Jo Ann\\AppData\\Local\\Programs\\Python\\Python313\\python.exe\r\n"
        " -V:3.11          C:\\Python311\\python.exe\r\n"
    )
    assert pythons.launcher(answer) == [
        "C:\\Users\\Jo Ann\\AppData\\Local\\Programs\\Python\\Python313\\python.exe",
        "C:\\Python311\\python.exe",
    ]
    assert pythons.launcher(None) == []
