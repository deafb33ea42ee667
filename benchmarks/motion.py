"""Are motion and validity exact? What the add-on draws and the server makes of it, against the scenes' own equations.

Scenes whose every surface point is known in closed form at any time: a camera that moves, rigid things that move and
turn, a mesh that deforms, an armature. Frames 1 and 9 (a keyframe's distance) are drawn by the add-on's route; at
random pixels of frame 9 the truth is worked out in numpy from the scene's numbers alone: the depth pass is the only
thing taken from Blender, to say which point is seen. Where that point was in frame 1 follows from the equation of its
motion; whether it is seen there, from rays that Blender casts at it in frame 1.

- `motion_px_median`, `motion_px_p99`: pixels between the link's place and the true one.
- `validity_precision`, `validity_recall`: of the pixels that matching calls seen, the share that are, and the reverse;
  pixels at silhouettes count, too.

Run: python -m benchmarks.motion [SCENE …]
It draws in Blender's Python: PAINTOVER_BLENDER_PYTHON, or the one that scripts/test has set up in .blender/4.5.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from paintover.bridge.scene import Camera, Passes
from paintover.bridge.shot import Link
from paintover.server.animation.match import Match, Sight, match

from .report import Result, report

ROOT = Path(__file__).parent.parent
SCENES = ("camera", "rigid", "deforming", "armature")


def look(name: str, folder: Path) -> tuple[Match, Link, dict[str, np.ndarray]]:
    """A scene drawn in Blender, and its two frames matched."""
    python = os.environ.get("PAINTOVER_BLENDER_PYTHON") or str(ROOT / ".blender" / "4.5" / "bin" / "python")
    command = [python, "-m", "benchmarks.motion_scenes", name, str(folder / f"{name}.npz")]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, timeout=1800)
    data = dict(np.load(folder / f"{name}.npz"))
    sights = []
    for when in ("now", "then"):
        height, width = data[f"{when}_depth"].shape
        camera = Camera(name, data[f"{when}_view"], data[f"{when}_projection"], width, height)
        arrays = (data[f"{when}_{array}"] for array in ("depth", "normal", "edge", "object_id"))
        sights.append(Sight.of(Passes(camera, *arrays)))
    link = Link(1, data["link"])
    return match(sights[0], sights[1], link), link, data


def main() -> None:
    torch.set_num_threads(1)
    errors, truths, calls = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for name in sys.argv[1:] or SCENES:
            found, link, data = look(name, Path(folder))
            row, column = data["pixels"].T
            drawn = np.stack([column + 0.5, row + 0.5], -1) + link.place[row, column, :2]
            error = np.linalg.norm(drawn - data["true_place"], axis=1)
            called, true = found.seen.numpy()[row, column], data["true_seen"]
            print(
                f"{name:10} {len(error)} pixels, {true.mean():.0%} seen; motion median {np.median(error):.2g} p99 "
                f"{np.percentile(error, 99):.2g} px; precision {(called & true).sum() / called.sum():.4f} recall "
                f"{(called & true).sum() / true.sum():.4f}",
                flush=True,
            )
            errors.append(error)
            truths.append(true)
            calls.append(called)
    error, true, called = (np.concatenate(values) for values in (errors, truths, calls))
    both = (called & true).sum()
    report("motion", [
        Result("motion_px_median", float(np.median(error)), "px", at_most=0.05),
        Result("motion_px_p99", float(np.percentile(error, 99)), "px", at_most=0.25),
        Result("validity_precision", float(both / called.sum()), "", at_least=0.99),
        Result("validity_recall", float(both / true.sum()), "", at_least=0.99),
        Result("seen_share", float(true.mean()), ""),
        Result("pixels", len(error), ""),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
