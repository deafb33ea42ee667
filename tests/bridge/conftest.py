from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from paintover.bridge import lane
from paintover.bridge.messages import Generate, Submit, Texture
from paintover.bridge.parameters import Settings
from paintover.bridge.scene import Camera, MeshData, Passes


def make_camera(width: int = 16, height: int = 8, name: str = "Camera") -> Camera:
    projection = np.array([[2.0, 0, 0.1, 0], [0, 4.0, 0, 0], [0, 0, -1.02, -0.2], [0, 0, -1, 0]])
    return Camera(name, np.eye(4), projection, width, height)


def make_passes(width: int = 16, height: int = 8) -> Passes:
    rng = np.random.default_rng(1)
    return Passes(
        make_camera(width, height),
        rng.random((height, width), np.float32) + 1,
        np.zeros((height, width, 3), np.float16),
        np.zeros((height, width), np.uint8),
        np.ones((height, width), np.uint16),
        {"1": "Würfel"},
    )


def make_mesh() -> MeshData:
    return MeshData(
        "Triangle",
        1,
        np.eye(3, dtype=np.float32),
        np.array([[0, 1, 2]], np.int32),
        np.ones((1, 3, 3), np.float32),
        np.zeros((1, 3, 2), np.float32),
        np.zeros(1, np.int32),
    )


@pytest.fixture
def submit() -> Submit:
    return Submit("0" * 32, Generate(Settings(prompt="Grün 🌿"), 16, 8, make_passes()))


@pytest.fixture
def submit_texture() -> Submit:
    return Submit("1" * 32, Texture(Settings(), (make_passes(), make_passes()), ("abc",)))


@pytest.fixture(params=["nameless", "file"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The way in which memory is made on Linux, and the one of other systems."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if request.param == "file":
        monkeypatch.setattr(lane, "create_memory", lane._create_file)
    elif sys.platform != "linux":
        pytest.skip("memory without a name is Linux's")
    return str(request.param)
