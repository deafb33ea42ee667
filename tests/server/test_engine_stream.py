"""The stream's engine with the real mini-turbo on the CPU."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")


from paintover.bridge.errors import MissingModel
from paintover.bridge.live import LiveSettings
from paintover.bridge.messages import Generate
from paintover.bridge.parameters import CONTROLS, Settings
from paintover.bridge.prompts import Blend
from paintover.server import models
from paintover.server.engine import Stream
from paintover.server.pipelines import early, loading
from paintover.server.pipelines.engine import DiffusersEngine
from paintover.server.worker_messages import StreamControl, StreamSettings, StreamState

from .tiny_models import Recorder, make_passes, write_model

SIDE = 128
PASSES = make_passes(SIDE, SIDE)
BASE: dict[str, Any] = {
    "model": "mini-turbo", "prompt": "brick", "seed": 3, "steps": 2, "guidance": 1.0, "output_width": SIDE,
    "output_height": SIDE, "control_depth": True, "control_normal": True, "control_edge": True,
}  # fmt: skip


class Painted:
    """A stream, asked frame by frame."""

    def __init__(self) -> None:
        self.said: list[StreamState] = []
        self.engine = DiffusersEngine("cpu")
        self.stream: Stream = self.engine.stream(self.said.append)
        self.control = StreamControl(1, PASSES)
        self.resets = self.number = 0

    def __call__(self, prompts: tuple[Blend, ...] | None = None, **values: Any) -> np.ndarray:
        settings = LiveSettings(**{**BASE, **values})
        self.number += 1
        self.last = StreamSettings(self.number, settings, prompts or (Blend(settings.prompt, 1.0),), self.resets)
        return self.again()

    def again(self) -> np.ndarray:
        frame = self.stream.frame(self.control, self.last, lambda: self.last)
        assert frame
        self.rough, self.painted_from = frame.rough, frame.control
        return frame.image

    def forget(self) -> None:
        self.resets += 1

    def move(self, control: StreamControl | None = None) -> None:
        """Another control frame, by default of the same scene."""
        self.control = control or StreamControl(self.control.number + 1, PASSES)


@pytest.fixture(scope="module")
def shared() -> Painted:
    painted = Painted()
    painted()  # loads all the ControlNets: those that are wanted later load beside the frames
    return painted


@pytest.fixture
def paint(shared: Painted) -> Painted:
    shared.forget()
    shared.move(StreamControl(shared.control.number + 1, PASSES))
    shared.said.clear()
    return shared


def close(a: np.ndarray, b: np.ndarray, levels: int = 1) -> bool:
    return int(np.abs(a.astype(int) - b.astype(int)).max()) <= levels


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """Mean difference in levels."""
    return float(np.abs(a.astype(float) - b.astype(float)).mean())


def job(engine: DiffusersEngine, **values: Any) -> np.ndarray:
    known = {**BASE, "scheduler": "lcm", **values}
    for name in ("output_width", "output_height"):
        known.pop(name)
    return engine.paint(Generate(Settings(**known), SIDE, SIDE, PASSES), Recorder()).image


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_the_same_picture_as_a_job(paint: Painted, steps: int) -> None:
    assert close(paint(steps=steps), job(paint.engine, steps=steps))


def test_settings_that_come_while_the_scene_is_prepared_count(paint: Painted) -> None:
    expected = paint(seed=8)
    older = dataclasses.replace(paint.last, settings=dataclasses.replace(paint.last.settings, seed=9))
    newer = dataclasses.replace(paint.last, number=paint.last.number + 1)
    paint.move()
    frame = paint.stream.frame(paint.control, older, lambda: newer)
    assert frame
    assert close(frame.image, expected)
    assert (frame.seed, frame.settings) == (8, newer.number)


def test_a_change_that_comes_early_in_a_frame_is_in_it(paint: Painted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once: of two frames in a row one is painted to its end, whatever comes."""
    expected = {seed: paint(seed=seed) for seed in (9, 10, 8)}
    last, begun = paint.last, 0

    def settings(seed: int) -> StreamSettings:
        changed = dataclasses.replace(last.settings, seed=seed)
        return dataclasses.replace(last, number=last.number + seed, settings=changed)

    def frame(asked_before: int, late: bool = False, seeds: tuple[int, ...] = (8, 9, 10)) -> tuple[int, np.ndarray]:
        """A frame with the first seed; the next ones are set after `newest` was asked so many times."""
        nonlocal begun
        asked = 0

        def newest() -> StreamSettings:
            nonlocal asked
            asked += 1
            return first if asked <= asked_before else wanted.pop(0)

        first, *wanted = map(settings, seeds)
        monkeypatch.setattr(early, "EARLY", 0.0 if late else 100.0)
        painted = paint.stream.frame(paint.control, first, newest)
        assert painted
        begun = asked
        return painted.seed, painted.image

    seed, image = frame(2)
    assert seed == 10, "what came last"
    assert close(image, expected[10])
    seed, image = frame(1)
    assert (seed, begun) == (8, 1), "the one after it is not begun anew"
    assert close(image, expected[8])
    seed, image = frame(4, seeds=(9, 9, 8))
    assert seed == 8
    assert close(image, expected[8]), "left behind the ControlNets: what they said is nothing for another seed"
    seed, image = frame(1, late=True)
    assert (seed, begun) == (8, 1), "it was no longer early"
    assert close(image, expected[8])


