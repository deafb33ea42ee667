"""Writes docs/benchmarks.md from benchmarks' outputs: python -m benchmarks.docs OUTPUT [OUTPUT …]

Each OUTPUT is a file with what a benchmark printed; its last line is the JSON that counts. Benchmarks that are not
among them keep the section that they have. How passes grow becomes a table of its own, and a picture
(docs/images/passes_growth.png).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from . import growth_picture

DOCS = Path(__file__).parent.parent / "docs"
TARGET = DOCS / "benchmarks.md"
HEAD = """# Benchmarks

Written by `python -m benchmarks.docs` from what the benchmarks printed. Run one with `python -m benchmarks.NAME`, on a
machine with nothing else to do.
"""


def section(outcome: dict[str, Any]) -> str:
    """A table of one benchmark's results."""
    machine = outcome["machine"]
    gpu = f"{machine['gpu']}, " if "gpu" in machine else ""
    lines = [
        f"\n## {outcome['benchmark']}\n",
        f"{gpu}{machine['cores']} cores ({machine['processor']}), {machine['system']}, Python {machine['python']}\n",
        "| figure | value | bar | holds |",
        "|---|---|---|---|",
    ]
    grown = growth_picture.read(outcome["results"])
    for row in outcome["results"]:
        if growth_picture.NAME.fullmatch(row["name"]):
            continue
        holds = {True: "yes", False: "**no**", None: ""}[row["holds"]]
        lines.append(f"| `{row['name']}` | {row['value']:g} {row['unit']} | {row['bar'] or ''} | {holds} |")
    if grown:
        lines += growth_table(grown)
    return "\n".join(lines) + "\n"


def growth_table(grown: growth_picture.Growth) -> list[str]:
    lines = [
        "\nHow a frame grows with one thing at a time; the first frame reads the scene.\n",
        "![milliseconds a frame against triangles, instances and pixels](images/passes_growth.png)\n",
        "| what | how many | a frame | the first |",
        "|---|---|---|---|",
    ]
    for axis, rows in grown.items():
        for count, frame, first in rows:
            many = f"{count:,}²" if axis == "pixels" else f"{count:,}"
            lines.append(f"| {axis} | {many} | {frame:.4g} ms | {first:.4g} ms |")
    return lines


def main() -> None:
    outcomes = [json.loads(Path(name).read_text(encoding="utf-8").splitlines()[-1]) for name in sys.argv[1:]]
    sections = {}
    if TARGET.exists():
        for old in TARGET.read_text(encoding="utf-8").split("\n## ")[1:]:
            sections[old.split("\n")[0]] = f"\n## {old.rstrip()}\n"
    sections |= {outcome["benchmark"]: section(outcome) for outcome in outcomes}
    TARGET.write_text(HEAD + "".join(sections[name] for name in sorted(sections)), encoding="utf-8")
    print(TARGET)
    for outcome in outcomes:
        if grown := growth_picture.read(outcome["results"]):
            print(growth_picture.save(grown, DOCS / "images" / "passes_growth.png"))


if __name__ == "__main__":
    main()
