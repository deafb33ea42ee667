"""The files for TouchDesigner, with stand-ins of what it calls them with, against real shared memory.

They import paintover_frames from their own folder, as there, and nothing of Paintover.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from paintover.bridge.frames import FrameReader, FrameWriter

FOLDER = Path(__file__).parents[2] / "touchdesigner"


@pytest.fixture(autouse=True)
def _folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(FOLDER))
    yield
    sys.modules.pop("paintover_frames", None)


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Par:
    def __init__(self, value: Any = None) -> None:
        self.val = self.default = value

    def eval(self) -> Any:
        return self.val


class ScriptOp:
    """What a Script TOP gives its callbacks."""

    path = "/project1/script1"

    def __init__(self) -> None:
        self.par = SimpleNamespace()
        self.shown: list[np.ndarray] = []
        self._kept: dict[str, Any] = {}

    def appendCustomPage(self, name: str) -> ScriptOp:
        return self

    def _append(self, name: str, label: str) -> list[Par]:
        setattr(self.par, name, Par())
        return [getattr(self.par, name)]

    appendStr = appendToggle = _append

    @property
    def customPars(self) -> list[Par]:
        return list(vars(self.par).values())

    def fetch(self, key: str, default: Any, search: bool = True) -> Any:
        return self._kept.get(key, default)

    def store(self, key: str, value: Any) -> None:
        self._kept[key] = value

    def copyNumpyArray(self, array: np.ndarray) -> None:
        assert array.dtype in (np.uint8, np.uint16, np.float32)
        assert array.ndim == 3
        assert array.flags.c_contiguous
        self.shown.append(array)


def test_the_script_top_shows_each_frame_once_the_right_way_up() -> None:
    name = f"paintover-test-{uuid.uuid4().hex[:12]}"
    callbacks, top = load("picture_top"), ScriptOp()
    callbacks.onSetupParameters(top)
    assert top.par.Source.eval() == "paintover-9699"
    top.par.Source.val = name
    callbacks.onCook(top)
    assert not top.shown, "nobody sends yet"
    writer = FrameWriter(name, 1 << 16)
    image = np.zeros((4, 8, 3), np.uint8)
    image[0] = 200  # the top row
    writer.write(image, 5.0)
    callbacks.onCook(top)
    callbacks.onCook(top)
    assert len(top.shown) == 1
    assert (top.shown[0][-1] == 200).all(), "TouchDesigner's last row is the top one"
    assert not top.shown[0][:-1].any()
    top.par.Flip.val = False
    writer.write(image, 6.0)
    callbacks.onCook(top)
    assert (top.shown[1][0] == 200).all()
    writer.close()
    callbacks.onCook(top)
    assert len(top.shown) == 2, "it keeps what it shows"


@pytest.mark.parametrize("depth", [False, True])
def test_a_top_is_sent(depth: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    execute = load("send_execute")
    name = execute.NAME = f"paintover-test-{uuid.uuid4().hex[:12]}"
    execute.DEPTH = depth
    image = np.zeros((4, 8, 4), np.float32)
    image[-1] = (1.0, 0.5, 2.0, 1.0)  # TouchDesigner's last row is the top one; values may be beyond 1
    answers: list[np.ndarray | None] = [None, image]
    top = SimpleNamespace(numpyArray=lambda delayed: answers.pop(0))
    execute.op = lambda wanted: top if wanted == "to_paintover" else None
    reader = FrameReader(name)
    execute.onFrameEnd(1)
    assert reader.read() is None, "the first delayed download has no result"
    execute.onFrameEnd(2)
    frame = reader.read()
    assert frame is not None
    assert frame.image.shape == (4, 8, 1 if depth else 4)
    assert tuple(frame.image[0, 0])[:3] == ((255,) if depth else (255, 128, 255))
    assert not frame.image[1:].any()
    execute.onExit()
    assert reader.read() is None
    execute.op = lambda wanted: None
    execute.onFrameEnd(3)  # no such TOP: nothing happens


def test_the_folder_needs_nothing_of_paintover() -> None:
    allowed = {*sys.stdlib_module_names, "numpy", "paintover_frames"}
    for path in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert {name.split(".")[0] for name in names} <= allowed, path.name
