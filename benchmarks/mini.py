"""Does mini paint what it is asked for, where it is asked for? 200 scenes that its training never saw, as shipped.

Run: python -m benchmarks.mini [--sheet FILE.png]      (needs the extra "train": the scenes are rendered with numba)

Pictures are painted by the engine itself with mini's own defaults at 256², 12 steps, prompt “a MATERIAL object”; for
mini-turbo with its defaults, 2 steps. Every material is asked for in turn.

- `material_accuracy`: share of pictures whose material the judge names first, inside the object. The judge is a
  classifier trained on rendered scenes of other seeds; its accuracy on this benchmark's own renders stands beside it.
- `edge_f1`: over the pictures of plain colours (patterns have edges of their own): edges found in the picture (Canny
  1986: Gaussian 1.2 pixels, Sobel, ridges above 0.15 of full contrast) against the scene's geometry edges, a match
  within 2 pixels. `edge_f1_over_shuffled`: divided by the same against another scene's edges.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from paintover.bridge.messages import Generate
from paintover.bridge.parameters import CONTROLS, Settings
from paintover.bridge.scene import Camera, Passes
from paintover.server import models
from paintover.server.pipelines.engine import DiffusersEngine
from tools.train_mini import classifier, scenes
from tools.train_mini.data import HELD_OUT_SEED
from tools.train_mini.evaluate import edge_f1, find_edges
from tools.train_mini.materials import COLORS, MATERIALS
from tools.train_mini.render import render
from tools.train_mini.sheet import Quiet

from .report import Result, report

SCENES = 200
SIDE = 256
FIRST_SEED = HELD_OUT_SEED + 500_000
"""Scenes from here on were neither trained on nor looked at while training."""
FEW = 60
"""Scenes for figures that are for information."""


@dataclass(frozen=True)
class Scene:
    """What is asked for, and the truth about it."""

    material: int
    passes: Passes
    rendered: np.ndarray
    """uint8 (H, W, 3)."""
    mask: np.ndarray
    """bool (H, W): where the object is."""


def held_out() -> list[Scene]:
    """One scene after the other, asking for each material in turn, whose objects fill 15 to 70 % of the picture."""
    found = []
    seed = itertools.count(FIRST_SEED)
    for number in range(SCENES):
        material = number % len(MATERIALS)
        while len(found) <= number:
            views, tables, counts, contents = scenes.scenes([next(seed)], [scenes.PLAIN], [material])
            out = {name: array[0] for name, array in render(views, tables, counts, SIDE).items()}
            mask = out["material"] == material
            if 0.15 < mask.mean() < 0.7 and contents[0].arrangement != "wall":
                found.append(Scene(material, _passes(out, mask), out["rgb"], mask))
    return found


def _passes(out: dict[str, np.ndarray], mask: np.ndarray) -> Passes:
    camera = Camera("held out", np.eye(4), np.diag([1.0, 1, -1, 1]), SIDE, SIDE)  # no one projects through it
    return Passes(camera, out["depth"], out["normal"].astype(np.float16), out["edge"], mask.astype(np.uint16))


def paint(
    engine: DiffusersEngine, entry: models.ModelEntry, some: list[Scene], **changes: object
) -> Iterator[np.ndarray]:
    """A picture for each scene, with the model's defaults, its seed being the scene's number."""
    for number, scene in enumerate(some):
        values = {**entry.defaults, "model": entry.name, "prompt": f"a {MATERIALS[scene.material]} object"}
        settings = Settings.from_mapping({"control_depth": False, **values, "seed": number, **changes})
        yield engine.paint(Generate(settings, SIDE, SIDE, scene.passes), Quiet()).image


def accuracy(judge: classifier.Classifier, some: list[Scene], pictures: list[np.ndarray]) -> float:
    """Share of the pictures whose material the judge names first."""
    ranks = classifier.name_materials(judge, pictures, [scene.mask for scene in some])
    return float(np.mean([rank[0] == scene.material for rank, scene in zip(ranks, some, strict=True)]))


def edges(some: list[Scene], pictures: list[np.ndarray]) -> tuple[float, float]:
    """Mean edge F1 over the plain colours, against each picture's own scene and against another's."""
    pairs = [pair for pair in zip(pictures, some, strict=True) if pair[1].material < len(COLORS)]
    plain = [(find_edges(picture), scene.passes.edge > 0) for picture, scene in pairs]
    own = [edge_f1(found, true) for found, true in plain]
    other = [edge_f1(found, plain[(i + 1) % len(plain)][1]) for i, (found, _) in enumerate(plain)]
    return statistics.mean(own), statistics.mean(other)


def seconds_per_image(engine: DiffusersEngine, scene: Scene) -> float:
    """Median of five pictures at mini's defaults, 12 steps."""
    times = []
    for _ in range(6):
        started = time.perf_counter()
        list(paint(engine, models.MINI, [scene], steps=12))
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def write_sheet(some: list[Scene], *columns: list[np.ndarray], path: Path) -> None:
    """Rendered and painted pictures side by side, four groups a row."""
    groups = [np.concatenate(group, 1) for group in zip([s.rendered for s in some], *columns, strict=True)]
    rows = [np.concatenate(groups[i : i + 4], 1) for i in range(0, len(groups) - 3, 4)]
    Image.fromarray(np.concatenate(rows)).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mini", description=__doc__)
    parser.add_argument("--sheet", type=Path, help="also write the pictures: rendered, mini, mini-turbo")
    options = parser.parse_args()
    some, judge, engine = held_out(), classifier.shipped(), DiffusersEngine("cpu")
    torch.manual_seed(0)
    painted = list(paint(engine, models.MINI, some, steps=12))
    own, other = edges(some, painted)
    truth_own, _ = edges(some, [scene.rendered for scene in some])
    results = [
        Result("edge_f1", own, "", at_least=0.6),
        Result("edge_f1_over_shuffled", own / other, "", at_least=2),
        Result("edge_f1_rendered", truth_own, "(the renders themselves)"),
        Result("material_accuracy", accuracy(judge, some, painted), "", at_least=0.8),
        Result("judge_accuracy", accuracy(judge, some, [s.rendered for s in some]), "(on the renders themselves)"),
        Result("seconds_per_image_12_steps", seconds_per_image(engine, some[0]), "s", at_most=4),
    ]
    quick = list(paint(engine, models.MINI_TURBO, some, steps=2))
    results.append(Result("turbo_material_accuracy", accuracy(judge, some, quick), "", at_least=0.7))
    results.append(Result("turbo_edge_f1", edges(some, quick)[0], ""))
    few = some[:FEW]
    for control in CONTROLS:
        chosen = {f"control_{name}": name == control for name in CONTROLS}
        pictures = list(paint(engine, models.MINI, few, steps=12, **chosen))
        results.append(Result(f"{control}_material_accuracy_{FEW}", accuracy(judge, few, pictures), ""))
        results.append(Result(f"{control}_edge_f1_{FEW}", edges(few, pictures)[0], ""))
    if options.sheet:
        write_sheet(few, painted[:FEW], quick[:FEW], path=options.sheet)
    report("mini", results)


if __name__ == "__main__":
    main()
