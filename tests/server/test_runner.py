"""The runner by itself, in this process: its queue, its journal, and what it tells whom."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from paintover.bridge.errors import QueueFull
from paintover.bridge.messages import CANCELLED, Generate, Submit
from paintover.bridge.parameters import Settings
from paintover.server import jobs as jobs_module
from paintover.server.jobs import Job
from paintover.server.journal import Journal
from paintover.server.runner import Runner

from ..bridge.conftest import make_passes

NAMES = ["ab" * 16, "cd" * 16]


@pytest.fixture
def told() -> list[Any]:
    """What everybody who is connected was told."""
    return []


@pytest_asyncio.fixture
async def runner(tmp_path: Path, told: list[Any]) -> AsyncIterator[Runner]:
    """One that has not opened its journal yet."""
    made = Runner("fake", tmp_path, told.append, standby=False)
    yield made
    await made.close()


def stored(folder: Path, name: str) -> Job:
    """A cancelled job, as an earlier server has left it."""
    journal = Journal(folder)
    job = Job.of(name, Generate(Settings(steps=1), 64, 64, make_passes(64, 64)))
    job.state = CANCELLED
    journal.store(job.record(journal.owner), Submit(name, job.request), (), {})
    return job


async def test_the_limit_of_the_queue_sees_jobs_of_an_earlier_server(
    runner: Runner, told: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = [stored(tmp_path, name).size for name in NAMES][0]
    runner.open()
    monkeypatch.setattr(jobs_module, "MAX_BYTES", size * 1.5)
    heard: list[Any] = []
    await runner.resume(NAMES[0], heard.append)
    with pytest.raises(QueueFull, match="holds"):
        await runner.resume(NAMES[1], heard.append)
