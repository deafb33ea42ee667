"""What every benchmark prints last: its results with their bars, and the machine they were measured on, as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Result:
    """A measured figure. With a bar, it holds or it does not; without, it is for information."""

    name: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None

    def to_json(self) -> dict[str, object]:
        """As in the JSON line: name, value, unit, bar (text or null), holds (true, false or null)."""
        bar, holds = None, None
        if self.at_least is not None:
            bar, holds = f">= {self.at_least:g}", self.value >= self.at_least
        elif self.at_most is not None:
            bar, holds = f"<= {self.at_most:g}", self.value <= self.at_most
        return {"name": self.name, "value": float(f"{self.value:.5g}"), "unit": self.unit, "bar": bar, "holds": holds}


def median_seconds(work: Callable[[], object], runs: int = 5) -> float:
    """Median wall time of `work` over `runs` runs, after one run to warm up."""
    work()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def report(benchmark: str, results: list[Result], gpu: str = "") -> None:
    """Print the results as a table, then as the JSON line; with the name of the GPU where one was used."""
    rows = [result.to_json() for result in results]
    for row in rows:
        verdict = "" if row["bar"] is None else f"  {'holds' if row['holds'] else 'MISSED'} ({row['bar']})"
        print(f"{row['name']:40} {row['value']:>12} {row['unit']}{verdict}")
    about = machine() | ({"gpu": gpu} if gpu else {})
    print(json.dumps({"benchmark": benchmark, "results": rows, "machine": about}), flush=True)


def machine() -> dict[str, object]:
    """Processor, cores that this process may use, system and Python."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": _processor(),
        "cores": cores,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
