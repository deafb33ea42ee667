"""What this Blender has going with the server: the link, the tasks, the last error. Only the main thread touches it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from . import away, properties, server_process
from .bridge.client import Client
from .bridge.errors import Cancelled, ConnectionLost, PaintoverError, RenderFailed, SceneError
from .bridge.live_messages import LiveEvent, LivePicture, LiveStatus, LiveTrouble, LiveValues
from .bridge.messages import (
    ENDED,
    Forget,
    Forgotten,
    Jobs,
    JobState,
    JobSummary,
    ListJobs,
    MeshesMissing,
    Notice,
    Pong,
    Trouble,
)
from .link import Link, LinkState

if TYPE_CHECKING:
    from .environment.work import Work
    from .live.painter import LiveView
    from .tasks import Task

BUDGET = 0.004
"""Seconds of a tick after which no further message is taken and no further step begun, so that Blender stays
responsive under a flood of them."""
REMEMBERED = 8
"""Ended tasks that the panel can still show."""
RECONNECT = 1.0
"""Seconds between two attempts to connect again while something is live."""
OF_STAGE = (LiveEvent, LivePicture, LiveStatus, LiveTrouble, LiveValues)


class Session:
    def __init__(self) -> None:
        self.link = Link()
        self.error: PaintoverError | None = None
        """The last error that belongs to no task."""
        self.tasks: list[Task] = []
        self.jobs: tuple[JobSummary, ...] | None = None
        """What the server has; None until it has said so."""
        self.left: set[str] = set()
        """Jobs that go on without their file: the server says that they are followed, but it is nobody that counts."""
        self.setup: Work | None = None
        """What is being done, or was done last, to the server's environment."""
        self.awaited: tuple[str, int, str | None] | None = None
        """The connection to make as soon as the server that this Blender has started listens."""
        self.live: LiveView | None = None
        """What is live."""
        self._address: tuple[str, int, str | None] | None = None
        """Where the last connection was made to."""
        self._next_attempt = 0.0
        self._stopping = False
        """Whether a server that was stopped had not ended yet, when last looked at."""

    # ------------------------------------------------------------ for operators and panels

    @property
    def online(self) -> bool:
        return self.link.state is LinkState.ONLINE

    @property
    def active(self) -> list[Task]:
        """Tasks that are not over."""
        return [task for task in self.tasks if not task.ended]

    @property
    def reconnects(self) -> bool:
        """Whether a connection that ends is made again."""
        return self.live is not None or any(task.reconnects for task in self.active)

    @property
    def busy(self) -> bool:
        return bool(self.active or self.awaited or self.live) or self.link.state is LinkState.CONNECTING

    @property
    def idle(self) -> bool:
        """Nothing to watch: the timer may rest."""
        at_work = self.active or self.awaited or self.live or self.setting_up
        ending = self._stopping or server_process.stopping()
        return not at_work and not ending and self.link.state is LinkState.OFFLINE

    @property
    def setting_up(self) -> bool:
        return self.setup is not None and not self.setup.ended

    def offers(self, scene: Any) -> list[JobSummary]:
        """Jobs of this scene that it has not got, the newest first: see away.offers."""
        return away.offers(self.jobs or (), scene, [task.job for task in self.active], self.left)

    def refresh(self) -> None:
        """Ask the server anew for its jobs."""
        if self.online:
            self.link.send(ListJobs())

    def dismiss(self, job: str) -> None:
        """Have the server forget a job. Raises ConnectionLost."""
        self.link.send(Forget(job))
        self._drop(job)

    def _drop(self, job: str) -> None:
        self.jobs = tuple(summary for summary in self.jobs or () if summary.job != job)

    @property
    def complaint(self) -> PaintoverError | None:
        """The error to show that belongs to no task."""
        setup = self.setup.error if self.setup else None
        return self.error or (None if isinstance(setup, Cancelled) else setup)

    def hide_error(self) -> None:
        """The user has read it."""
        self.error = None
        if self.setup and self.setup.ended:
            self.setup = None

    def connect(self, host: str, port: int, token: str | None) -> None:
        """Connect there, instead of any connection there is."""
        if self.online:
            self.disconnect()
        self.error, self._address = None, (host, port, token)
        self.link.connect(host, port, token)

    def await_server(self, host: str, port: int, token: str | None) -> None:
        """Connect there once the server that was just started listens."""
        self.error, self.awaited = None, (host, port, token)

    def disconnect(self) -> None:
        self.awaited = None
        self.end_live()
        self.link.close()
        self._offline()
        self._lose(ConnectionLost())

    def _offline(self) -> None:
        properties.set_models(())
        self.jobs = None

    def _lose(self, error: PaintoverError) -> None:
        for task in self.active:
            self._guard(task, lambda task=task: task.lose(error))  # type: ignore[misc]

    def start(self, task: Task) -> None:
        """Take on a task; it is prepared tick by tick."""
        self.error = None
        over = [old for old in self.tasks if old.ended][-REMEMBERED:]
        self.tasks = [*over, *self.active, task]

    def start_live(self, live: LiveView) -> None:
        """Be live, until `end_live`; a connection that ends meanwhile is made again. Raises ConnectionLost."""
        self.end_live()
        self.error = None
        live.take_up(self.link)
        self.live = live

    def end_live(self, error: PaintoverError | None = None) -> None:
        """Be live no longer: asked for, or because of an error."""
        live, self.live = self.live, None
        if live:
            live.close(self.link)
        self.error = error or self.error

    def cancel(self, job: str = "") -> None:
        """Stop the task of that job, or all: what is not sent yet at once, what runs on the server within a step."""
        for task in self.active:
            if job in ("", task.job):
                task.cancel(self.link)

    def leave_file(self) -> None:
        """Another file was opened: what is under way belongs to the old one, and must not reach the new one. Jobs that
        the server has go on there, and the old file can take them over."""
        if self.live:
            reason = "another file was opened while it was live"
            self.end_live(SceneError(reason=reason, hint="Press Go Live in this one."))
        for task in self.active:
            if task.sent and not task.needs_file:
                task.release()
                self.left.add(task.job)
            else:
                task.fail(Cancelled())
        self.tasks.clear()

    def close(self) -> None:
        if self.setup:
            self.setup.cancel()
            self.setup.poll(wait=6.0)
        self.setup = self.awaited = None
        self.end_live()
        self.link.close()
        self.tasks.clear()
        self.error = None
        self._offline()

    def wait(self, done: Any, timeout: float | None = None) -> None:
        """Tick until `done()`: for background mode, where no timer fires. Raises TimeoutError."""
        until = time.monotonic() + timeout if timeout else None
        while not done():
            if until and time.monotonic() > until:
                raise TimeoutError("the server did not answer in time")
            if self.link.state is LinkState.OFFLINE and not any(task.working for task in self.active):
                time.sleep(0.05)  # a server's start, or another attempt to connect
            self.tick(wait=0.0 if any(task.working for task in self.active) else 0.1)

    # ------------------------------------------------------------ for the pump

    def tick(self, wait: float = 0.0) -> bool:
        """Take what arrived, and do the next steps of the first task that has any. Returns whether anything changed.

        `wait` is how long to wait for a first event, in seconds (background mode).
        """
        until = time.perf_counter() + BUDGET
        changed = self._look_after_server()
        while (event := self.link.poll(wait)) is not None:
            self._apply(event)
            wait = 0.0
            changed = changed or not isinstance(event, LivePicture)  # the panel shows none of those
            if time.perf_counter() > until:
                break
        changed = self._stay_live() or changed
        for task in self.active:
            if task.working:
                return self._work(task, until) or changed
        return changed

    def _stay_live(self) -> bool:
        """What the live view has to do, or to connect again for it, or for a task. Returns whether there is something
        new to see."""
        if self.link.state is LinkState.OFFLINE and not self.awaited:
            return self.reconnects and self._guard_live(self._connect_again)
        if self.live is None:
            return False
        return self._guard_live(lambda: self.live is not None and self.live.tick(self.link))

    def _guard_live(self, work: Callable[[], bool]) -> bool:
        """The outcome of live work; what makes it impossible to go on ends it, and nothing else."""
        try:
            return work()
        except (ConnectionLost, ReferenceError):
            return False  # the link tells so with its next event; or Blender is replacing its data, as in an undo
        except PaintoverError as error:
            self.end_live(error)
        except Exception as error:  # noqa: BLE001 - a bug: said, logged, not fatal
            traceback.print_exc()
            self.end_live(RenderFailed(reason=f"{type(error).__name__}: {error}"))
        return True

    def _connect_again(self) -> bool:
        """Connect to where the last connection was to, every now and then; a server that this Blender started, and
        that is gone, is started anew."""
        if self._address is None or time.monotonic() < self._next_attempt:
            return False
        self._next_attempt = time.monotonic() + RECONNECT
        if server_process.died():
            server_process.start_again()
            self.awaited = self._address
        else:
            self.link.connect(*self._address)
        return True

    def _work(self, task: Task, until: float) -> bool:
        """Advance a task, one step at least; returns whether there is something new to see."""
        before = task.stage
        while self._guard(task, lambda: task.advance(self.link)) and time.perf_counter() < until:
            pass
        return task.stage != before or not task.working

    def _look_after_server(self) -> bool:
        """How far the set-up is, whether the server that was started listens, and whether the one that was stopped has
        ended; returns whether anything changed."""
        changed = self.setup is not None and self.setup.poll()
        if self._stopping != server_process.stopping():
            self._stopping, changed = not self._stopping, True
        if self.awaited:
            try:
                if not server_process.listening():
                    return changed
                self.connect(*self.awaited)
            except PaintoverError as error:
                self.error = error
            self.awaited, changed = None, True
        return changed

    def _apply(self, event: Any) -> None:
        if isinstance(event, Client):
            properties.set_models(event.welcome.capabilities.models)
            self.refresh()
            for task in self.active:
                task.take_up(self.link)
            if self.reconnects:
                self.error = None
            if self.live:
                self.live.take_up(self.link)
        elif isinstance(event, OF_STAGE):
            self._guard_live(lambda: self.live is not None and self.live.receive(event, self.link))
        elif isinstance(event, PaintoverError):
            self.error = event
            self._offline()
            self._lose(event)
            self._next_attempt = time.monotonic() + RECONNECT
            if self.live:
                self.live.lose(event)
        elif isinstance(event, MeshesMissing):
            for task in self.active:
                if task.wants(event):
                    self._guard(task, lambda task=task: task.upload(self.link, event))  # type: ignore[misc]
                    break
        elif isinstance(event, Jobs):
            self.jobs = event.jobs
        elif isinstance(event, Forgotten):
            self._drop(event.job)
        elif isinstance(event, Notice):
            self.error = event.failure.error()
        elif isinstance(event, Trouble):
            self._trouble(event)
        elif not isinstance(event, Pong):
            for task in self.tasks:
                if task.job == getattr(event, "job", None):
                    self._guard(task, lambda task=task: task.receive(event))  # type: ignore[misc]
            if isinstance(event, JobState):
                self.jobs = tuple(
                    replace(job, state=event.state) if job.job == event.job else job for job in self.jobs or ()
                )
                if event.state in ENDED:
                    self.refresh()  # one that was stopped can be resumed

    def _trouble(self, trouble: Trouble) -> None:
        """A message could not be answered: the task that sent it fails, or nobody's in particular does."""
        error = trouble.failure.error()
        task = next((task for task in self.active if task.job == trouble.job), None)
        if task:
            task.refused(error)
        else:
            self.error = error

    def _guard(self, task: Task, work: Any) -> Any:
        """The outcome of a task's work; whatever goes wrong there is the task's own failure and stops nothing else."""
        try:
            return work()
        except PaintoverError as error:
            task.fail(error)
        except ReferenceError:  # what it worked on is gone: undo, another file
            task.fail(SceneError(reason="it changed while it was being prepared", hint="Run it again."))
        except Exception as error:  # noqa: BLE001 - a bug, or a file that Blender cannot cope with: said, logged, not fatal
            traceback.print_exc()
            task.fail(RenderFailed(reason=f"{type(error).__name__}: {error}"))
        return None


session = Session()
"""The one session of this Blender."""
