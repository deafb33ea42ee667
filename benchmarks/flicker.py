"""Does a painted shot hold still? mini at 256², against the same frames painted one by one with a fixed seed.

Run: python -m benchmarks.flicker [--full] [--again] [--sheets FOLDER]     (needs the extra "train", for the judge)

Shots are rendered in real Blender (benchmarks/shots_scenes.py) and painted at mini's defaults, 12 steps. What was
painted is kept in .build/flicker, and only painted anew with --again. Figures are means over shots and prompts, the
ratios of means.

- `e1_ratio`, `e4_ratio`, `e16_ratio`: E_k = Σ M‖I_t − W(I_{t−k})‖² / Σ M along exact correspondences that Blender drew,
  over that of the frames painted by themselves. `vae_e1` …: of the painted shot put through the VAE frame by frame, the
  least that any method can have that decodes every frame. `sharpness_ratio`: mean squared Laplacian inside surfaces.
- `recognised_ratio`: share of a frame's objects whose material the judge (tools/train_mini) names first.
- `prompt_change_frames`: frames from a change of the prompt between two keyframes, not announced as a cut, until the
  judge names the new material for most of the objects.
- `cost_ratio`: processor seconds of both. `memory_ratio`: peak memory of 480 frames over 48, with the fake engine.
- `without_…`, `with_…`: one shot and prompt with one switch otherwise, at 6 steps.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from paintover.server.pipelines import denoise
from paintover.server.pipelines.engine import DiffusersEngine
from tools.train_mini import classifier
from tools.train_mini.materials import MATERIALS

from .flicker_measure import Pictures, sharpness, warp_error
from .flicker_paint import CACHE, Take, as_shot, by_itself, kept, settings
from .report import Result, report
from .shots import ROOT, Shot

FIRST = ("passing", "orbit", "bending")
ALL = (*FIRST, "panning", "turning", "crowd")
PROMPTS = ("lava", "brick")
ALL_PROMPTS = (*PROMPTS, "moss", "wood", "striped")
SIDE, STEPS = 256, 12
BACK = (1, 4, 16)
SWITCHES: dict[str, dict[str, Any]] = {
    "all": {},
    "without_between": {"animate_interval": 1},
    "without_noise": {"animate_noise": False},
    "with_attention": {"animate_attention": True},
    "with_hold_0.6": {"animate_hold": 0.6},
    "with_hold_0.6_deflicker": {"animate_hold": 0.6, "animate_deflicker": 0.5},
    "with_hold_0": {"animate_hold": 0.0},
}
"""Settings that are otherwise in each."""


def recognised(judge: classifier.Classifier, shot: Shot, pictures: Pictures, material: str) -> list[float]:
    """Of every frame: the share of the objects in it whose material is named first."""
    shares = []
    for number, picture in sorted(pictures.items()):
        ids = shot.passes(number).object_id
        masks = [ids == one for one in np.unique(ids[ids > 0]) if (ids == one).sum() > 400]
        ranks = classifier.name_materials(judge, [picture] * len(masks), masks)
        shares.append(statistics.mean(MATERIALS[rank[0]] == material for rank in ranks))
    return shares


def through_vae(engine: DiffusersEngine, pictures: Pictures) -> Pictures:
    """Every picture encoded and decoded."""
    painter = engine._painter
    assert painter is not None
    assert painter._model is not None
    found = {}
    with torch.no_grad():
        for number, picture in pictures.items():
            latents = denoise.encode_image(
                painter._model, denoise.normalised(picture), torch.Generator().manual_seed(0)
            )
            found[number] = (denoise.decode(painter._model, latents) * 255).round().astype(np.uint8)
    return found


def compare(engine: DiffusersEngine, shots: Sequence[Shot], prompts: Sequence[str], frames: int) -> list[Result]:
    """The shots painted both ways."""
    judge = classifier.shipped()
    ours: dict[str, list[float]] = {}
    theirs: dict[str, list[float]] = {}
    for material in prompts:
        asked = settings(f"a {material} object", STEPS)
        for shot in shots:
            name = f"{shot.name}-{frames}-{SIDE}-{material}-{STEPS}"
            alone = kept(f"itself-{name}", lambda shot=shot, asked=asked: by_itself(engine, shot, asked))
            whole = kept(f"shot-{name}", lambda shot=shot, asked=asked: as_shot(engine, shot, lambda _: asked))
            for take, figures in ((alone, theirs), (whole, ours)):
                one = figures_of(shot, take)
                one["recognised"] = statistics.mean(recognised(judge, shot, take.pictures, material))
                print(
                    f"{name} {'alone' if take is alone else 'shot'}",
                    {k: round(v, 5) for k, v in one.items()},
                    flush=True,
                )
                for key, value in one.items():
                    figures.setdefault(key, []).append(value)
    bars = {"e1": 0.25, "e4": 1 / 3, "e16": 0.5, "cost": 1.25}
    floors = {"sharpness": 0.9, "recognised": 1.0}
    results = []
    for key in (*bars, *floors):
        own, other = statistics.mean(ours[key]), statistics.mean(theirs[key])
        results.append(Result(f"{key}_ratio", own / other, "", at_most=bars.get(key), at_least=floors.get(key)))
        results += [Result(key, own, ""), Result(f"{key}_by_itself", other, "")]
    return results


def figures_of(shot: Shot, take: Take) -> dict[str, float]:
    found = {f"e{back}": warp_error(shot, take.pictures, back) for back in BACK}
    return {**found, "sharpness": sharpness(shot, take.pictures), "cost": take.seconds}


def floor(engine: DiffusersEngine, shot: Shot, material: str) -> list[Result]:
    """The VAE's own flicker, on a shot that has next to none."""
    take = kept(f"shot-{shot.name}-{shot.frames}-{SIDE}-{material}-{STEPS}", _missing)
    decoded = through_vae(engine, take.pictures)
    return [Result(f"vae_e{back}", warp_error(shot, decoded, back), "") for back in BACK]


