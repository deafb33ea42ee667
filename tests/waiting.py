"""Waiting for what nothing tells of: in a bounded loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def wait_until(condition: Callable[[], Any], timeout: float = 120.0) -> Any:
    """Wait until the condition holds; returns what it gave."""
    limit = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < limit, "it never came"
        time.sleep(0.005)
    return found
