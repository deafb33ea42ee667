"""Memory of a shot over its whole way: is it constant in the number of frames?

Run: python -m benchmarks.shot_memory [--frames 48 480]

Real Blender renders a shot of 192 × 128 pixels by a real server with the fake engine, once with few frames and once
with many, each with processes of its own; then what each of them held at its peak (its VmHWM, that is resident memory
with what is shared) is read.

- `memory_ratio`: the largest of the three ratios of many frames against few.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import build_addon
from tests.end_to_end.conftest import Blender
from tests.end_to_end.film import CONNECT, FILM
from tests.server_process import running

from .report import Result, report
from .shots import blender_python

FEW, MANY = 48, 480
SHOOT = """
scene.frame_end = {frames}
settings.steps, settings.animate_interval = 1, 8
tell(painted=list(bpy.ops.paintover.render_shot()))
tell(memory=int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024)
"""


def peak(pid: int) -> float:
    """MB."""
    return int(Path(f"/proc/{pid}/status").read_text(encoding="ascii").split("VmHWM:")[1].split()[0]) / 1024


def measure(frames: int) -> dict[str, float]:
    """Peaks of the server's two processes and of Blender, in MB."""
    script = (FILM + CONNECT + SHOOT.format(frames=frames)).replace("(8, 1.0)", f"({frames}, 1.0)")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "blender").mkdir()
        blender = Blender(folder / "blender", build_addon.build(folder / "dist"), blender_python())
        with running(folder / "server", "fake", "--no-standby") as server:
            told = blender.run(script, port=server.port, timeout=1800)
            assert told["painted"] == ["FINISHED"], told
            assert len(list((folder / "blender" / "frames").glob("*.png"))) == frames
            return {
                "front": peak(server.process.pid),
                "worker": peak(server.worker().pid),
                "blender": told["memory"],
            }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shot_memory", description=__doc__)
    parser.add_argument("--frames", type=int, nargs=2, default=(FEW, MANY))
    few, many = (measure(frames) for frames in parser.parse_args().frames)
    ratios = {name: many[name] / few[name] for name in few}
    report(
        "shot_memory",
        [
            Result("memory_ratio", max(ratios.values()), "", at_most=1.05),
            *(Result(f"{name}_ratio", ratio, "") for name, ratio in ratios.items()),
            *(Result(f"{name}_mb", megabytes, "MB") for name, megabytes in many.items()),
        ],
    )


if __name__ == "__main__":
    main()