def _missing() -> Take:
    raise LookupError("the shot was not painted")


def switches(engine: DiffusersEngine, shot: Shot, material: str) -> list[Result]:
    """One shot with each switch otherwise, against its frames painted by themselves."""
    asked = settings(f"a {material} object", STEPS // 2)
    name = f"{shot.name}-{shot.frames}-{SIDE}-{material}-{STEPS // 2}"
    alone = figures_of(shot, kept(f"itself-{name}", lambda: by_itself(engine, shot, asked)))
    results = []
    for switch, changes in SWITCHES.items():
        own_way = dataclasses.replace(asked, **changes)
        make: Callable[[], Take] = lambda s=own_way: as_shot(engine, shot, lambda _: s)  # noqa: E731
        own = figures_of(shot, kept(f"{switch}-{name}", make))
        results += [Result(f"{switch}_{key}_ratio", own[key] / alone[key], "") for key in own]
    return results


def prompt_change(engine: DiffusersEngine, shot: Shot) -> Result:
    """From lava to moss at frame 12, which lies between two keyframes."""
    change = 12
    old, new = settings("a lava object", STEPS // 2), settings("a moss object", STEPS // 2)
    take = kept(
        f"change-{shot.name}-{shot.frames}-{SIDE}-{STEPS // 2}",
        lambda: as_shot(engine, shot, lambda number: old if number < change else new),
    )
    shares = recognised(classifier.shipped(), shot, take.pictures, "moss")
    print("moss is named:", [round(share, 2) for share in shares], flush=True)
    frames = next((number - change for number in range(change, shot.frames + 1) if shares[number - 1] > 0.5), 99)
    return Result("prompt_change_frames", frames, "", at_most=8)


def memory() -> list[Result]:
    """Peak memory of a long shot over that of a short one, each in a process of its own."""
    peaks = []
    for frames in (48, 480):
        command = [sys.executable, "-m", "benchmarks.flicker_memory", str(frames)]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=3600)
        peaks.append(float(done.stdout.split()[-1]))
    return [
        Result("memory_ratio", peaks[1] / peaks[0], "", at_most=1.05),
        Result("memory_480_frames", peaks[1], "MB"),
    ]


def sheets(shots: Sequence[Shot], prompts: Sequence[str], folder: Path) -> None:
    """Frames one by one above, as a shot below."""
    folder.mkdir(parents=True, exist_ok=True)
    for shot in shots:
        for material in prompts:
            numbers = np.linspace(1, shot.frames, 6).round().astype(int)
            name = f"{shot.name}-{shot.frames}-{SIDE}-{material}-{STEPS}"
            rows = [kept(f"{kind}-{name}", _missing).pictures for kind in ("itself", "shot")]
            sheet = np.concatenate([np.concatenate([row[number] for number in numbers], 1) for row in rows])
            Image.fromarray(sheet).save(folder / f"{shot.name}-{material}.png")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flicker", description=__doc__)
    parser.add_argument("--full", action="store_true", help="6 shots of 48 frames, 5 prompts")
    parser.add_argument("--again", action="store_true", help="paint anew what was painted before")
    parser.add_argument("--sheets", type=Path, help="a folder for contact sheets")
    options = parser.parse_args()
    torch.set_num_threads(1)  # so that processor seconds are comparable
    if options.again:
        shutil.rmtree(CACHE, ignore_errors=True)
    frames, names, prompts = (48, ALL, ALL_PROMPTS) if options.full else (24, FIRST, PROMPTS)
    shots = [Shot(name, frames, SIDE, SIDE) for name in names]
    engine = DiffusersEngine("cpu")
    engine.hold("mini", ["normal"])
    results = compare(engine, shots, prompts, frames)
    results += floor(engine, shots[0], prompts[0])
    results.append(prompt_change(engine, shots[0]))
    results += memory()
    results += switches(engine, shots[0], prompts[0])
    if options.sheets:
        sheets(shots, prompts, options.sheets)
    report("flicker_full" if options.full else "flicker", results)


if __name__ == "__main__":
    main()
