"""A contact sheet of every word that mini knows, painted on one and the same scene.

python -m tools.train_mini.sheet --out sheet.jpg [--model mini-turbo]
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from paintover.bridge.messages import Generate
from paintover.bridge.parameters import Settings
from paintover.bridge.scene import Camera, Passes
from paintover.server import models
from paintover.server.pipelines.engine import DiffusersEngine

from . import render, scenes
from .data import HELD_OUT_SEED
from .materials import MATERIALS
from .words import SYNONYMS

COLUMNS = 10
SHOWN = 128  # pixels of a picture on the sheet
LABEL = 14
SCENE = HELD_OUT_SEED + 400_013  # a ring and a box before it: what bends and what is flat


class Quiet:
    """A monitor that nobody listens to."""

    def progress(self, stage: str, fraction: float) -> None: ...

    def preview(self, image: np.ndarray) -> None: ...

    def check(self) -> None: ...


def known() -> Iterator[str]:
    """Every word for a material, each material's own name first."""
    for name in MATERIALS:
        yield name
        yield from (word for word in SYNONYMS.get(name, ()) if word != name)


def scene(side: int = 256) -> Passes:
    """Two shapes, seen by no training."""
    views, tables, counts, _ = scenes.scenes([SCENE], [scenes.PLAIN], [0])
    out = {name: array[0] for name, array in render.render(views, tables, counts, side).items()}
    camera = Camera("sheet", np.eye(4), np.diag([1.0, 1, -1, 1]), side, side)
    shown = (out["material"] < len(MATERIALS)).astype(np.uint16)
    return Passes(camera, out["depth"], out["normal"].astype(np.float16), out["edge"], shown)


def draw(model: str, words: list[str], passes: Passes) -> Image.Image:
    """The sheet: a labelled picture for every word."""
    engine, entry = DiffusersEngine("cpu"), models.resolve(model)
    rows = -(-len(words) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * SHOWN, rows * (SHOWN + LABEL)), "white")
    pen = ImageDraw.Draw(sheet)
    side = passes.camera.width
    for number, word in enumerate(words):
        values = {"control_depth": False, **entry.defaults, "model": model, "seed": 1}
        settings = Settings.from_mapping({**values, "prompt": f"a {word} object, white background"})
        picture = engine.paint(Generate(settings, side, side, passes), Quiet()).image
        y, x = divmod(number, COLUMNS)
        small = Image.fromarray(picture).resize((SHOWN, SHOWN), Image.Resampling.LANCZOS)
        sheet.paste(small, (x * SHOWN, y * (SHOWN + LABEL)))
        pen.text((x * SHOWN + 3, y * (SHOWN + LABEL) + SHOWN), word, fill="black")
    return sheet


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.train_mini.sheet",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="the picture to write")
    parser.add_argument("--model", default="mini", choices=[entry.name for entry in models.BUILT_IN])
    o = parser.parse_args(arguments)
    draw(o.model, list(known()), scene()).save(o.out, quality=88)
    print(o.out)


if __name__ == "__main__":
    main(sys.argv[1:])
