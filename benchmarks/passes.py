"""Are passes exact, and how fast? Scenes with what can go wrong, against rays; speed against Blender's own engines.

Every scene is drawn by the graphics card's route (without a card: by Mesa in software), at 6,000 random pixel centres
compared with Blender's own ray casts, the hit triangle intersected again in double precision. Pixels next to a
silhouette are left out. The figures with bars are those of the worst scene. Edges are compared with the lines of
analytic solids, and followed through frames in which the solids turn.

Run: python -m benchmarks.passes [SCENE …] [--pixels N] [--pictures FOLDER] [--only PART …]
PARTS: accuracy, edges, speed, growth
It goes on in Blender's Python: PAINTOVER_BLENDER_PYTHON, or the one that scripts/test has set up in .blender/4.5.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PARTS = ("accuracy", "edges", "speed", "growth")
BARS = {
    "hit_mismatch": ("", 0.001),
    "id_mismatch": ("", 0.001),
    "depth_rel_median": ("", 1e-6),
    "depth_rel_p99": ("", 1e-4),
    "normal_deg_median": ("°", 0.05),
    "normal_deg_p99": ("°", 1.0),
    "flat_normal_deg_p99": ("°", None),
    "motion_px_median": ("px", 0.01),
    "motion_px_p99": ("px", 0.1),
}


def accuracy(names: list[str], pixels: int, folder: Path | None) -> list[Any]:
    """Worst scene by figure; prints every scene."""
    from . import passes_accuracy
    from .report import Result

    worst: dict[str, float] = dict.fromkeys(BARS, 0.0)
    cycles: dict[str, float] = {}
    fewest = pixels
    for name in names:
        seen = passes_accuracy.look(name, pixels)
        errors = passes_accuracy.compare(seen)
        fewest = min(fewest, errors.pixels)
        found = errors.bars()
        print(f"{name:26}", errors.pixels, " ".join(f"{key} {value:.2g}" for key, value in found.items()), flush=True)
        worst = {key: max(value, found[key]) for key, value in worst.items()}
        if folder:
            pictures(seen.frame, folder / f"{name}.png")
        second = passes_accuracy.against_cycles(name)
        print(f"{'':26} Cycles:", " ".join(f"{key} {value:.2g}" for key, value in second.items()), flush=True)
        cycles = {key: max(value, cycles.get(key, 0.0)) for key, value in second.items()}
    return [
        *(Result(key, worst[key], unit, at_most=bar) for key, (unit, bar) in BARS.items()),
        Result("scenes", len(names), "", at_least=12),
        Result("fewest_pixels_compared", fewest, "", at_least=4000),
        *(Result(f"against_cycles_{key}", value, "") for key, value in cycles.items()),
    ]


def pictures(frame: Any, path: Path) -> None:
    """Depth, normals, ids and motion in one picture, for the eye."""
    import numpy as np

    from paintover.operators import export_passes
    from paintover.passes import pictures as draw
    from paintover.passes.assemble import assemble

    seen = assemble(frame.camera, frame.depth, frame.normal, frame.object_id, None, frame.names)
    found = draw.of_passes(seen)
    upper = np.concatenate([found["depth"], found["normal"]], 1)
    lower = np.concatenate([found["object_id"], draw.motion_colors(frame.motion)], 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    export_passes.save_png(np.concatenate([upper, lower]).astype(np.float32), path)


def inside() -> None:
    """The part in Blender."""
    import build_addon

    stage = tempfile.TemporaryDirectory(prefix="paintover-stage-")
    build_addon.stage(Path(stage.name))
    sys.path.insert(0, stage.name)
    from . import passes_edges, passes_growth, passes_scenes, passes_speed
    from .report import report

    parser = argparse.ArgumentParser()
    parser.add_argument("scenes", nargs="*", default=list(passes_scenes.SCENES))
    parser.add_argument("--pixels", type=int, default=6000)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--only", nargs="+", default=list(PARTS), choices=PARTS)
    options = parser.parse_args()
    results = []
    if "speed" in options.only:
        results += [*passes_speed.against_engines(), *passes_speed.unchanged(), *passes_speed.instances()]
    if "edges" in options.only:
        results += [*passes_edges.accuracy(), passes_edges.flicker()]
    if "growth" in options.only:
        results += passes_growth.growth()
    if "accuracy" in options.only:
        results += accuracy(options.scenes, options.pixels, options.pictures)
    report("passes", results)


def main() -> None:
    """Measure and report."""
    if importlib.util.find_spec("bpy"):
        inside()
        return
    python = os.environ.get("PAINTOVER_BLENDER_PYTHON") or str(ROOT / ".blender" / "4.5" / "bin" / "python")
    sys.exit(subprocess.run([python, "-m", "benchmarks.passes", *sys.argv[1:]], cwd=ROOT).returncode)


if __name__ == "__main__":
    main()
