"""Keeps a worker process at work, and where memory allows a second one warm that takes over when the first dies.

The standby must not cost the running job anything that an artist would notice. So it is started, and loads its model,
only while no job runs; one that comes meanwhile finds it at the lowest priority (worker.apart). And only if the memory
that is free holds it and, besides, once more all that the running worker takes. When memory becomes short, or a job
wants another model, it lets go.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

from paintover.bridge.aio import Channel
from paintover.bridge.board import Board
from paintover.bridge.errors import PaintoverError, WorkerDied
from paintover.bridge.messages import Failure, FrameGiven, Generate

from .ending import end
from .worker_messages import (
    Beat,
    Ended,
    Run,
    Stop,
    StreamControl,
    StreamPicture,
    StreamSettings,
    StreamState,
    Warm,
    Yield,
)
from .worker_process import WorkerProcess

log = logging.getLogger("paintover.front")

TEND = 1.0
"""Seconds between looks at the workers while nothing happens."""
SLOW = 5
"""Looks in a row at which a standby that has nothing to do is at low priority before it is replaced: threads that end
take a moment."""
BACK_OFF = 60.0
"""Seconds after which a standby that did not start, or that died twice in a row, is tried again."""
AGAIN = 5.0
"""Seconds after which a worker that did not start is tried again."""


class Supervisor:
    """Owns the worker that does the jobs, and its standby."""

    def __init__(
        self, engine: str, *, standby: bool = True, replaced: Callable[[WorkerDied], None] = lambda error: None
    ) -> None:
        """`replaced` hears why a worker died, once another one has taken its place."""
        self._engine = engine
        self._replaced = replaced
        self._lost = ""
        """Why the worker died that has no successor yet."""
        self._wants_standby = standby
        self._active: WorkerProcess | None = None
        self._standby: asyncio.Task[WorkerProcess] | None = None
        """The standby, or its start."""
        self._to_standby: Channel | None = None
        """Also while it starts."""
        self._standing_by = ""
        """The model that the standby holds."""
        self._deaths = 0
        """Of standbys in a row, none of which got to hold a model."""
        self._last: Warm | None = None
        """What the last job that succeeded wants loaded, until the worker was asked for it."""
        self._slow = 0
        self._busy = False
        self._changing = asyncio.Lock()
        self._tending: asyncio.Task[None] | None = None
        self._not_before = 0.0
        self._died = asyncio.Event()
        """The active worker is dead: it is replaced at once, and not only for the next job."""
        self.device = ""
        self.on_stream: Callable[[StreamPicture | StreamState], None] = lambda message: None
        """Gets what the active worker says of the stream."""
        self.on_worker: Callable[[bool], None] = lambda there: None
        """Told when there is another active worker, which knows nothing of the stream yet, and when it has died."""
        self.on_trouble: Callable[[PaintoverError], None] = lambda error: None
        """Told why no worker could be started."""

    async def ready(self) -> None:
        """Have a worker: promote the standby or start one if there is none. Raises ServerStartFailed."""
        async with self._changing:
            if self._active and self._active.dead:
                self._lost = await self._active.bury()
                log.error("Worker %d stopped: %s", self._active.pid, self._lost)
                self._active = None
            if self._active is None:
                self._active = await self._promoted() or await WorkerProcess.start(self._engine)
                self._active.on_death = self._bereave
                self._active.on_stream = lambda message: self.on_stream(message)
                self.device = self._active.device
                log.info("Worker %d takes the jobs, on %s", self._active.pid, self.device)
                if self._lost:
                    hint = "Another one has taken its place. If it happens again, use a smaller size."
                    self._replaced(WorkerDied(reason=self._lost, hint=hint))
                    self._lost = ""
                self.on_worker(True)
        self._begin_to_tend()

    def _begin_to_tend(self) -> None:
        if self._tending is None:
            self._tending = asyncio.create_task(self._tend())

    def _bereave(self) -> None:
        """The active worker has died."""
        self._died.set()
        self.on_worker(False)

    @property
    def beat(self) -> Beat:
        """What the active worker said of itself last."""
        return self._active.beat if self._active else Beat()

    @property
    def busy(self) -> bool:
        """Whether a job runs."""
        return self._busy

    def stream(self, message: StreamControl | StreamSettings) -> None:
        """Hand something to the active worker's stream. Without one it is dropped: `on_worker` tells of the next."""
        if self._active and not self._active.dead:
            self._active.send(message)
        else:
            self._begin_to_tend()  # where the first worker did not start, nobody else would try again

    @property
    def board(self) -> Board | None:
        """Where the active worker's pictures lie, if that is shared memory."""
        return self._active.board if self._active else None

    def lend(self, board: Board) -> None:
        """Let the active worker read the control frames that a client writes there."""
        if self._active and not self._active.dead:
            self._active.lend(board)

    async def run(
        self, run: Run, report: Callable[[Any], None], cancelled: Callable[[], bool] = lambda: False
    ) -> Failure | None:
        """Let the worker do a job; `report` gets its messages. Returns its failure, if it failed.

        `cancelled` tells whether `stop_job` was called before there was a worker that could have heard of it.
        Raises WorkerDied if the worker ends, or stops answering, before the job does; the next call has another one.
        """
        self._busy = True
        try:
            await self.ready()
            worker = self._active
            assert worker is not None
            if (standby := self._warm_standby()) and standby.beat.model not in ("", run.request.settings.model):
                standby.asked = None
                standby.send(Warm(""))  # the job's model needs that memory more
            if self._standby and self._to_standby:
                self._to_standby.send(Yield())
            worker.send(run)
            if cancelled():
                worker.send(Stop(run.job))
            while (message := await worker.receive()) is not None:
                if message.job != run.job:
                    log.warning("The worker reported on job %s, which is over", message.job)
                elif isinstance(message, Ended):
                    if message.failure is None:
                        self._last = _wanted_by(run)
                    return message.failure
                else:
                    report(message)
            async with self._changing:
                self._lost = reason = await worker.bury()
                self._active = None
            raise WorkerDied(reason=reason)
        finally:
            self._busy = False

    def replace(self, reason: str) -> None:
        """Give the active worker up, for what it does not do."""
        if self._active and not self._active.dead:
            self._active.give_up(reason)

    def stop_job(self, job: str) -> None:
        """Ask the worker to stop a job at its next step."""
        if self._active:
            self._active.send(Stop(job))

    def give(self, message: FrameGiven) -> None:
        """Hand the worker a frame that its job has asked for. Without a worker it is dropped: the next one asks."""
        if self._active and not self._active.dead:
            self._active.send(message)

    async def make_room(self) -> bool:
        """End the standby if it holds a model; returns whether memory was freed by that."""
        held = (standby := self._warm_standby()) is not None and bool(standby.beat.model)
        if held:
            log.info("The standby makes room")
            self._not_before = asyncio.get_running_loop().time() + BACK_OFF
            await self._dismiss()
        return held

    async def close(self) -> None:
        """End the workers."""
        if self._tending:
            await end([self._tending])
        await self._dismiss()
        if self._active:
            await self._active.bury()
            self._active = None

    # ------------------------------------------------------------ the standby

    def _warm_standby(self) -> WorkerProcess | None:
        """The standby, if it has started and lives."""
        if self._standby is None or not self._standby.done() or self._standby.exception():
            return None
        return None if self._standby.result().dead else self._standby.result()

    def _connected(self, channel: Channel) -> None:
        self._to_standby = channel
        if self._busy:  # a job has come since it was started
            channel.send(Yield())

    async def _promoted(self) -> WorkerProcess | None:
        """The standby in its new role. None if there is none, or if it is not ready: it may start or load its model at
        low priority, and a fresh worker at full priority is quicker."""
        standby = self._warm_standby()
        if standby is None or _loads(standby) or standby.beat.slowed:
            return None
        self._standby = self._to_standby = None
        return standby

    async def _dismiss(self) -> None:
        task, self._standby = self._standby, None
        if task is None:
            return
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, PaintoverError):
            await (await task).bury()

    async def _tend(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._died.wait(), TEND)
            self._died.clear()
            try:
                if (self._active is None or self._active.dead) and not self._busy:
                    await self.ready()
            except Exception as error:  # a worker that does not start, or a bug: the show waits, and goes on
                log.warning("%s", error, exc_info=not isinstance(error, PaintoverError))
                if isinstance(error, PaintoverError):
                    self.on_trouble(error)
                await asyncio.sleep(AGAIN)
                self._died.set()
                continue
            try:
                self._warm_active()
                await self._tend_standby()
            except PaintoverError as error:
                log.warning("%s", error)
                self._not_before = asyncio.get_running_loop().time() + BACK_OFF
            except Exception as error:  # a bug here costs the standby for a while, not for ever
                log.error("The standby was not tended", exc_info=error)
                self._not_before = asyncio.get_running_loop().time() + BACK_OFF

    def _warm_active(self) -> None:
        """A worker that took over a job of which nothing was left to paint holds no model: have it load the job's."""
        if self._active and self._last and not self._busy:
            if not self._active.beat.model:
                self._active.send(self._last)
            self._last = None  # once: a model whose loading kills would do so for ever

    async def _tend_standby(self) -> None:
        """Start, warm or end the standby, as memory allows."""
        if not self._wants_standby or self._active is None or self._active.dead:
            return
        ours = self._active.beat
        if self._standby is None:
            late_enough = asyncio.get_running_loop().time() >= self._not_before
            if not self._busy and late_enough and may_start(ours):
                self._standby = asyncio.create_task(
                    WorkerProcess.start(self._engine, standby=True, connected_to=self._connected)
                )
            return
        if not self._standby.done():
            return
        standby = self._warm_standby()
        left_slow = standby is not None and standby.beat.slowed and not _loads(standby)
        self._slow = self._slow + 1 if left_slow else 0
        slowed = self._slow >= SLOW and not self._busy
        if standby is None or slowed or short_of_memory(ours):
            task, self._standby = self._standby, None
            if slowed:
                log.info("The standby was left at low priority: it is started anew")
                self._slow = 0
            elif standby:
                log.info("The standby makes room")
                self._not_before = asyncio.get_running_loop().time() + BACK_OFF
            how = await task.result().bury()  # raises why it did not start, if so
            if standby is None:
                log.warning("The standby stopped: %s", how)
                self._deaths += 1
                if self._deaths > 1:
                    self._not_before = asyncio.get_running_loop().time() + BACK_OFF
            return
        if standby.asked and standby.beat.model == standby.asked.model != self._standing_by:
            log.info("Worker %d holds %s ready", standby.pid, standby.beat.model)
            self._deaths = 0
        self._standing_by = standby.beat.model
        wanted = Warm(*_holds(ours))
        if ours.model and standby.asked != wanted and not self._busy and may_warm(ours):
            standby.asked = wanted
            standby.send(wanted)


