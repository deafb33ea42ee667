"""Real Blender against a real server process: each test runs a script in a Blender of its own."""

from __future__ import annotations

import json
import os
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..server_process import TOKEN, ServerProcess, running

BLENDER = os.environ.get("PAINTOVER_BLENDER_PYTHON", "")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not BLENDER:
        for item in items:
            if "end_to_end" in str(item.path):
                item.add_marker(pytest.mark.skip(reason="PAINTOVER_BLENDER_PYTHON names no Blender: run scripts/test"))


@pytest.fixture(scope="session")
def fake_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("fake-server")) as server:
        yield server


class Blender:
    """Runs scripts in real Blender, with the names of inside.py at hand."""

    def __init__(self, folder: Path, addon: Path, python: str = BLENDER) -> None:
        self.folder = folder
        self.python = python
        self._addon = addon

    def environment(self, port: int, token: str) -> dict[str, str]:
        return {
            **os.environ,
            "BLENDER_USER_RESOURCES": str(self.folder / "profile"),
            "PAINTOVER_DATA": str(self.folder / "data"),
            "PAINTOVER_ZIP": str(self._addon),
            "PAINTOVER_PORT": str(port),
            "PAINTOVER_TOKEN": token,
            "PYTHONPATH": str(Path(__file__).parent),
            "FOLDER": str(self.folder),
            "RESULT": str(self.folder / "result.json"),
        }

    def start(self, script: str, *, port: int = 1, token: str = TOKEN) -> subprocess.Popen[str]:
        path = self.folder / "script.py"
        path.write_text("from inside import *\n" + textwrap.dedent(script))
        (self.folder / "result.json").unlink(missing_ok=True)
        return subprocess.Popen(
            [self.python, str(path)],
            env=self.environment(port, token),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, process: subprocess.Popen[str], timeout: float = 240) -> dict[str, Any]:
        """Wait for the script; returns what it told. A script that fails fails the test with its output."""
        try:
            output, _ = process.communicate(timeout=timeout)
        finally:
            process.kill()
        assert process.returncode == 0, output[-6000:]
        result = self.folder / "result.json"
        return {"output": output, **(json.loads(result.read_text()) if result.exists() else {})}

    def run(self, script: str, *, port: int = 1, token: str = TOKEN, timeout: float = 240) -> dict[str, Any]:
        return self.finish(self.start(script, port=port, token=token), timeout)


@pytest.fixture
def blender(tmp_path: Path, addon_zip: Path) -> Blender:
    return Blender(tmp_path, addon_zip)
