"""Noise that sticks to surfaces and stays Gaussian."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from scipy import stats

from paintover.server.animation import noise
from paintover.server.animation.match import Sight, match

from .wall_and_post import POST, SIDE, WALL, link, passes


def test_fresh_noise_is_normal_and_independent() -> None:
    field = noise.gaussian(noise.fresh(1, 256, 256), seed=3)
    assert stats.kstest(field.ravel(), "norm").pvalue > 0.01
    assert abs(np.corrcoef(field.reshape(-1, 4).T) - np.eye(4)).max() < 0.02
    assert abs(np.corrcoef(field[:-1].ravel(), field[1:].ravel())[0, 1]) < 0.01
    other = noise.gaussian(noise.fresh(2, 256, 256), seed=3)
    assert abs(np.corrcoef(field.ravel(), other.ravel())[0, 1]) < 0.01
    assert abs(np.corrcoef(field.ravel(), noise.gaussian(noise.fresh(1, 256, 256), seed=4).ravel())[0, 1]) < 0.01
    latents = noise.to_latents(field)
    assert latents.shape == (4, 32, 32)
    assert abs(latents.std() - 1) < 0.05


def test_noise_goes_with_its_surface() -> None:
    here, there = Sight.of(passes(9)), Sight.of(passes(1))
    found = match(here, there, link(9, 1))
    before = noise.fresh(1, SIDE, SIDE)
    origin = noise.follow(9, here, there, found, before)
    field, first = noise.gaussian(origin, 5), noise.gaussian(before, 5)
    seen = found.seen.numpy()
    row, column = np.nonzero(seen)
    assert np.array_equal(field[row, column], first[row, found.x.numpy()[row, column].astype(int)])
    assert {POST, WALL} <= set(here.object_id.numpy()[seen].tolist())
    assert (origin[..., 2][~seen] == 9).all()


def test_over_many_keyframes_origins_do_not_drift() -> None:
    before = origin = noise.fresh(1, SIDE, SIDE)
    for number in range(2, 12):  # the wall moves by half a pixel each time
        here, there = Sight.of(passes(number)), Sight.of(passes(number - 1))
        origin = noise.follow(number, here, there, match(here, there, link(number, number - 1)), origin)
    here, first = Sight.of(passes(11)), Sight.of(passes(1))
    found = match(here, first, link(11, 1))
    known = found.seen.numpy() & (origin[..., 2] == 1)
    assert known.sum() > 1000
    assert np.abs(origin[..., 0][known] - found.x.numpy()[known]).max() < 0.01
    assert np.corrcoef(
        noise.gaussian(origin, 1)[known].ravel(),
        noise.gaussian(before, 1)[found.y.numpy().astype(int)[known], found.x.numpy().astype(int)[known]].ravel(),
    )[0, 1] > 0.99  # fmt: skip


def test_pixels_that_share_an_origin_are_independent_and_add_up_to_it() -> None:
    small = noise.fresh(1, 64, 64)
    large = np.repeat(np.repeat(small, 2, 0), 2, 1)
    field, q = noise.gaussian(large, 2), noise.gaussian(small, 2)
    assert stats.kstest(field.ravel(), "norm").pvalue > 0.01
    a, b = field[::2, ::2].ravel(), field[::2, 1::2].ravel()
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.02
    total = field.reshape(64, 2, 64, 2, 4).sum(axis=(1, 3))
    assert np.allclose(total, 2 * q, atol=1e-5)
