"""How far pip is, read off the lines that it writes. A best effort: pip does not know how much is still to come."""

from __future__ import annotations

import re

UNITS = {"kB": 1e3, "MB": 1e6, "GB": 1e9}
DOWNLOADING = 0.8
"""Share of a pip run that goes into downloads; the rest is unpacking, about which pip says nothing."""


class PipProgress:
    """Feed it pip's output; `fraction` (0 … 1) only grows, `doing` says what goes on."""

    def __init__(self, expected: float) -> None:
        """`expected`: bytes that the run will download at a guess."""
        self.fraction = 0.0
        self.doing = ""
        self._expected = expected
        self._name = ""
        self._done = self._current = self._size = 0.0

    def feed(self, line: str) -> bool:
        """Take a line; returns whether it is worth showing (pip's own counting is not)."""
        line = line.strip()
        if match := re.match(r"Progress (\d+) of (\d+)$", line):
            self._current, self._size = float(match[1]), max(float(match[2]), 1.0)
            self.doing = f"Downloading {self._name}: {self._current / 1e6:.0f} of {self._size / 1e6:.0f} MB"
        elif match := re.match(r"(Downloading|Using cached) (\S+?)(?:\.metadata)? \(([\d.]+) ([kMG]B)\)", line):
            self._done += self._size
            self._size = float(match[3]) * UNITS[match[4]]
            self._current = self._size if match[1] == "Using cached" else 0.0
            self._name = match[2].rsplit("/", 1)[-1].split("-")[0]
            self.doing = f"{match[1]} {self._name}"
        elif line.startswith("Installing collected packages"):
            self._grow(DOWNLOADING)
            self.doing = "Unpacking: this takes a minute or more"
            return True
        got = self._done + self._current
        self._grow(DOWNLOADING * got / max(self._expected, self._done + self._size, 1.0))
        return not line.startswith("Progress ")

    def _grow(self, fraction: float) -> None:
        self.fraction = max(self.fraction, min(fraction, 1.0))
