"""Waiting for what nothing tells of: in bounded loops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any


def wait_until(
    condition: Callable[[], Any], timeout: float = 120.0, why: Callable[[], object] = lambda: "it never came"
) -> Any:
    """Wait until the condition holds; returns what it gave. `why` says what is wrong when it never does."""
    limit = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < limit, why()
        time.sleep(0.005)
    return found


async def eventually(condition: Callable[[], Any], timeout: float = 60.0) -> Any:
    """Likewise, on an event loop that goes on meanwhile."""
    limit = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < limit, "it never came"
        await asyncio.sleep(0.005)
    return found
