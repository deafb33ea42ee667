"""One picture of every camera's passes and what was painted in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

COLUMNS = ("depth", "normal", "edge", "painted")
CELL = 256
GAP = 6
TITLE = 22


def contact_sheet(folder: Path, target: Path) -> None:
    """Lay out folder/view-NN-*.npz (uint8 pictures by column name, and the view's name) as rows of `target`."""
    files = sorted(folder.glob("view-*.npz"))
    sheet = Image.new("RGB", (GAP + (CELL + GAP) * len(COLUMNS), TITLE + (CELL + GAP) * len(files)), (24, 24, 26))
    draw = ImageDraw.Draw(sheet)
    for column, name in enumerate(COLUMNS):
        draw.text((GAP + column * (CELL + GAP) + 4, 5), name, fill=(220, 220, 220))
    for row, path in enumerate(files):
        with np.load(path) as view:
            for column, name in enumerate(COLUMNS):
                picture = Image.fromarray(view[name])
                picture.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
                sheet.paste(picture, (GAP + column * (CELL + GAP), TITLE + row * (CELL + GAP)))
            draw.text((GAP + 6, TITLE + row * (CELL + GAP) + 4), str(view["name"]), fill=(255, 170, 60))
    sheet.save(target)
