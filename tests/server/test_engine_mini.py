"""mini, the model that comes with Paintover, on the engine: it loads, obeys, and keeps what it should keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")


from paintover.bridge.errors import Cancelled
from paintover.bridge.messages import Generate
from paintover.bridge.parameters import Settings
from paintover.server import models
from paintover.server.pipelines.engine import DiffusersEngine

from .tiny_models import Recorder, make_passes

pytestmark = [
    pytest.mark.skipif(not Path(models.MINI.path).is_dir(), reason="server/mini has not been trained yet"),
    pytest.mark.usefixtures("one_thread"),
]

SIDE = 128
"""Half of mini's own size: a quarter of the time."""


@pytest.fixture(scope="module")
def engine() -> DiffusersEngine:
    return DiffusersEngine("cpu")


@pytest.fixture(autouse=True)
def no_other_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAINTOVER_DATA", str(tmp_path))


def request(**changes: Any) -> Generate:
    given = {name: changes.pop(name) for name in ("image", "mask") if name in changes}
    values = {"prompt": "red brick sphere", "seed": 3, **models.MINI.defaults, "size": SIDE, "control_depth": False}
    return Generate(Settings.from_mapping(values | changes), SIDE, SIDE, passes=make_passes(SIDE, SIDE), **given)


def test_its_files_are_sound() -> None:
    models.validate(models.MINI)
    assert models.MINI in models.installed()
    folder = Path(models.MINI.path)
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 42 << 20


def test_three_controls_and_the_same_seed(engine: DiffusersEngine) -> None:
    three = {"control_depth": True, "control_normal": True, "control_edge": True, "steps": 4}
    first = engine.paint(request(**three), Recorder())
    assert first.image.std() > 10, "the picture is nearly of one colour"
    np.testing.assert_array_equal(first.image, engine.paint(request(**three), Recorder()).image)
    assert (first.image != engine.paint(request(**three, seed=4), Recorder()).image).mean() > 0.5


def test_the_depth_range_counts(engine: DiffusersEngine) -> None:
    """By hand and the same as automatic's: the same picture. Another: another one."""
    asked = request(control_depth=True, steps=4)
    assert asked.passes is not None
    disparity = 1 / asked.passes.depth[np.isfinite(asked.passes.depth)]
    low, high = np.percentile(disparity, (1, 99))
    own = {"depth_range": "fixed", "depth_near": float(1 / high), "depth_far": float(1 / low)}
    automatic = engine.paint(asked, Recorder()).image.astype(int)
    same = engine.paint(request(control_depth=True, steps=4, **own), Recorder()).image.astype(int)
    other = engine.paint(request(control_depth=True, steps=4, **own | {"depth_far": 1e5}), Recorder()).image.astype(int)
    assert np.abs(same - automatic).mean() < 1
    assert np.abs(other - automatic).mean() > 3 * np.abs(same - automatic).mean() + 1


def test_the_silhouette_shows(engine: DiffusersEngine) -> None:
    """Across the sphere's border the picture changes more than elsewhere, if a ControlNet says where the border is."""
    image = engine.paint(request(control_normal=True), Recorder()).image.astype(float).mean(-1)
    slope = np.hypot(*np.gradient(image))
    edge = make_passes(SIDE, SIDE).edge > 0
    assert slope[edge].mean() > 1.3 * slope[~edge].mean()


def test_unmasked_pixels_stay(engine: DiffusersEngine) -> None:
    image = engine.paint(request(steps=4), Recorder()).image
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[32:96, 32:96] = 255
    painted = engine.paint(request(image=image, mask=mask, prompt="green grass", seed=5, steps=4), Recorder()).image
    np.testing.assert_array_equal(painted[mask == 0], image[mask == 0])
    assert (painted[mask > 0] != image[mask > 0]).mean() > 0.5
    raw, _ = engine.paint_float(request(image=image, mask=mask, seed=5, steps=4), Recorder())
    far = np.ones((SIDE, SIDE), bool)
    far[16:112, 16:112] = False  # away from the hole only the VAE's own error is left
    assert np.abs(raw[far] * 255 - image[far]).mean() < 12


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "euler_a", "dpmpp_2m", "unipc", "lcm"])
def test_every_scheduler_paints(engine: DiffusersEngine, scheduler: str) -> None:
    """mini's terminal signal-to-noise ratio is zero, which not every scheduler takes for granted."""
    image = engine.paint(request(scheduler=scheduler, steps=6), Recorder()).image
    assert 5 < image.std() < 120


def test_cancelled_within_a_step(engine: DiffusersEngine) -> None:
    engine.paint(request(steps=1), Recorder())
    recorder = Recorder(stop_at=3)
    with pytest.raises(Cancelled):
        engine.paint(request(steps=150), recorder)
    assert recorder.checks == 3
    assert len([stage for stage, _ in recorder.stages if stage.startswith("Step")]) <= 3


def test_previews_look_like_the_picture(engine: DiffusersEngine) -> None:
    recorder = Recorder()
    image = engine.paint(request(), recorder).image
    cell = SIDE // recorder.previews[-1].shape[0]
    small = image.reshape(SIDE // cell, cell, SIDE // cell, cell, 3).mean((1, 3))
    assert np.corrcoef(small.ravel(), recorder.previews[-1].ravel().astype(float))[0, 1] > 0.8


def test_the_prompt_names_the_colour(engine: DiffusersEngine) -> None:
    """More red for red than for blue, with everything else the same."""

    def redness(color: str) -> float:
        image = engine.paint(request(prompt=f"{color} plastic", control_normal=True), Recorder()).image.astype(float)
        inside = make_passes(SIDE, SIDE).object_id > 0
        return float((image[..., 0] - image[..., 2])[inside].mean())

    assert redness("red") > redness("blue") + 20
