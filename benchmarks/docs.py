"""Writes docs/benchmarks.md from benchmarks' outputs: python -m benchmarks.docs OUTPUT [OUTPUT …]

Each OUTPUT is a file with what a benchmark printed; its last line is the JSON that counts.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parent.parent / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Written by `python -m benchmarks.docs` from what the benchmarks printed. Run one with `python -m benchmarks.NAME`, on a
machine with nothing else to do.
"""


def section(outcome: dict[str, Any]) -> str:
    """A table of one benchmark's results."""
    machine = outcome["machine"]
    lines = [
        f"\n## {outcome['benchmark']}\n",
        f"{machine['cores']} cores ({machine['processor']}), {machine['system']}, Python {machine['python']}\n",
        "| figure | value | bar | holds |",
        "|---|---|---|---|",
    ]
    for row in outcome["results"]:
        holds = {True: "yes", False: "**no**", None: ""}[row["holds"]]
        lines.append(f"| `{row['name']}` | {row['value']:g} {row['unit']} | {row['bar'] or ''} | {holds} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    outcomes = [json.loads(Path(name).read_text(encoding="utf-8").splitlines()[-1]) for name in sys.argv[1:]]
    TARGET.write_text(HEAD + "".join(section(outcome) for outcome in outcomes), encoding="utf-8")
    print(TARGET)


if __name__ == "__main__":
    main()
