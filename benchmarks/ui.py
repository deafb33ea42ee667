"""Does Blender stay responsive while jobs run? Five objects of 16,000 triangles, 1024² textures from 4 views of 256²,
then camera views at 512², painted by mini in a real server; Debian's Blender with a window, drawn without a GPU.

Every piece of work that Paintover does on Blender's main thread is timed: each tick of its timer, each operator, each
panel that is drawn. Rendering passes (one view a tick, by Cycles) is taken out and reported by itself. Beside that,
the gaps between the beats of a 5 ms timer show how long Blender's main loop was away for whatever reason, drawing
included: idle, with nothing but the sidebar drawn again and again, and while jobs run.

Run: python -m benchmarks.ui   (as root, after scripts/test tests/window has set up .blender/window)
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import build_addon

from .report import Result, report

ROOT = Path(__file__).parent.parent
os.environ.setdefault("PAINTOVER_WINDOW", str(ROOT / ".blender" / "window"))

from tests.server_process import TOKEN, running  # noqa: E402
from tests.window import host  # noqa: E402

BASELINE_SECONDS = 4.0
VIEW_JOBS = 2
WORKING_MS = 0.1
"""Pieces of work that take less are the timer's ticks that find nothing to do."""

Event = tuple[str, str, float, str]


def session(work: Path) -> list[Event]:
    """Run the whole session; returns what ui_scene.py timed: phase, what, milliseconds, detail."""
    addon = build_addon.build(work / "dist")
    with running(work / "server", engine="diffusers") as server:
        plan = {"port": server.port, "token": TOKEN}
        blender = host.Windowed(work / "blender", Path(__file__).with_name("ui_scene.py"), addon, plan)
        try:
            blender.wait_for(lambda state: True, "Blender")
            blender.open_tab()
            baselines(blender)
            jobs(blender)
            blender.do("scene.save()")
        finally:
            blender.close()
    events: list[Event] = [tuple(event) for event in json.loads((work / "blender" / "events.json").read_text())]
    return events


def baselines(blender: host.Windowed) -> None:
    """Blender without Paintover's jobs: doing nothing, and drawing the sidebar again and again."""
    for phase in ("idle", "redraw"):
        blender.do(f"scene.begin({phase!r})")
        time.sleep(BASELINE_SECONDS)


def jobs(blender: host.Windowed) -> None:
    """The texture job, then camera views."""
    blender.do("bpy.ops.paintover.connect()")
    blender.wait_for(lambda state: state["paintover"]["online"], "the connection")
    blender.do("scene.begin('jobs')")
    blender.do("bpy.ops.paintover.texture()")
    wait_for_job(blender, 1)
    blender.do("bpy.context.scene.paintover.size = 512")
    for number in range(VIEW_JOBS):
        blender.do("bpy.ops.paintover.render_view()")
        wait_for_job(blender, number + 2)


def wait_for_job(blender: host.Windowed, number: int) -> None:
    """Wait until that many jobs are over, the last one well."""

    def over(state: dict[str, Any]) -> bool:
        tasks = state["paintover"]["tasks"]
        return len(tasks) == number and tasks[-1]["state"] in {"DONE", "FAILED", "CANCELLED"}

    state = blender.wait_for(over, f"job {number}", timeout=300)
    task = state["paintover"]["tasks"][-1]
    if task["state"] != "DONE":
        sys.exit(f"A job ended otherwise: {task}")


def results(events: list[Event]) -> list[Result]:
    """The figures, in milliseconds."""

    def times(wanted: Callable[[str, str], bool]) -> np.ndarray:
        return np.array([ms for phase, what, ms, _ in events if wanted(phase, what)])

    work = times(lambda phase, what: phase == "jobs" and what in {"tick", "operator", "draw"})
    passes = times(lambda phase, what: phase == "jobs" and what == "passes")
    gaps = {phase: times(lambda p, what, phase=phase: p == phase and what == "gap") for phase in ("idle", "redraw")}
    gaps["jobs"] = times(lambda phase, what: phase == "jobs" and what == "gap")
    held = [what for phase, what, _, _ in events if phase == "jobs" and what in {"tick", "passes"}]
    together = "".join("p" if what == "passes" else " " for what in held).split()
    found = [
        Result("stall_p99_ms", float(np.percentile(work, 99)), "ms", at_most=20),
        Result("stall_max_ms", float(work.max()), "ms", at_most=100),
        Result("stall_p99_of_working_ms", float(np.percentile(work[work > WORKING_MS], 99)), "ms"),
        Result("pieces_of_work", len(work), ""),
        Result("views_in_a_tick", max(len(views) for views in together), "", at_most=1),
        Result("passes_median_ms", float(np.median(passes)), "ms"),
        Result("passes_max_ms", float(passes.max()), "ms"),
    ]
    for phase, values in gaps.items():
        found.append(Result(f"loop_gap_{phase}_p99_ms", float(np.percentile(values, 99)), "ms"))
        found.append(Result(f"loop_gap_{phase}_max_ms", float(values.max()), "ms"))
    return found


def main() -> None:
    """Measure and report."""
    with tempfile.TemporaryDirectory(prefix="paintover-ui-") as folder:
        events = session(Path(folder))
    for phase, what, ms, detail in sorted(events, key=lambda event: -event[2]):
        if phase == "jobs" and what in {"tick", "operator", "draw"} and ms > 10:
            print(f"{ms:7.1f} ms  {what}: {detail}")
    report("ui", results(events))


if __name__ == "__main__":
    main()
