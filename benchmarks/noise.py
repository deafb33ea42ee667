"""Is noise that sticks to surfaces still Gaussian, and does it stick? 60 frames of a shot of rigid things, 512².

Run: python -m benchmarks.noise [SHOT] [--frames N] [--size N]

The shot is rendered in real Blender (benchmarks/shots_scenes.py, “still”: scales stay within 10 %). Every frame's noise
comes from its keyframe's, and every keyframe's from the one before, as when a shot is painted.

- `ks_pass_share`: share of frames whose latent noise passes Kolmogorov–Smirnov against the normal distribution at 1 %.
- `morans_i_over_gaussian`: largest |Moran's I| of the frames' latents (four neighbours, mean over the channels) over
  the largest of as many frames of plain Gaussian noise.
- `surface_correlation`: correlation with the noise of frame 1 at image resolution, over the pixels that the exact link
  to frame 1 says are visible there; the lowest of all frames.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy import stats

from paintover.server.animation import noise
from paintover.server.animation.match import Sight, at, match

from .report import Result, report
from .shots import Shot

SEED = 7


def morans_i(latents: np.ndarray) -> float:
    """|Moran's I| of (C, h, w) with weight 1 between four-neighbours, mean over the channels of I, absolute."""
    values = latents - latents.mean(axis=(1, 2), keepdims=True)
    pairs = (values[:, 1:] * values[:, :-1]).sum(axis=(1, 2)) + (values[:, :, 1:] * values[:, :, :-1]).sum(axis=(1, 2))
    count = values[0, 1:].size + values[0, :, 1:].size
    variance = (values**2).mean(axis=(1, 2))
    return float(abs((pairs / count / variance).mean()))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.noise", description=__doc__)
    parser.add_argument("shot", nargs="?", default="still")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--size", type=int, default=512)
    options = parser.parse_args()
    shot = Shot(options.shot, options.frames, options.size, options.size)
    rng = np.random.default_rng(SEED)
    first = Sight.of(shot.passes(1))
    origins = {1: noise.fresh(1, options.size, options.size)}
    start = noise.gaussian(origins[1], SEED).reshape(-1, noise.CHANNELS)
    sights = {1: first}
    passed, index, plain, correlations, seen, deviations = [], [], [], [], [], []
    for place in shot.places():
        number, before = place.number, place.before
        here = Sight.of(shot.passes(number))
        if before is not None:
            found = match(here, sights[before], shot.link(number, before))
            origin = noise.follow(number, here, sights[before], found, origins[before])
            field = noise.gaussian(origin, SEED)
            exact = match(here, first, shot.link(number, 1))
            visible = exact.seen.numpy()
            there = start[at(first, exact).numpy()[visible]]
            correlations.append(float(np.corrcoef(field[visible].ravel(), there.ravel())[0, 1]))
            seen.append(float(visible.mean()))
            if place.key:
                sights, origins = {number: here, before: sights[before]}, {number: origin, before: origins[before]}
        else:
            field = start.reshape(options.size, options.size, -1)
        latents = noise.to_latents(field)
        passed.append(stats.kstest(latents.ravel(), "norm").pvalue > 0.01)
        deviations.append(abs(float(latents.std()) - 1))
        index.append(morans_i(latents))
        plain.append(morans_i(rng.standard_normal(latents.shape)))
    report("noise", [
        Result("ks_pass_share", float(np.mean(passed)), "", at_least=0.95),
        Result("morans_i_over_gaussian", max(index) / max(plain), "", at_most=1.2),
        Result("morans_i", max(index), "(largest)"),
        Result("morans_i_gaussian", max(plain), "(largest of plain noise)"),
        Result("surface_correlation", min(correlations), "", at_least=0.9),
        Result("surface_correlation_mean", float(np.mean(correlations)), ""),
        Result("seen_in_frame_1", min(seen), "(least share of the pixels)"),
        Result("deviation_from_1", max(deviations), "(largest, of the latents' standard deviation)"),
        Result("frames", len(passed), ""),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
