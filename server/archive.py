"""The journal on threads of its own: what is to be written is begun in order, and whoever asks need not wait behind it.

A disk that fails costs no job: everybody is told, once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from paintover.bridge.errors import PaintoverError, ServerFailure
from paintover.bridge.messages import Failure, Notice

from .jobs import Job
from .journal import Journal

log = logging.getLogger("paintover.front")


class Archive:
    """A journal for an event loop."""

    def __init__(self, folder: Path, tell_all: Callable[[Any], None]) -> None:
        self.journal = Journal(folder)
        self._tell_all = tell_all
        self.notice: Notice | None = None
        """Its trouble, as everybody was told and newcomers should be; None while there is none."""
        # One thread: entries are written in the order in which they come.
        self._disk = ThreadPoolExecutor(1, "paintover-journal")
        self._shelf = ThreadPoolExecutor(1, "paintover-journal-reader")

    def open(self) -> None:
        try:
            self.journal.open()
        except PaintoverError as error:
            self.trouble(error)

    async def close(self) -> None:
        """End, once all is written."""
        for thread in (self._disk, self._shelf):
            await asyncio.to_thread(thread.shutdown)
        self.journal.close()

    def write(
        self, job: Job, work: Callable[..., Any], *arguments: Any, then: Callable[[Any], None] = lambda result: None
    ) -> None:
        """Begin to write; `settled` waits for it. `then` gets what `work` returns."""
        write = asyncio.wrap_future(self._disk.submit(work, *arguments))
        job.writes.add(write)

        def written(_: asyncio.Future[Any]) -> None:
            job.writes.discard(write)
            if error := write.exception():
                job.stored = False
                self.trouble(error)
            else:
                then(write.result())

        write.add_done_callback(written)

    async def remove(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Have the journal remove something, behind what is still to be written of it."""
        return await asyncio.wrap_future(self._disk.submit(work, *arguments))

    async def read(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Have the journal look something up, off the event loop."""
        return await asyncio.wrap_future(self._shelf.submit(work, *arguments))

    def trouble(self, error: BaseException) -> None:
        """Tell everybody, unless they know."""
        if not isinstance(error, PaintoverError):
            log.error("The journal failed", exc_info=error)
            error = ServerFailure(reason=f"{type(error).__name__}: {error}")
        if self.notice is None or error.code != self.notice.failure.code:
            self.notice = Notice(Failure.of(error))
            log.error("%s", error)
            self._tell_all(self.notice)


async def settled(job: Job) -> None:
    """Wait until what is to be written of a job is written, or has failed."""
    if job.writes:
        await asyncio.wait(set(job.writes))
        await asyncio.sleep(0)  # lets the callbacks of the last one note how it went
