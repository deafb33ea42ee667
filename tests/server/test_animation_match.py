"""Exact correspondence, and paint that is carried along it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from paintover.bridge.scene import Camera, Passes
from paintover.server.animation.frame import Source, close_slits, deflickered, gather, stretch
from paintover.server.animation.match import HALO, REACH, Match, Sight, match, sample
from paintover.server.animation.repair import refresh, repair

from .wall_and_post import FIRST, POST, SIDE, WALL, WIDE, ids, link, passes


def pair(number: int, other: int) -> tuple[Sight, Sight, Match]:
    here, there = Sight.of(passes(number)), Sight.of(passes(other))
    return here, there, match(here, there, link(number, other))


@pytest.mark.parametrize(("number", "other"), [(9, 1), (1, 9), (4, 3)])
def test_what_is_seen_is_seen_and_nothing_else(number: int, other: int) -> None:
    *_, found = pair(number, other)
    column = np.arange(SIDE) + 0.5 + link(number, other).place[0, :, 0]
    inside = (column >= 0) & (column < SIDE)
    there = ids(other)[0, np.clip(column.astype(int), 0, SIDE - 1)]
    expected = inside & (there == ids(number)[0])
    assert 0 < expected.sum() < SIDE
    assert np.array_equal(found.seen.numpy(), np.broadcast_to(expected, (SIDE, SIDE)))


def test_a_surface_that_is_hidden_by_its_own_object_is_not_seen() -> None:
    here, there = passes(9), passes(1)
    one = dataclasses.replace(here, object_id=np.ones((SIDE, SIDE), np.uint16))
    other = dataclasses.replace(there, object_id=np.ones((SIDE, SIDE), np.uint16))
    found = match(Sight.of(one), Sight.of(other), link(9, 1))
    assert np.array_equal(found.seen.numpy(), pair(9, 1)[2].seen.numpy())


def test_what_is_behind_the_camera_is_not_seen() -> None:
    broken = link(9, 1)
    broken.place[:, :5] = np.inf
    found = match(Sight.of(passes(9)), Sight.of(passes(1)), broken)
    assert not found.seen[:, :5].any()
    assert torch.isfinite(found.x).all()


def perspective(turn: float) -> Passes:
    c, s = np.cos(turn), np.sin(turn)
    view = np.array([[c, 0, -s, 0], [0, 1, 0, 0], [s, 0, c, 0], [0, 0, 0, 1.0]])
    projection = np.array([[2.0, 0, 0, 0], [0, 2, 0, 0], [0, 0, -1, -0.2], [0, 0, -1, 0]])
    camera = Camera("camera", view, projection, SIDE, SIDE)
    empty = np.zeros((SIDE, SIDE), np.uint16)
    depth, normal = np.full((SIDE, SIDE), np.inf, np.float32), np.zeros((SIDE, SIDE, 3), np.float16)
    return Passes(camera, depth, normal, empty.astype(np.uint8), empty)


def test_the_background_lies_at_infinity_and_turns_with_the_camera() -> None:
    here, there = Sight.of(perspective(0.1)), Sight.of(perspective(0.0))
    nothing = link(1, 2)
    nothing.place[:] = np.nan
    found = match(here, there, nothing)
    centre = SIDE // 2 * SIDE + SIDE // 2
    moved = found.x.reshape(-1)[centre] - (SIDE / 2 + 0.5)
    assert abs(abs(float(moved)) - SIDE * np.tan(0.1)) < 0.2
    assert 0.8 < float(found.seen.float().mean()) < 1


def test_paint_is_moved_exactly_within_a_surface_and_never_bleeds_from_another() -> None:
    here, there, found = pair(4, 3)  # the wall moves by half a pixel
    ramp = torch.arange(SIDE).float().expand(SIDE, SIDE)[..., None] / SIDE
    picture = torch.where(there.object_id[..., None] == POST, 100.0, ramp)
    moved = sample(picture, there, here, found)[..., 0]
    post, wall = (here.object_id == POST) & found.seen, (here.object_id == WALL) & found.seen
    assert (moved[post] == 100).all()
    exact = (found.x - 0.5) / SIDE
    inner = wall & (here.from_edge >= REACH) & (found.x > 3) & (found.x < SIDE - 3)
    assert torch.allclose(moved[inner], exact[inner], atol=1e-5)
    assert moved[wall].max() < 1


def test_how_a_picture_lies_in_memory_changes_no_bit() -> None:
    """Engines' pictures lie plane by plane, and those from the journal pixel by pixel."""
    here, there, found = pair(4, 3)
    planes = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).permute(1, 2, 0)
    assert torch.equal(sample(planes, there, here, found), sample(planes.contiguous(), there, here, found))


def test_what_no_source_shows_stays_open_and_outlines_are_not_left_behind() -> None:
    here, there, found = pair(9, 1)
    picture = torch.zeros((SIDE, SIDE, 3))
    picture[:, FIRST + 1 - 2 : FIRST + 1 + WIDE + 2] = 1  # painted two pixels over the post's outline
    source = Source(picture, there, torch.ones(SIDE, SIDE), found)
    gathered = gather(here, [source])
    assert gathered.open[~found.seen].all()
    wall = (here.object_id == WALL) & ~gathered.open & (here.from_edge >= REACH)
    assert wall.sum() > 100
    assert gathered.color[wall].max() == 0
    assert gather(here, [source], outlines=True).color[(here.object_id == WALL) & found.seen].max() == 1