def test_controls_and_their_scales_count(paint: Painted) -> None:
    some = {"control_depth": False, "control_edge": False, "control_normal_scale": 0.7}
    assert close(paint(**some), job(paint.engine, **some))
    none = {"control_depth": False, "control_edge": False, "control_normal": False}
    free = paint(**none)
    assert close(free, job(paint.engine, **none))
    control, paint.control = paint.control, None  # type: ignore[assignment]
    without = paint()
    paint.control = control
    assert close(without, free), "without a control frame nothing steers"


def test_seed_travel_ends_at_the_seeds(paint: Painted) -> None:
    here, there = paint(seed=3), paint(seed=4)
    assert close(paint(seed=3, seed_travel=0.0), here)
    assert close(paint(seed=3, seed_travel=1.0), there)
    between = paint(seed=3, seed_travel=0.5)
    assert apart(between, here) > 1
    assert apart(between, there) > 1


def test_prompt_weights_end_at_the_prompts(paint: Painted) -> None:
    brick, gold = paint(prompt="brick"), paint(prompt="gold")
    paint.move()
    gold = paint(prompt="gold")

    def blend(weight: float) -> np.ndarray:
        paint.move()
        return paint((Blend("brick", 1 - weight), Blend("gold", weight)))

    assert close(blend(0.0), brick)
    assert close(blend(1.0), gold)
    way = [apart(blend(weight), brick) for weight in (0.25, 0.5, 0.75)]
    assert way == sorted(way), "further with every step"


def test_residuals_are_reused_on_the_way_and_the_last_frame_is_exact(paint: Painted) -> None:
    paint(prompt="brick")
    quick = paint(prompt="lava")
    assert paint.rough
    assert paint.stream.patience == 0.0, "one more is wanted"
    exact = paint.again()
    assert not paint.rough
    assert paint.stream.patience is None
    paint.move()
    assert close(exact, paint(prompt="lava"))
    assert apart(quick, exact) < 15
    paint(seed=9)
    assert not paint.rough, "with other noise they are not the same at all"


def test_feedback_moves_the_picture(paint: Painted) -> None:
    none = {"control_depth": False, "control_edge": False, "control_normal": False}
    before = paint(**none, feedback_amount=0.97, feedback_x=0.1)
    assert close(before, paint(**none)), "the first has no last frame"
    after = paint(**none, feedback_amount=0.97, feedback_x=0.1)
    inside = slice(32, SIDE - 32)
    shifts = {shift: apart(np.roll(before, shift, axis=1)[:, inside], after[:, inside]) for shift in range(-30, 31)}
    assert abs(min(shifts, key=lambda shift: shifts[shift]) - 0.1 * SIDE) <= 1
    paint.forget()
    assert close(paint(**none, feedback_amount=0.97), before), "a reset forgets it"