def _loads(standby: WorkerProcess) -> bool:
    """Whether it was asked for a model that it does not hold yet, or could not load."""
    asked, beat = standby.asked, standby.beat
    if asked is None or not asked.model:
        return False
    return asked.model != beat.model or not set(asked.controls) <= set(beat.controls)


def _wanted_by(run: Run) -> Warm:
    """The model that the job's request is painted with, and its ControlNets."""
    request = run.request
    sees = not isinstance(request, Generate) or request.passes is not None
    controls = tuple(control.name for control in request.settings.controls if control.scale > 0 and sees)
    return Warm(request.settings.model, controls)


def _holds(beat: Beat) -> tuple[str, tuple[str, ...]]:
    return beat.model, beat.controls


def may_start(active: Beat) -> bool:
    """Whether there is memory for a second process, given what the running worker tells of itself."""
    return active.ram_used > 0 and active.ram_free >= 2 * active.ram_used


def may_warm(active: Beat) -> bool:
    """Whether there is memory for a second copy of the model, and for the running worker to grow by as much again."""
    return active.device_free >= active.model_bytes + active.device_used


def short_of_memory(active: Beat) -> bool:
    """Whether the standby's memory is needed now."""
    return active.ram_free < active.ram_used / 4 or active.device_free < active.device_used / 4
