"""Does a known texture survive the way through views and back? A ring behind a box, 8 cameras at ±30°, 1024².

Run: python -m benchmarks.bake
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from paintover.bridge.scene import Passes
from paintover.server.texturing.bake import Texture, bake
from paintover.server.texturing.gather import PaintedView, gather

from . import ring
from .report import Result, median_seconds, report

TEXTURES = {"smooth": ring.waves(96), "fine": ring.waves(32), "hard": ring.checks}


@dataclass(frozen=True)
class Scene:
    """The mesh, what its cameras see, the pictures of every texture, and which texels count."""

    mesh: ring.MeshData
    passes: list[Passes]
    pictures: dict[str, list[np.ndarray]]
    visible: np.ndarray


def render() -> Scene:
    """The ground truth: every camera's passes and pictures, without the code under test."""
    mesh, soup = ring.scene()
    cameras = ring.cameras()
    with ThreadPoolExecutor() as pool:
        rendered = list(pool.map(lambda camera: ring.render_colors(soup, camera, list(TEXTURES.values())), cameras))
    pictures = {name: [images[i] for images, _ in rendered] for i, name in enumerate(TEXTURES)}
    visible = ring.visible_texels([(camera, depth) for camera, (_, depth) in zip(cameras, rendered, strict=True)])
    return Scene(mesh, [ring.render_passes(soup, camera) for camera in cameras], pictures, visible)


def truth(name: str) -> np.ndarray:
    """The texture itself, (ISLAND, ISLAND, 3): the mean over 4 × 4 points in each texel."""
    colors = TEXTURES[name](*ring.texel_grid(4))
    return colors.reshape(ring.ISLAND, 4, ring.ISLAND, 4, 3).mean((1, 3))


def baked(scene: Scene, name: str, bits8: bool = False) -> Texture:
    """The bake from the pictures of one texture; with bits8, from pictures rounded to 8 bits."""
    pictures = scene.pictures[name]
    if bits8:
        pictures = [(picture * 255 + 0.5).astype(np.uint8) for picture in pictures]
    views = [PaintedView.of(p, image) for p, image in zip(scene.passes, pictures, strict=True)]
    return bake(scene.mesh, views, ring.SIZE)


def island(image: np.ndarray) -> np.ndarray:
    """The ring's part of a texture-sized array."""
    margin = (ring.SIZE - ring.ISLAND) // 2
    return image[margin:-margin, margin:-margin]


def decibels(squared: np.ndarray) -> float:
    """PSNR for a peak of 1."""
    return -10 * math.log10(float(squared.mean()))


def quality(texture: Texture, expected: np.ndarray) -> tuple[float, float]:
    """PSNR over the painted texels, and over the best 99 % of them."""
    squared = (island(texture.image).astype(np.float64) - expected) ** 2
    errors = squared.mean(-1)[island(texture.painted)]
    return decibels(errors), decibels(np.sort(errors)[: int(0.99 * len(errors))])


def cross_view(scene: Scene, name: str) -> float:
    """How well two views agree on a texel to which both contribute (≥ 10 % of its largest weight), as PSNR."""
    s, t = ring.texel_grid()
    points = torch.from_numpy(ring.facet_point(s, t).reshape(-1, 3)).float()
    normals = torch.from_numpy(ring.ring_point(s, t)[1].reshape(-1, 3)).float()
    single = [
        gather(points, normals, [PaintedView.of(p, image)], object_id=ring.RING)
        for p, image in zip(scene.passes, scene.pictures[name], strict=True)
    ]
    most = torch.stack([found.weight for found in single]).amax(0)
    counts = [(found.weight >= 0.1 * most) & (found.facing > 0) for found in single]
    squared = []
    for i, first in enumerate(single):
        for j in range(i):
            both = counts[i] & counts[j]
            squared.append((first.color - single[j].color)[both].double().square().mean(1))
    return decibels(torch.cat(squared).numpy())


def main() -> None:
    """Measure and report."""
    scene = render()
    results = []
    for name, bar in (("smooth", 50.0), ("fine", None), ("hard", None)):
        texture, expected = baked(scene, name), truth(name)
        whole, trimmed = quality(texture, expected)
        results += [
            Result(f"trimmed_psnr_{name}_db", trimmed, "dB", at_least=bar),
            Result(f"psnr_{name}_db", whole, "dB"),
        ]
    smooth = baked(scene, "smooth")
    covered = (island(smooth.painted) & scene.visible).sum() / scene.visible.sum()
    rounded = baked(scene, "smooth", bits8=True)
    seconds = median_seconds(lambda: baked(scene, "smooth"))
    megatexel_views = smooth.report.inside / 1e6 * len(scene.passes)
    results += [
        Result("trimmed_psnr_smooth_8bit_db", quality(rounded, truth("smooth"))[1], "dB"),
        Result("smooth_standard_deviation", float(truth("smooth").std()), "", at_least=0.15),
        Result("coverage", float(covered), "of visible texels", at_least=0.985),
        Result("cross_view_psnr_db", cross_view(scene, "smooth"), "dB", at_least=60.0),
        Result("seconds_per_megatexel_view", seconds / megatexel_views, "s", at_most=0.5),
    ]
    report("bake", results)


if __name__ == "__main__":
    main()
