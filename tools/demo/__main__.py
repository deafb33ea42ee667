"""The demo: a real server process, real Blender, a painted scene, and pictures of all of it. Run by scripts/demo."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

import build_addon
from paintover.bridge.paths import read_token
from tools.demo.contact_sheet import contact_sheet

ROOT = Path(__file__).resolve().parent.parent.parent
INSIDE = Path(__file__).parent / "inside_blender.py"
console = Console()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/demo", description="Paint a scene from a prompt, from nothing.")
    parser.add_argument("--prompt", default="", help="what to paint (default: what suits the sample scene)")
    parser.add_argument("--scene", type=Path, help="a .blend to paint instead of the sample scene")
    parser.add_argument("--model", default="mini", help="an installed model (paintover models list)")
    parser.add_argument("--size", type=int, default=0, help="longer side of a painted view (default: the model's own)")
    parser.add_argument("--seed", type=int, default=7, help="the same seed paints the same picture")
    parser.add_argument("--blender", type=Path, help="an installed Blender to use instead of the Python module")
    parser.add_argument("--blender-python", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "demo", help="where the results go")
    return parser.parse_args()


def start_server() -> tuple[subprocess.Popen[str], int]:
    """A server of the demo's own, on a free port; returns it once it listens."""
    log = ROOT / ".build" / "demo-server.log"
    log.parent.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "paintover.server.cli", "serve", "--port", "0"]
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    assert process.stdout is not None
    match = re.search(r":(\d+)$", process.stdout.readline().strip())
    if not match:
        process.wait(10)
        raise SystemExit(f"The server did not start:\n{log.read_text()}\nRun: .venv/bin/paintover doctor")
    return process, int(match[1])


def blender_command(options: argparse.Namespace, plan: Path) -> list[str]:
    if options.blender:
        return [str(options.blender), "--background", "--factory-startup", "--python", str(INSIDE), "--", str(plan)]
    return [str(options.blender_python), str(INSIDE), "--", str(plan)]


def run_blender(command: list[str], environment: dict[str, str]) -> None:
    """Run Blender and show how far it is. A failure ends the demo with Blender's last words."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    said: list[str] = []
    with Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console) as bar:
        task = bar.add_task("Starting Blender", total=1.0)
        for line in process.stdout:
            said.append(line)
            if match := re.match(r"Paintover: +(\d+)% (.*)", line):
                bar.update(task, completed=int(match[1]) / 100, description=match[2])
        bar.update(task, completed=1.0)
    if process.wait():
        console.print("".join(said[-25:]), markup=False, highlight=False)
        raise SystemExit("Blender failed; its last words are above.")


def main() -> None:
    options = arguments()
    started = time.monotonic()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    work = ROOT / ".build" / "demo"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    server, port = start_server()
    try:
        plan: dict[str, Any] = {
            "zip": str(build_addon.build(work)),
            "port": port,
            "token": read_token(),
            "scene": str(options.scene.resolve()) if options.scene else "",
            "prompt": options.prompt,
            "model": options.model,
            "size": options.size,
            "seed": options.seed,
            "out": str(out),
            "work": str(work),
        }
        (work / "plan.json").write_text(json.dumps(plan))
        environment = {**os.environ, "BLENDER_USER_RESOURCES": str(work / "profile"), "PYTHONPATH": str(ROOT)}
        run_blender(blender_command(options, work / "plan.json"), environment)
    finally:
        server.terminate()
        server.wait(20)
    contact_sheet(work, out / "passes.png")
    report = json.loads((work / "report.json").read_text())
    report["seconds"]["total"] = round(time.monotonic() - started, 1)
    (out / "report.json").write_text(json.dumps(report, indent=2))
    for name in ("textured.blend", "textured.glb", "before.png", "after.png", "passes.png", "report.json"):
        console.print(out / name)
    for name, share in report["coverage"].items():
        console.print(f"  {name}: {share:.1%} of its visible surface painted")


if __name__ == "__main__":
    main()
