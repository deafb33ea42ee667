"""How well is a painted frame brought to the view of now? An orbit of 2° a frame at 512², painted at every sixth frame.

The "paint" is a pattern of several octaves, fixed to the surfaces (and a sky, to directions), so that a fresh painting
of the same content can be computed exactly in every view. The error is the mean absolute one over whole pictures, of
all frames, with all that was hidden or outside the frame when it was painted; it is set against that of holding the
painted frame. Reprojection gets 8-bit pictures, as from a server. In `moving` objects turn and fly meanwhile; `late` is
the first scene with paintings that arrive one painting's time after their moment (6 to 11 frames old when shown).

Milliseconds are those of drawing into a picture on the graphics card (without a card: Mesa in software), waited for.

Run: python -m benchmarks.reproject [--frames N] [--pictures FOLDER]
It goes on in Blender's Python, as benchmarks.passes does.
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


def inside() -> None:
    """The part in Blender."""
    import build_addon

    stage = tempfile.TemporaryDirectory(prefix="paintover-stage-")
    build_addon.stage(Path(stage.name))
    sys.path.insert(0, stage.name)
    from . import reproject_scenes
    from .report import Result, report

    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--pictures", type=Path)
    options = parser.parse_args()
    found: dict[str, Any] = {}
    for name in ("still", "columns", "moving"):
        found[name] = reproject_scenes.orbit(name, options.frames, folder=options.pictures)
    found["late"] = reproject_scenes.orbit("still", options.frames, late=6)
    results = [
        Result("error_over_hold", max(found[name].over_hold for name in ("still", "columns")), "", at_most=1 / 3),
        *(Result(f"error_over_hold_{name}", one.over_hold, "") for name, one in found.items()),
        *(Result(f"rms_over_hold_{name}", one.rms_over_hold, "") for name, one in found.items()),
        *(Result(f"error_{name}", one.error * 255, "of 255") for name, one in found.items()),
        *(Result(f"known_{name}", one.known, "of the pixels were painted, not filled") for name, one in found.items()),
        Result("error_where_known", found["still"].error_known * 255, "of 255"),
        Result("milliseconds", found["still"].milliseconds, "ms"),
    ]
    report("reproject", results)
    sys.stdout.flush()
    os._exit(0)  # some Blenders hang at their exit as a Python module


def main() -> None:
    """Measure and report."""
    if importlib.util.find_spec("bpy"):
        inside()
        return
    python = os.environ.get("PAINTOVER_BLENDER_PYTHON") or str(ROOT / ".blender" / "4.5" / "bin" / "python")
    sys.exit(subprocess.run([python, "-m", "benchmarks.reproject", *sys.argv[1:]], cwd=ROOT).returncode)


if __name__ == "__main__":
    main()
