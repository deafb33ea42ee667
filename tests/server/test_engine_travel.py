"""Between prompts and between seeds, in every picture that a job paints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")


from paintover.bridge.messages import Generate
from paintover.bridge.parameters import Settings
from paintover.server import models
from paintover.server.pipelines.engine import DiffusersEngine

from .tiny_models import Recorder, make_passes, write_model

pytestmark = pytest.mark.usefixtures("one_thread")

SIDE = 64


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("tiny")
    return {family: write_model(base / family, family) for family in ("sd15", "sdxl")}


@pytest.fixture(params=["sd15", "sdxl"])
def paint(request: pytest.FixtureRequest, folders: dict[str, Path], tmp_path: Path, monkeypatch: Any) -> Any:
    monkeypatch.setenv("PAINTOVER_DATA", str(tmp_path))
    models.add(folders[request.param], name=request.param)
    engine = DiffusersEngine("cpu")

    def painted(**changes: Any) -> np.ndarray:
        values = {"model": request.param, "steps": 3, "seed": 5, "control_depth": False, "guidance": 3.0, **changes}
        asked = Generate(Settings.from_mapping(values), SIDE, SIDE, make_passes(SIDE, SIDE))
        return engine.paint_float(asked, Recorder(), None)[0]

    return painted


def apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).mean())


def test_a_prompt_with_weights_lies_between_its_parts(paint: Any) -> None:
    lava, ice = paint(prompt="lava"), paint(prompt="blue ice")
    assert np.array_equal(paint(prompt="lava::0.3"), lava)
    assert np.array_equal(paint(prompt="lava::1 blue ice::0"), lava)
    half = paint(prompt="lava::0.5 blue ice::0.5")
    whole = apart(lava, ice)
    assert 0 < apart(half, lava) < whole
    assert 0 < apart(half, ice) < whole
    assert apart(paint(prompt="lava::0.95 blue ice::0.05"), lava) < apart(half, lava)


@pytest.mark.parametrize("how", [{}, {"scheduler": "euler_a"}, {"scheduler": "lcm"}, {"strength": 0.7}])
def test_seed_travel_goes_from_one_seed_to_the_next(paint: Any, how: dict[str, Any]) -> None:
    here, there = paint(**how), paint(seed=6, **how)
    assert np.array_equal(paint(seed_travel=0.0, **how), here)
    assert np.array_equal(paint(seed_travel=1.0, **how), there)
    whole = apart(here, there)
    assert apart(paint(seed_travel=0.02, **how), here) < 0.15 * whole, "no jump at either end"
    assert apart(paint(seed_travel=0.98, **how), there) < 0.15 * whole
    half = paint(seed_travel=0.5, **how)
    assert apart(half, here) > 0.2 * whole
    assert apart(half, there) > 0.2 * whole
