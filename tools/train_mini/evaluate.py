"""Measures a model folder: does it paint the material that is asked for, and does it keep to the control?

    python -m tools.train_mini.evaluate --model DIR/mini --judge DIR --out sheet.png

draws one picture of every material from held-out scenes, writes them as a contact sheet (rendered scene, then
what the model painted), and prints JSON: the share whose material the judge names first (and among its first
three), and how well the painted edges match their own scene's and, for comparison, another scene's.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline
from PIL import Image
from scipy import ndimage

from . import classifier, hints, scenes
from .data import HELD_OUT_SEED
from .materials import MATERIALS
from .render import render
from .run import Run

_OFFSET = 500_000  # beyond the held-out shard's scenes


def held_out_scenes(kind: str, each: int = 1) -> dict[str, np.ndarray]:
    """`each` scenes of every material, whose object fills a fair part of the picture, with their passes."""
    kept: list[tuple] = []
    for number in range(len(MATERIALS)):
        seed, found = HELD_OUT_SEED + _OFFSET + 1000 * number, 0
        while found < each:
            views, tables, counts, contents = scenes.scenes([seed], [kind], [number])
            seed += 1
            passes = render(views, tables, counts)
            share = (passes["material"] == number).mean()
            if 0.15 < share < 0.7 and contents[0].arrangement != "wall":
                kept.append((contents[0], {name: array[0] for name, array in passes.items()}))
                found += 1
    out = {name: np.stack([p[name] for _, p in kept]) for name in kept[0][1]}
    out["mask"] = np.stack([p["material"] == c.material for c, p in kept])
    out["floor"] = np.array([c.floor for c, _ in kept])
    return out


def hint_pictures(passes: dict[str, np.ndarray], control: str) -> list[Image.Image]:
    make = {"depth": hints.depth_hint, "normal": hints.normal_hint, "edge": hints.edge_hint}[control]
    return [Image.fromarray(make(p)) for p in passes[control]]


def load_pipeline(model: Path, control: str, device: str) -> StableDiffusionControlNetPipeline:
    net = ControlNetModel.from_pretrained(model / f"controlnet-{control}", torch_dtype=torch.float32)
    pipeline = StableDiffusionControlNetPipeline.from_pretrained(model, controlnet=net, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def paint(
    pipeline: StableDiffusionControlNetPipeline,
    prompts: list[str],
    pictures: list[Image.Image],
    steps: int,
    guidance: float,
) -> list[np.ndarray]:
    """One picture (256, 256, 3) uint8 a prompt, the seed being its number."""
    painted = []
    for start in range(0, len(prompts), 10):
        some = slice(start, start + 10)
        seeds = range(start, start + len(prompts[some]))
        out = pipeline(
            prompts[some],
            image=pictures[some],
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(s) for s in seeds],
            output_type="np",
        ).images
        painted += [np.round(picture * 255).astype(np.uint8) for picture in out]
    return painted


def find_edges(rgb: np.ndarray) -> np.ndarray:
    """Where the brightness changes fast, thinned to ridges: (h, w) bool."""
    gray = ndimage.gaussian_filter(rgb.astype(np.float32).mean(-1) / 255, 1.2)
    dy, dx = ndimage.sobel(gray, 0), ndimage.sobel(gray, 1)
    strength = np.hypot(dx, dy)
    across, up = np.abs(dx) >= np.abs(dy), np.abs(dx) < np.abs(dy)
    ridge = across & (strength >= np.roll(strength, 1, 1)) & (strength >= np.roll(strength, -1, 1)) | up & (
        strength >= np.roll(strength, 1, 0)
    ) & (strength >= np.roll(strength, -1, 0))
    return ridge & (strength > 0.15)


def edge_f1(found: np.ndarray, true: np.ndarray, tolerance: int = 2) -> float:
    """F1 of two line drawings (h, w) bool, a line counting as matched within so many pixels."""
    near_true = ndimage.binary_dilation(true, iterations=tolerance)
    near_found = ndimage.binary_dilation(found, iterations=tolerance)
    precision = (found & near_true).sum() / max(found.sum(), 1)
    recall = (true & near_found).sum() / max(true.sum(), 1)
    return float(2 * precision * recall / max(precision + recall, 1e-6))


def measure(
    model: Path,
    judge: classifier.Classifier,
    control: str,
    kind: str = scenes.PLAIN,
    steps: int = 12,
    guidance: float = 4.0,
    device: str = "cpu",
) -> tuple[dict, list[np.ndarray]]:
    """The numbers described above, and the sheet's pictures in pairs (scene, painted)."""
    passes = held_out_scenes(kind)
    prompts = [f"a {name} object" for name in MATERIALS]
    if kind != scenes.PLAIN:
        prompts = [f"{p} on a {MATERIALS[f]} floor" for p, f in zip(prompts, passes["floor"], strict=True)]
    painted = paint(load_pipeline(model, control, device), prompts, hint_pictures(passes, control), steps, guidance)
    ranks = classifier.name_materials(judge, painted, list(passes["mask"]))
    real = classifier.name_materials(judge, list(passes["rgb"]), list(passes["mask"]))
    numbers = range(len(MATERIALS))
    lines = [passes["edge"][i] > 0 for i in numbers]
    smooth = [i for i in numbers if i < 12]  # patterns have edges of their own
    found = {i: find_edges(painted[i]) for i in smooth}
    rendered = {i: find_edges(passes["rgb"][i]) for i in smooth}
    other = {i: smooth[(k + 1) % len(smooth)] for k, i in enumerate(smooth)}
    result = {
        "control": control,
        "scenes": kind,
        "steps": steps,
        "guidance": guidance,
        "material_first": round(float(np.mean([ranks[i][0] == i for i in numbers])), 3),
        "material_first_three": round(float(np.mean([i in ranks[i][:3] for i in numbers])), 3),
        "material_first_rendered": round(float(np.mean([real[i][0] == i for i in numbers])), 3),
        "edge_f1": round(float(np.mean([edge_f1(found[i], lines[i]) for i in smooth])), 3),
        "edge_f1_other_scene": round(float(np.mean([edge_f1(found[i], lines[other[i]]) for i in smooth])), 3),
        "edge_f1_rendered": round(float(np.mean([edge_f1(rendered[i], lines[i]) for i in smooth])), 3),
        "mistaken": {MATERIALS[i]: MATERIALS[ranks[i][0]] for i in numbers if ranks[i][0] != i},
    }
    return result, [p for i in numbers for p in (passes["rgb"][i], painted[i])]


def write_sheet(pictures: list[np.ndarray], path: Path, columns: int = 10) -> None:
    rows = [np.concatenate(pictures[i : i + columns], 1) for i in range(0, len(pictures), columns)]
    Image.fromarray(np.concatenate(rows, 0)).save(path)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.train_mini.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", type=Path, required=True, help="the model folder")
    parser.add_argument("--judge", type=Path, required=True, help="the training folder, which has the classifier")
    parser.add_argument("--out", type=Path, required=True, help="the sheet to write (PNG)")
    parser.add_argument("--control", default="normal", choices=hints.CONTROLS)
    parser.add_argument("--scenes", default=scenes.PLAIN, choices=(scenes.PLAIN, scenes.FLOOR))
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--device", default="cpu")
    o = parser.parse_args(arguments)
    judge = classifier.load(Run(o.judge, torch.device(o.device)))
    result, sheet = measure(o.model, judge, o.control, o.scenes, o.steps, o.guidance, o.device)
    write_sheet(sheet, o.out)
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1:])
