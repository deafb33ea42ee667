"""Tasks end even if they swallow a cancel."""

from __future__ import annotations

import asyncio
import contextlib

from paintover.server import ending


async def test_a_task_that_swallows_a_cancel_ends() -> None:
    swallowed = []

    async def stubborn() -> None:
        for _ in range(2):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            swallowed.append(True)
        await asyncio.Event().wait()

    async def failing() -> None:
        raise ValueError

    tasks = [asyncio.create_task(stubborn()), asyncio.create_task(failing())]
    await asyncio.sleep(0)
    await asyncio.wait_for(ending.end(tasks), 30)
    assert len(swallowed) == 2
    assert tasks[0].cancelled()
    assert isinstance(tasks[1].exception(), ValueError)