def test_what_an_object_colours_around_it_is_not_left_behind() -> None:
    here, there, found = pair(9, 1)
    picture = torch.zeros((SIDE, SIDE, 3))
    picture[:, FIRST + 1 - 7 : FIRST + 1 + WIDE + 7] = 1  # a glow on the wall
    gathered = gather(here, [Source(picture, there, torch.ones(SIDE, SIDE), found)])
    post, wall = here.object_id == POST, here.object_id == WALL
    far = wall & ~gathered.open & (here.from_front == HALO)
    assert far.sum() > 100
    assert gathered.color[far].max() == 0
    assert not gathered.open[post & found.seen].any()  # nothing is in front of the post
    assert (here.from_front[post] == HALO).all()
    beside = here.from_front[0][wall[0]]
    assert set(beside.tolist()) == set(range(1, HALO + 1))


def test_two_sources_are_mixed_by_their_weights() -> None:
    here = Sight.of(passes(5))
    sources = []
    for other, shade, weight in ((1, 0.0, 0.25), (9, 1.0, 0.75)):
        there = Sight.of(passes(other))
        picture = torch.full((SIDE, SIDE, 3), shade)
        sources.append(Source(picture, there, torch.ones(SIDE, SIDE), match(here, there, link(5, other)), weight))
    both = sources[0].found.seen & sources[1].found.seen & (here.from_edge >= REACH)
    gathered = gather(here, sources)
    assert torch.allclose(gathered.color[both & (here.object_id == POST)], torch.tensor(0.75), atol=0.02)


def test_slits_are_closed_from_their_own_surface_and_regions_stay_open() -> None:
    here, there, found = pair(9, 1)
    gathered = gather(here, [Source(torch.full((SIDE, SIDE, 3), 0.5), there, torch.ones(SIDE, SIDE), found)])
    gathered.open[20, 40:50] = True
    gathered.color[20, 40:50] = 0
    closed = close_slits(gathered, here.object_id)
    assert not closed.open[20, 42:48].any()
    assert torch.allclose(closed.color[20, 42:48], torch.tensor(0.5))
    assert closed.open.sum() > 0.5 * gathered.open.sum() > 0


def test_a_repair_covers_what_is_open_in_whole_cells_and_leaves_other_surfaces_alone() -> None:
    here, there, found = pair(9, 1)
    gathered = gather(here, [Source(torch.full((SIDE, SIDE, 3), 0.5), there, torch.ones(SIDE, SIDE), found)])
    task = repair(gathered, here)
    hole = gathered.open.numpy()
    assert (task.mask[hole] == 255).all()
    assert (task.share[hole] == 1).all()
    cells = task.mask.reshape(SIDE // 8, 8, SIDE // 8, 8)
    assert (cells.min(axis=(1, 3)) == cells.max(axis=(1, 3))).all()
    inside_post = (here.object_id == POST).numpy() & ~hole & (here.from_edge.numpy() >= REACH)
    assert (task.put_in(np.zeros((SIDE, SIDE, 3), np.uint8))[inside_post] == task.canvas[inside_post]).all()
    assert np.abs(task.canvas[hole].astype(int) - 128).max() <= 3  # the colours around it


def test_stretched_paint_is_refreshed() -> None:
    here = Sight.of(passes(1))
    x = (torch.arange(SIDE) + 0.5).expand(SIDE, SIDE)
    found = Match(x * 0.4, x.T.contiguous(), torch.ones(SIDE, SIDE, dtype=torch.bool), here.depth)
    inside = here.from_edge >= REACH
    assert torch.allclose(stretch(here, found)[inside], torch.tensor(0.4), atol=1e-4)
    gathered = gather(here, [Source(torch.zeros(SIDE, SIDE, 3), here, torch.ones(SIDE, SIDE), found)])
    canvas = np.zeros((SIDE, SIDE, 3), np.uint8)
    assert refresh(canvas, gathered, here) is not None
    still = Match(x, x.T.contiguous(), found.seen, here.depth)
    whole = gather(here, [Source(torch.zeros(SIDE, SIDE, 3), here, torch.ones(SIDE, SIDE), still)])
    assert refresh(canvas, whole, here) is None


def test_deflicker_mixes_within_the_range_around_each_pixel() -> None:
    here, there, found = pair(2, 1)
    gathered = gather(here, [Source(torch.ones(SIDE, SIDE, 3), there, torch.ones(SIDE, SIDE), found)])
    image = np.full((SIDE, SIDE, 3), 100, np.uint8)
    assert (deflickered(image, gathered, 0.5) == 100).all()
    image[::2] = 120
    mixed = deflickered(image, gathered, 0.5)
    known = ~gathered.open.numpy()
    assert (mixed[known][:, 0] >= 110).all()
    assert np.array_equal(mixed[~known], image[~known])
