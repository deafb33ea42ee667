"""A shot as a job: what is painted, what is kept, and where it can go on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from paintover.bridge.errors import BadMessage, Cancelled
from paintover.bridge.parameters import Settings
from paintover.bridge.shot import ShotFrame
from paintover.server.animation.job import Painted, animate
from paintover.server.worker_messages import State

from .tiny_models import Recorder
from .wall_and_post import POST, WALL, Dabs, ids, link, shot

LOOK = Settings(prompt="dabs", seed=1)
OTHER = Settings(prompt="other dabs", seed=1)


def painted(frames: Iterable[ShotFrame]) -> tuple[Dabs, dict[int, Painted]]:
    engine = Dabs()
    return engine, {one.number: one for one in animate(engine, frames, Recorder())}


def look(**switches: bool | float) -> Settings:
    return Settings.from_mapping({"prompt": "dabs", "seed": 1} | {f"animate_{k}": v for k, v in switches.items()})


def carried(number: int, other: int, image: np.ndarray) -> np.ndarray:
    """Of the pixels whose column is a whole one in the other frame, its colours there."""
    column = (np.arange(ids(1).shape[1]) + link(number, other).place[0, :, 0]).astype(int)
    return image[:, column.clip(0, image.shape[1] - 1)]


def test_all_frames_come_in_the_order_of_sending() -> None:
    _, found = painted(shot(10, lambda _: LOOK))
    assert list(found) == [1, 5, 2, 3, 4, 9, 6, 7, 8, 10]
    assert [one.number for one in found.values() if one.state] == [1, 5, 9, 10]
    assert found[1].fresh == 1
    assert 0 < found[5].fresh < 0.3


def test_known_paint_stays_to_the_pixel() -> None:
    engine, found = painted(shot(9, lambda _: LOOK))
    moved = carried(5, 1, found[1].image)
    same_post = (ids(5) == POST) & (found[5].image == moved).all(-1)
    assert same_post.sum() > 0.6 * (ids(5) == POST).sum()
    right = np.zeros_like(ids(5), bool)
    right[:, 36:60] = True  # wall that nothing passed
    assert (found[5].image == moved)[right & (ids(5) == WALL)].mean() > 0.9
    repair = engine.asked[1][0]
    assert repair.mask is not None
    assert (repair.mask > 0).mean() < 0.8


def test_frames_between_come_from_both_sides() -> None:
    engine, found = painted(shot(5, lambda number: LOOK if number < 5 else OTHER))
    post = (ids(3) == POST) & (np.roll(ids(3), 3, 1) == POST) & (np.roll(ids(3), -3, 1) == POST)
    before, after = (carried(3, key, found[key].image).astype(float) for key in (1, 5))
    both = np.stack([before[post], after[post], found[3].image[post].astype(float)], -1).reshape(-1, 3)
    shares = np.linalg.lstsq(both[:, :2], both[:, 2], rcond=None)[0]
    assert np.allclose(shares, shares.mean(), rtol=0.15)
    mean = both[:, :2].mean(-1)
    assert abs(both[:, 2].mean() - mean.mean()) < 3
    assert both[:, 2].std() > 1.15 * mean.std()  # the mean of unlike paint would be flatter than either
    assert len(engine.asked) < 6  # the frames between are hardly painted


def test_another_prompt_paints_the_next_keyframe_anew() -> None:
    engine, found = painted(shot(9, lambda number: LOOK if number < 6 else OTHER))
    assert [one.fresh == 1 for one in found.values() if one.state] == [True, False, True]
    assert engine.asked[-1][0].settings.prompt == OTHER.prompt


def test_a_cut_starts_anew() -> None:
    _, found = painted(shot(8, lambda _: LOOK, cuts=frozenset({5})))
    assert list(found) == [1, 4, 2, 3, 5, 8, 6, 7]
    assert found[5].fresh == 1


@pytest.mark.parametrize("switches", [{}, {"noise": False}, {"hold": 0.6, "deflicker": 0.5}, {"attention": True}])
def test_a_shot_goes_on_bit_for_bit(switches: dict[str, Any]) -> None:
    frames = list(shot(13, lambda _: look(**switches)))
    _, whole = painted(frames)
    for i, frame in enumerate(frames):
        if frame.key and i:
            state = whole[frame.number].state
            for one in animate(Dabs(), frames[i + 1 :], Recorder(), state):
                assert np.array_equal(one.image, whole[one.number].image)


def test_switches_reach_the_engine() -> None:
    engine, _ = painted(shot(9, lambda _: LOOK))
    assert engine.asked[0][1].noise is None  # the shot begins with the picture that a still with its seed is
    assert all(coherence.noise is not None for _, coherence in engine.asked[1:])
    assert not any(coherence.references for _, coherence in engine.asked)
    engine, _ = painted(shot(9, lambda _: look(noise=False, attention=True)))
    assert all(coherence.noise is None for _, coherence in engine.asked)
    assert [len(coherence.references) for _, coherence in engine.asked if coherence.references] == [1, 2]
    engine, _ = painted(shot(9, lambda _: look(hold=0.6)))
    assert all(coherence.noise is not None for _, coherence in engine.asked)
    held = [coherence for _, coherence in engine.asked if coherence.held]
    assert [one.held for one in held] == [0.6, 0.6]
    assert all(0 < (one.known > 0).mean() < 1 for one in held if one.known is not None)


def test_what_is_held_does_not_grow() -> None:
    _, found = painted(shot(41, lambda _: LOOK))

    def size(state: State | None) -> int:
        assert state is not None
        kept = [one for one in (state.anchor, state.before, state.after) if one]
        return sum(array.nbytes for one in kept for array in (one.image, one.detail, one.origin) if array is not None)

    assert size(found[41].state) == size(found[9].state) > 0


def test_a_frame_that_is_linked_elsewhere_is_refused() -> None:
    frames = list(shot(5, lambda _: LOOK))
    with pytest.raises(BadMessage, match="frame 7"):
        painted([frames[0], dataclasses.replace(frames[1], before=link(5, 7))])
    with pytest.raises(BadMessage):
        painted(frames[2:])


def test_it_can_be_stopped() -> None:
    class Stopping(Recorder):
        def check(self) -> None:
            raise Cancelled()

    with pytest.raises(Cancelled):
        list(animate(Dabs(), shot(5, lambda _: LOOK), Stopping()))


@pytest.mark.parametrize(
    ("change", "anew"),
    [
        ({"seed": 2}, True),
        ({"seed_travel": 0.25}, True),
        ({"prompt": "dabs::0.9 dots::0.1"}, True),
        ({"strength": 0.5}, True),
        ({"control_depth_scale": 0.5}, True),
        ({"control_normal_scale": 0.5}, False),  # it is not on
        ({"prompt": "dabs::2"}, False),
        ({"edge_width": 3.0}, False),
        ({"steps": 7}, False),
        ({"size": 64}, False),
        ({"animate_deflicker": 0.5}, False),
    ],
)
def test_what_makes_the_look_another(change: dict[str, Any], anew: bool) -> None:
    other = dataclasses.replace(LOOK, **change)
    engine, found = painted(shot(5, lambda number: LOOK if number < 5 else other))
    assert (found[5].fresh == 1) == anew
    assert engine.asked[-1][0].settings.seed == (2 if "seed" in change else 1) or not anew


def test_noise_travels_between_seeds_and_stays_on_the_surfaces() -> None:
    def noises(seed: int, travel: float) -> np.ndarray:
        settings = dataclasses.replace(LOOK, seed=seed, seed_travel=travel)
        engine, _ = painted(shot(5, lambda number: LOOK if number < 5 else settings))
        given = next(coherence.noise for asked, coherence in engine.asked if asked.settings.seed_travel == travel
                     and asked.settings.seed == seed and coherence.noise is not None)  # fmt: skip
        assert given is not None
        return given

    here, there, half = noises(7, 0.0), noises(8, 0.0), noises(7, 0.5)
    assert np.array_equal(noises(7, 1.0), there)
    for end in (here, there):
        assert np.corrcoef(half.ravel(), end.ravel())[0, 1] == pytest.approx(0.5**0.5, abs=0.15)
    assert half.std() == pytest.approx(here.std(), rel=0.1)


def test_new_surfaces_start_from_the_scenes_own_picture_if_the_first_did() -> None:
    def frames() -> Iterable[ShotFrame]:
        for frame in shot(5, lambda _: dataclasses.replace(LOOK, strength=0.4)):
            color = np.full((*frame.passes.depth.shape, 4), 99, np.uint8)
            yield dataclasses.replace(frame, passes=dataclasses.replace(frame.passes, color=color))

    engine, _ = painted(frames())
    asked = engine.asked[1][0]
    assert asked.image is not None
    assert asked.settings.strength == 0.4
    new = (ids(5) == WALL) & (np.roll(ids(1), -2, 1) == POST)  # where the post was
    assert (asked.image[new] == 99).mean() > 0.5
