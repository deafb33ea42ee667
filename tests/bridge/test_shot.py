"""The order in which a shot's frames are sent."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from paintover.bridge.errors import BadMessage
from paintover.bridge.parameters import Settings
from paintover.bridge.scene import Camera, Passes
from paintover.bridge.shot import Link, Place, ShotFrame, plan
from paintover.bridge.shot_messages import LAST_FRAME, MOST_FRAMES, FramePainted, Shot


@pytest.mark.parametrize("interval", [1, 2, 4, 100])
@pytest.mark.parametrize("numbers", [range(1, 12), range(20, 0, -3), [5], []])
@pytest.mark.parametrize("cuts", [(), (8,), (5, 8), (1,)])
def test_every_frame_comes_once_after_those_it_is_linked_to(
    numbers: list[int], interval: int, cuts: tuple[int, ...]
) -> None:
    places = list(plan(numbers, interval, frozenset(cuts)))
    assert sorted(place.number for place in places) == sorted(numbers)
    come: set[int] = set()
    for place in places:
        assert {place.before, place.after, place.previous} - {None} <= come
        come.add(place.number)
        assert place.key or (place.before is not None and place.after is not None)
    keys = [list(numbers).index(place.number) for place in places if place.key]
    assert all(b - a <= interval for a, b in itertools.pairwise(keys))


def test_nothing_is_linked_across_a_cut() -> None:
    for place in plan(range(1, 20), 4, frozenset({10})):
        for other in (place.before, place.after, place.previous):
            assert other is None or (other < 10) == (place.number < 10)


def test_order() -> None:
    places = list(plan(range(1, 6), 4))
    assert places[:3] == [Place(1, True), Place(5, True, 1), Place(2, False, 1, 5)]
    assert places[3:] == [Place(3, False, 1, 5, 2), Place(4, False, 1, 5, 3)]


def passes() -> Passes:
    camera = Camera("camera", np.eye(4), np.diag([1.0, 1, -1, 1]), 8, 8)
    flat, none = np.ones((8, 8), np.float32), np.zeros((8, 8), np.uint8)
    return Passes(camera, flat, np.zeros((8, 8, 3), np.float16), none, none.astype(np.uint16))


def test_frames_that_cannot_be_are_refused() -> None:
    link = Link(1, np.zeros((8, 8, 3), np.float32))
    with pytest.raises(BadMessage, match="behind no keyframe"):
        ShotFrame(2, Settings(), passes(), False)
    with pytest.raises(BadMessage, match="comes after"):
        ShotFrame(2, Settings(), passes(), True, link, after=link)
    with pytest.raises(BadMessage, match="place"):
        ShotFrame(2, Settings(), passes(), True, Link(1, np.zeros((8, 9, 3), np.float32)))


def test_a_shot_knows_its_order() -> None:
    asked = Shot(Settings(animate_interval=4), (9, 7, 5, 3, 1), 64, 64, cuts=(3,))
    assert asked.plan() == tuple(plan([9, 7, 5, 3, 1], 4, frozenset({3})))
    assert [place.number for place in asked.plan()] == [9, 5, 7, 3, 1]


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ("0 frames", {"numbers": ()}),
        ("100,001 frames", {"numbers": tuple(range(MOST_FRAMES + 1))}),
        ("frame numbers", {"numbers": (1, LAST_FRAME + 1)}),
        ("frame numbers", {"numbers": (1, -(10**30))}),
        ("twice", {"numbers": (1, 2, 1)}),
        ("frame 7 has a cut", {"cuts": (2, 9, 7)}),
        ("place 3", {"first": 3, "continues": "a"}),
        ("place 1", {"first": 1}),
        ("place 0", {"first": 0, "continues": "a"}),
        ("place -1", {"first": -1, "continues": "a"}),
    ],
)
def test_shots_that_cannot_be_are_refused(words: str, values: dict[str, object]) -> None:
    with pytest.raises(BadMessage, match=words):
        Shot(**{"settings": Settings(), "numbers": (1, 2, 3), "width": 64, "height": 64, **values})  # type: ignore[arg-type]


def test_a_painted_frame_is_an_image() -> None:
    with pytest.raises(BadMessage, match="image"):
        FramePainted("a", 0, 1, np.zeros((8, 8), np.uint8), Settings(), 1.0)
