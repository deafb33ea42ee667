"""The picture of how passes grow: milliseconds a frame against triangles, instances, pixels; all axes logarithmic."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

NAME = re.compile(r"growth_(triangles|instances|pixels)_(\d+)(_first)?_ms")

Growth = dict[str, list[tuple[int, float, float]]]
"""Axis -> how many, milliseconds of a frame, and of the first one."""

SCALE = 2
"""Drawn at twice its size, for sharp screens."""
PANEL, GAP, LEFT, TOP, HEIGHT, BOTTOM = 250, 24, 60, 44, 230, 44
INK, GRID, FRAME, FIRST, PAPER = "#333333", "#dddddd", "#d2691e", "#7a9cc6", "#ffffff"


def read(results: Iterable[dict[str, Any]]) -> Growth:
    """The rows of a benchmark's JSON that tell of growth."""
    values = {match.groups(): row["value"] for row in results if (match := NAME.fullmatch(row["name"]))}
    found: Growth = {}
    for axis, count, first in values:
        if first is None and (axis, count, "_first") in values:
            found.setdefault(axis, []).append((int(count), values[axis, count, None], values[axis, count, "_first"]))
    return {axis: sorted(rows) for axis, rows in found.items()}


def save(grown: Growth, path: Path) -> Path:
    """Draw it. Returns the path."""
    width = LEFT + len(grown) * (PANEL + GAP)
    image = Image.new("RGB", (width * SCALE, (TOP + HEIGHT + BOTTOM) * SCALE), PAPER)
    pen = _Pen(image)
    every = [value for rows in grown.values() for _, *times in rows for value in times]
    low, high = math.floor(math.log10(min(every))), math.ceil(math.log10(max(every)))
    for number, (axis, rows) in enumerate(grown.items()):
        _panel(pen, axis, rows, LEFT + number * (PANEL + GAP), low, max(high, low + 1), ticks=number == 0)
    for row, (color, text) in enumerate(((FRAME, "a frame"), (FIRST, "the first, which reads the scene"))):
        x = LEFT + row * 100
        pen.line([(x, 16), (x + 18, 16)], color, 2.5)
        pen.text((x + 24, 9), text)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def _panel(
    pen: _Pen, axis: str, rows: list[tuple[int, float, float]], left: int, low: int, high: int, *, ticks: bool
) -> None:
    counts = [math.log10(count) for count, _, _ in rows]
    span = (counts[-1] - counts[0]) or 1

    def place(count: float, value: float) -> tuple[float, float]:
        x = left + 14 + (math.log10(count) - counts[0]) / span * (PANEL - 28)
        return x, TOP + HEIGHT * (1 - (math.log10(value) - low) / (high - low))

    for power in range(low, high + 1):
        y = place(rows[0][0], 10.0**power)[1]
        pen.line([(left, y), (left + PANEL, y)], GRID, 1)
        if ticks:
            text = f"{10**power:,} ms" if power >= 0 else f"{10.0**power:g} ms"
            pen.text((left - 6, y - 7), text, anchor="ra")
    for color, which in ((FIRST, 2), (FRAME, 1)):
        points = [place(row[0], row[which]) for row in rows]
        pen.line(points, color, 2.5)
        for point in points:
            pen.dot(point, color)
    for count, *_ in rows:
        short = f"{count / 1e6:g}M" if count >= 1e6 else f"{count // 1000}k" if count >= 10_000 else f"{count:,}"
        x = place(count, 10.0**low)[0]
        pen.text((x, TOP + HEIGHT + 5), short, anchor="ma")
    pen.text((left + PANEL / 2, TOP + HEIGHT + 22), axis + " on a side" * (axis == "pixels"), anchor="ma")


class _Pen:
    """Draws in the picture's own units."""

    def __init__(self, image: Image.Image) -> None:
        self._draw = ImageDraw.Draw(image)
        self._font = ImageFont.load_default(size=11 * SCALE)

    def line(self, points: list[tuple[float, float]], color: str, width: float) -> None:
        scaled = [(x * SCALE, y * SCALE) for x, y in points]
        self._draw.line(scaled, fill=color, width=round(width * SCALE), joint="curve")

    def dot(self, at: tuple[float, float], color: str, radius: float = 3.5) -> None:
        x, y = at
        box = [(x - radius) * SCALE, (y - radius) * SCALE, (x + radius) * SCALE, (y + radius) * SCALE]
        self._draw.ellipse(box, fill=color)

    def text(self, at: tuple[float, float], text: str, anchor: str = "la") -> None:
        self._draw.text((at[0] * SCALE, at[1] * SCALE), text, fill=INK, font=self._font, anchor=anchor)