def test_strength_keeps_the_scenes_own_render(paint: Painted) -> None:
    assert PASSES.color is not None
    scene = PASSES.color[..., :3]
    kept = [apart(paint(strength=strength), scene) for strength in (0.1, 0.4, 0.7, 1.0)]
    assert kept == sorted(kept), "the less is painted over, the more of it stays"
    image = np.full((SIDE, SIDE, 3), (200, 40, 40), np.uint8)
    paint.move(StreamControl(paint.control.number + 1, PASSES, image))
    assert apart(paint(strength=0.1), image) < 30, "an image of its own comes first"


def test_an_image_without_a_scene_is_painted_over_without_controls(paint: Painted) -> None:
    image = np.zeros((50, 70, 3), np.uint8)
    image[:, :35] = 255
    paint.move(StreamControl(paint.control.number + 1, None, image))
    kept = paint(strength=0.3, steps=4).astype(float).mean(axis=(0, 2))
    assert kept[: SIDE // 2].mean() > kept[SIDE // 2 :].mean() + 60
    none = {f"control_{name}": False for name in CONTROLS}
    assert close(paint(strength=0.3, steps=4, **none), paint(strength=0.3, steps=4))


def test_smoothing_settles(paint: Painted) -> None:
    first = paint(prompt="brick")
    paint.move()
    goal = paint(prompt="lava", smooth=0.0)
    paint(prompt="brick")
    half = paint(prompt="lava", smooth=0.5)
    assert apart(half, first) > 1
    assert paint.stream.patience == 0.0
    frames = 0
    while paint.stream.patience == 0.0:
        settled = paint.again()
        frames += 1
        assert frames < 30
    assert frames > 3
    assert close(settled, goal, 3)


def test_frames_whose_size_is_not_the_outputs(paint: Painted) -> None:
    for width, height in ((1, 1), (64, 200), (500, 128)):
        paint.move(StreamControl(paint.control.number + 1, make_passes(width, height)))
        assert paint().shape == (SIDE, SIDE, 3)
    assert paint(output_width=192, output_height=64).shape == (64, 192, 3)
    assert paint(output_width=168, output_height=72).shape == (72, 168, 3), "sides need not be multiples of 64"


def test_guidance_from_the_negative_prompt_and_without(paint: Painted) -> None:
    plain = paint(prompt="gold")
    residual = paint(prompt="gold", guidance=1.5)
    negative = paint(prompt="gold", guidance=1.5, negative_prompt="brick")
    assert apart(plain, residual) > 0.5
    assert apart(negative, residual) > 0.5
    full = job(paint.engine, prompt="gold", guidance=1.5, negative_prompt="brick", steps=1)
    paint.move()
    assert close(paint(prompt="gold", guidance=1.5, negative_prompt="brick", steps=1), full, 2), (
        "at one step, asking the negative prompt once is the whole of classifier-free guidance"
    )


def wait_for_model(paint: Painted, name: str, **values: Any) -> None:
    for _ in range(200):
        paint(model=name, **values)
        stream: Any = paint.stream
        if stream.model.entry.name == name and stream._old is None:
            return
    raise AssertionError(f"{name} never came")


def test_another_model_loads_beside_and_fades_in() -> None:
    paint = Painted()
    values = {"prompt": "gold"}
    before = paint(**values)
    after = paint(model="mini", **values)
    assert close(before, after), "it still loads"
    wait_for_model(paint, "mini", **values)
    assert apart(paint(model="mini", **values), before) > 0.5
    values |= {"model": "mini", "scheduler": "ddim"}
    assert close(paint(**values), job(paint.engine, **values))
    values = {"prompt": "gold"}
    held, model = paint.engine.held(), paint.stream.model
    assert held.model == "mini"
    loading.weigh(model)
    assert held.model_bytes == model.size > 1e6
    wait_for_model(paint, "mini-turbo", **values)
    assert close(paint(**values), before)


def test_a_model_that_does_not_load_is_said_and_the_running_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_model(tmp_path / "broken", "sd15")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    entry = models.ModelEntry("broken", "sd15", str(folder))
    monkeypatch.setattr(models, "BUILT_IN", (*models.BUILT_IN, entry))
    paint = Painted()
    before = paint()
    while not any(said.refused for said in paint.said):
        assert close(paint(model="broken"), before)
    (said,) = [said for said in paint.said if said.refused]
    assert said.refused == "broken"
    assert said.failure
    assert said.failure.code == "bad_model_file"
    paint(model="broken")
    assert len([said for said in paint.said if said.refused]) == 1, "not tried again and again"
    assert close(paint(), before)
    for _ in range(2):  # it was taken off the list
        assert close(paint(model="nobody's"), before)
    assert [said.refused for said in paint.said if said.refused] == ["broken", "nobody's"]
    with pytest.raises(MissingModel):
        Painted()(model="nobody's")


def test_sdxl_goes_through_the_same_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_model(tmp_path / "xl", "sdxl")
    controls = {control: str(folder / f"controlnet-{control}") for control in CONTROLS}
    entry = models.ModelEntry("xl", "sdxl", str(folder), controls)
    monkeypatch.setattr(models, "BUILT_IN", (*models.BUILT_IN, entry))
    configuration = folder / "scheduler" / "scheduler_config.json"
    turbo = {**json.loads(configuration.read_text()), "timestep_spacing": "trailing"}
    configuration.write_text(json.dumps(turbo))
    paint = Painted()
    values = {"model": "xl", "prompt": "a b", "steps": 1}
    assert close(paint(**values), job(paint.engine, scheduler="default", **values), 2)
    blended = paint((Blend("a b", 0.5), Blend("c d", 0.5)), **values)
    assert blended.shape == (SIDE, SIDE, 3)


def test_overlapping_frames_keep_their_own_control(paint: Painted) -> None:
    """Each shows, steps later, what it was begun with: the same picture as without."""
    other = StreamControl(paint.control.number + 100, make_passes(SIDE // 2, SIDE))
    plain = {}
    for control in (paint.control, other):
        paint.move(control)
        plain[control.number] = paint(steps=3)
    paint.move(StreamControl(paint.control.number + 1, PASSES))
    shown = [paint(steps=3, in_flight=True)]
    first = paint.control.number
    assert paint.painted_from == first
    assert close(shown[0], plain[min(plain)]), "the first picture is whole"
    paint.move(other)
    assert close(paint(steps=3, in_flight=True), shown[0])
    assert paint.painted_from == first
    assert paint.stream.patience == 0.0, "what is under way is still to be seen"
    assert close(paint.again(), shown[0])
    assert close(paint.again(), plain[other.number])
    assert paint.painted_from == other.number
    assert paint.stream.patience is None


def test_no_growth(paint: Painted) -> None:
    """Of memory, over frames whose every input changes."""

    def some(count: int) -> int:
        for number in range(count):
            paint.move()
            size = {"output_width": 64, "output_height": 64}
            paint(prompt=f"stone {number}", seed=number, steps=1, feedback_amount=0.3, **size)
        return int(psutil.Process().memory_info().rss)

    before = some(150)  # more prompts than are kept
    assert some(100) - before < 12 << 20


def test_a_broken_picture_is_said_and_forgotten(paint: Painted, monkeypatch: pytest.MonkeyPatch) -> None:
    from paintover.bridge.errors import ServerFailure

    before = paint()
    stream: Any = paint.stream
    decoder = stream.model.decoder
    decode = decoder.decode
    with monkeypatch.context() as patch:
        patch.setattr(decoder, "decode", lambda latents, **_: (decode(latents, return_dict=False)[0] * np.nan,))
        stream._painter._functions.clear()
        with pytest.raises(ServerFailure, match="not numbers"):
            paint(feedback_amount=0.5)
    stream._painter._functions.clear()
    assert close(paint(feedback_amount=0.5), before), "nothing of it is fed back"
