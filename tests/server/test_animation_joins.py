"""Where paint from several frames meets, and where it meets what is painted now: no seams, no hatching, no stairs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from paintover.server.animation.frame import Gathered, Source, antialiased, gather
from paintover.server.animation.match import Match, Sight
from paintover.server.animation.repair import repair

from .wall_and_post import POST, SIDE, WALL, passes


def plain(object_id: int = WALL) -> Sight:
    """One surface, without silhouettes, or the background."""
    ids = np.full((SIDE, SIDE), object_id, np.uint16)
    depth = np.full((SIDE, SIDE), 5.0 if object_id else np.inf, np.float32)
    return Sight.of(dataclasses.replace(passes(1), object_id=ids, depth=depth))


def shown(sight: Sight, shade: float, seen: torch.Tensor) -> Source:
    """A frame of one shade, seen where it is where it was."""
    x = (torch.arange(SIDE) + 0.5).expand(SIDE, SIDE)
    found = Match(x, x.T.contiguous(), seen, sight.depth)
    return Source(torch.full((SIDE, SIDE, 3), shade), sight, torch.ones(SIDE, SIDE), found)


def test_paint_fades_in_from_where_it_begins() -> None:
    here, everywhere = plain(), torch.ones(SIDE, SIDE, dtype=torch.bool)
    half = everywhere.clone()
    half[:, : SIDE // 2] = False
    gathered = gather(here, [shown(here, 0.0, everywhere), shown(here, 1.0, half)])
    row = gathered.color[SIDE // 2, :, 0]
    assert row[: SIDE // 2].max() == 0
    assert row[SIDE // 2] < 0.05
    assert torch.allclose(row[-SIDE // 4 :], torch.tensor(0.5))
    assert row.diff().min() >= 0


def test_paint_that_is_seen_here_and_there_does_not_hatch() -> None:
    here, everywhere = plain(), torch.ones(SIDE, SIDE, dtype=torch.bool)
    stripes = everywhere.clone()
    stripes[(torch.arange(SIDE)[:, None] + torch.arange(SIDE)) % 4 < 2] = False
    gathered = gather(here, [shown(here, 0.0, everywhere), shown(here, 1.0, stripes)])
    assert gathered.color.max() < 0.05
    alone = gather(here, [shown(here, 1.0, stripes)])
    assert torch.equal(alone.open, ~stripes)  # for want of better it is taken
    assert (alone.color[stripes] == 1).all()


def test_the_mean_of_two_textures_is_as_rough_as_they_are() -> None:
    here, everywhere = plain(), torch.ones(SIDE, SIDE, dtype=torch.bool)
    sources = []
    for seed in (1, 2):
        texture = 0.5 + 0.1 * torch.randn(SIDE, SIDE, 1, generator=torch.Generator().manual_seed(seed))
        sources.append(dataclasses.replace(shown(here, 0.0, everywhere), picture=texture.expand(SIDE, SIDE, 3)))
    both = gather(here, sources).color
    assert 0.085 < both.std() < 0.115  # their mean: 0.07
    same = gather(here, [sources[0], sources[0]]).color
    assert torch.allclose(same, gather(here, [sources[0]]).color, atol=1e-3)


def repaired(canvas: int, painting: int, hole: np.ndarray, sight: Sight) -> np.ndarray:
    known = torch.full((SIDE, SIDE, 3), canvas / 255)
    task = repair(Gathered(known, torch.tensor(hole), torch.ones(SIDE, SIDE)), sight)
    return task.put_in(np.full((SIDE, SIDE, 3), painting, np.uint8))[..., 0].astype(int)


def test_what_is_painted_in_takes_on_the_tone_around_it() -> None:
    hole = np.zeros((SIDE, SIDE), bool)
    hole[SIDE // 4 : SIDE // 2, SIDE // 4 : SIDE // 2] = True
    found = repaired(100, 140, hole, plain(0))
    assert np.abs(found - 100).max() <= 6
    assert (found[~hole] == 100).mean() > 0.9


@pytest.mark.parametrize(("object_id", "half_way"), [(0, SIDE / 4), (WALL, SIDE / 16)])
def test_far_from_what_is_known_a_painting_keeps_its_tone(object_id: int, half_way: float) -> None:
    hole = np.ones((SIDE, SIDE), bool)
    hole[:, : SIDE // 4] = False
    row = repaired(100, 140, hole, plain(object_id))[SIDE // 2]
    assert (row[: SIDE // 4 - 4] == 100).all()
    assert 110 < row[round(SIDE / 4 + half_way)] < 130
    assert row[-1] > 120
    assert np.diff(row).min() >= 0


def test_another_surface_gives_no_tone() -> None:
    sight = Sight.of(passes(1))
    hole = (sight.object_id == POST).numpy()
    assert (repaired(100, 140, hole, sight)[hole] == 140).all()


def test_stairs_along_silhouettes_are_softened_and_nothing_else() -> None:
    sight = Sight.of(passes(1))
    image = np.where(sight.object_id.numpy() == POST, 200, 100)[..., None].repeat(3, -1).astype(np.uint8)
    image[0, 0] = 0  # detail within a surface
    soft = antialiased(image, sight)
    edge = sight.from_edge.numpy() == 1
    assert np.array_equal(soft[~edge], image[~edge])
    inner = edge & (np.indices(edge.shape)[0] > 1)
    assert set(soft[inner][:, 0]) == {125, 175}
