"""Two interpreters run these tests: the server's, and Blender's own (tests/addon). Each collects its part."""

from __future__ import annotations

import importlib.util
import logging
import os
from pathlib import Path
from typing import Any

import pytest


class Loggers(dict[str, Any]):
    """Of logging. pytest goes through all of them when a test begins: a thread that imports something at that moment,
    and so makes another, must not fail the test."""

    def values(self) -> Any:
        return list(super().values())


logging.root.manager.loggerDict = Loggers(logging.root.manager.loggerDict)

# Before anything imports torch: waiting threads that spin make tests crawl on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if importlib.util.find_spec("hypothesis"):
    from hypothesis import settings

    settings.register_profile("paintover", deadline=None)  # no test asserts times: machines are busy
    settings.load_profile("paintover")

if importlib.util.find_spec("bpy"):
    here = Path(__file__).parent
    collect_ignore = [entry.name for entry in here.iterdir() if entry.is_dir() and entry.name != "addon"]
    collect_ignore += [entry.name for entry in here.glob("test_*.py")]
else:
    collect_ignore = ["addon"]


@pytest.fixture(scope="session")
def addon_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extension as it ships. It takes seconds to build: once for all tests."""
    import build_addon

    return build_addon.build(tmp_path_factory.mktemp("dist"))
