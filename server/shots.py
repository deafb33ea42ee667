"""The front's part in a shot: which frames are asked for, which have come, and whether anybody sends them.

The worker says which frames it wants next; the clients that follow the job are asked for them, and the first answer
counts. No more is asked for while too much of what is painted has not been taken (FrameKept): so whoever is slow, or
gone, fills neither memory nor disk.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from functools import partial
from typing import Any

from paintover.bridge.errors import BadMessage, NothingToContinue, PaintoverError, SenderGone
from paintover.bridge.messages import (
    RUNNING,
    FrameGiven,
    FrameKept,
    FrameMissing,
    FramePainted,
    FrameWanted,
    Shot,
)
from paintover.bridge.shot import ShotFrame
from paintover.bridge.shot_messages import AHEAD

from .archive import Archive, settled
from .ending import end
from .jobs import Job, Jobs
from .journal import Journal
from .parts import FRAME, frame_name, part_name, places_of
from .supervisor import Supervisor
from .worker_messages import KeyDone, Run

PATIENCE = 60.0
"""Seconds for which a shot waits for frames while no client follows it."""
SILENCE = 600.0
"""Seconds that a client which is there may take for a frame: heavy scenes take minutes."""
WATCH = 1.0
"""Seconds between looks at who is there."""
UNKEPT = 16
"""Painted frames that no client has on disk yet; beyond them no more are asked for."""
TURN, LONGEST_TURN = 30.0, 300.0
"""Seconds of painting for which a shot keeps its turn, at the least and at the most, before another shot that needs
another model. Both models have to be loaded for that: turns grow with the time that it takes."""
LOADS = 4.0
"""How many times as long as loading its model took a turn is: so at most a fifth of the time goes to loading."""


class Desk:
    """The frames of one shot."""

    def __init__(self, shot: Shot, reached: int = 0) -> None:
        """`reached`: the place behind all that was painted in earlier runs."""
        self.shot = shot
        self.places = shot.plan()
        self.keys = [index for index, place in enumerate(self.places) if place.key]
        """Places of keyframes."""
        self._later: list[int] = []
        """Places that the worker wants and no client was asked for."""
        self._asked: list[int] = []
        """Places that clients were asked for."""
        self._known = min(reached + AHEAD, len(self.places)) if reached else 0
        """All below were asked for at some time: an answer that comes late is no mistake."""
        self.heard = time.monotonic()
        """When a client last answered, or was asked."""
        self._began: float | None = None
        """When the first frame of this turn was painted."""
        self._loading = 0.0
        """Seconds that it took to load models in this turn."""

    def painted(self, frame: FramePainted) -> None:
        """The worker has finished a frame."""
        self._began = self._began or time.monotonic()
        self._loading += frame.seconds.get("load", 0.0)

    @property
    def had_its_turn(self) -> bool:
        """Whether it has painted for so long that loading another model is worth it."""
        worked = time.monotonic() - self._began if self._began else 0.0
        return worked >= min(max(TURN, LOADS * self._loading), LONGEST_TURN)

    def want(self, places: Iterable[int]) -> None:
        """The worker wants these next."""
        self._later += places

    def ask(self, unkept: int) -> tuple[int, int] | None:
        """The first place and how many to ask for now. `unkept`: painted frames that are on no client's disk."""
        if not self._later or unkept >= UNKEPT:
            return None
        found = self._later[0], len(self._later)
        self._asked, self._later, self.heard = self._asked + self._later, [], time.monotonic()
        self._known = max(self._known, self._asked[-1] + 1)
        return found

    @property
    def asked(self) -> tuple[int, int] | None:
        """The first place and how many have been asked for and have not come."""
        return (self._asked[0], len(self._asked)) if self._asked else None

    @property
    def waits(self) -> bool:
        """Whether the shot cannot go on without a client."""
        return bool(self._asked or self._later)

    def take(self, place: int) -> bool:
        """A client has answered for a place; False if that comes too late. Raises BadMessage if nobody asked."""
        if place in self._asked:
            self._asked.remove(place)
            self.heard = time.monotonic()
            return True
        if not 0 <= place < self._known:
            raise BadMessage(name="FrameGiven", reason=f"nobody asked for place {place}")
        return False

    def check(self, given: FrameGiven) -> None:
        """Raise BadMessage for a frame that is not the one that belongs at its place."""
        frame, place, shot = given.frame, self.places[given.place], self.shot
        height, width = frame.passes.depth.shape
        if (width, height) != (shot.width, shot.height):
            raise BadMessage(
                name="FrameGiven",
                reason=f"frame {place.number} has {width} × {height} pixels in a shot of {shot.width} × {shot.height}",
                hint="Leave the resolution as it is while a shot is painted, then resume it.",
            )
        wanted = (place.number, place.key, place.before, place.after, place.previous)
        if _links(frame) != wanted:
            reason = f"at place {given.place} came frame {frame.number}, linked otherwise than the shot's order says"
            raise BadMessage(name="FrameGiven", reason=reason)


class Shots:
    """The shot that runs, and the frames of those that are over and not taken yet."""

    def __init__(self, jobs: Jobs, archive: Archive, supervisor: Supervisor) -> None:
        self._jobs, self._archive, self._supervisor = jobs, archive, supervisor
        self._desks: dict[str, Desk] = {}
        self._watches: dict[str, asyncio.Task[None]] = {}

    async def begin(self, job: Job, shot: Shot) -> Run:
        """What a worker is told to do: to go on behind the newest keyframe. `end` has to follow."""
        desk = self._desks[job.name] = await self._archive.read(Desk, shot, job.reached)
        job.reached = max(job.reached, shot.first)
        await settled(job)
        state = await self._archive.read(self._archive.journal.load_state, job.name, desk.keys, len(desk.places))
        self._watches[job.name] = asyncio.create_task(self._watch(job, desk))
        return job.to_run(*state)

    async def end(self, job: Job) -> None:
        """Its run is over: nothing is wanted any more."""
        self._desks.pop(job.name, None)
        if watch := self._watches.pop(job.name, None):
            await end([watch])

    def asked(self, job: Job) -> FrameWanted | None:
        """What the clients have been asked for and have not sent."""
        asked = self._desks[job.name].asked if job.name in self._desks else None
        return FrameWanted(job.name, *asked) if asked else None

    # ------------------------------------------------------------ what clients say

    def hear(self, job: Job, message: FrameGiven | FrameMissing | FrameKept) -> None:
        """Take an answer. One that comes too late is no mistake; one that nobody asked for raises BadMessage, and one
        that does not fit ends the job."""
        desk = self._desks.get(job.name)
        if isinstance(message, FrameKept):
            self._kept(job, desk, message.place)
        elif desk is None or not desk.take(message.place):
            pass
        elif isinstance(message, FrameMissing):
            self._give_up(job, message.failure.error())
        else:
            try:
                desk.check(message)
            except BadMessage as error:
                self._give_up(job, error)
            else:
                self._supervisor.give(message)

    def _kept(self, job: Job, desk: Desk | None, place: int) -> None:
        name = frame_name(place)
        if name in job.finished:
            job.finished.discard(name)
            job.parts.pop(name, None)
            self._archive.write(job, self._archive.journal.drop_part, job.name, name)
        if desk:
            desk.heard = time.monotonic()
            self._ask(job, desk)

    def _ask(self, job: Job, desk: Desk) -> None:
        if wanted := desk.ask(len(places_of(job.finished, FRAME))):
            job.report(FrameWanted(job.name, *wanted))

    def _give_up(self, job: Job, error: PaintoverError) -> None:
        job.given_up = error
        self._supervisor.stop_job(job.name)

    async def _watch(self, job: Job, desk: Desk) -> None:
        """Give a shot up for which nobody sends frames."""
        there = time.monotonic()
        while not job.given_up:
            await asyncio.sleep(min(WATCH, PATIENCE))
            now = time.monotonic()
            if job.followers or not desk.waits:
                there = now
            if desk.waits and (now - there > PATIENCE or now - desk.heard > SILENCE):
                self._give_up(job, SenderGone())

    # ------------------------------------------------------------ what the worker says

    def report(self, job: Job, message: Any) -> bool:
        """Take what the worker says of a shot's frames; False for anything else."""
        if isinstance(message, FrameWanted):
            desk = self._desks[job.name]
            desk.want(range(message.place, message.place + message.count))
            self._ask(job, desk)
        elif isinstance(message, FramePainted):
            self._desks[job.name].painted(message)
            if message.place >= job.reached:  # else it was painted once more on the way to there, and is the same
                job.reached = message.place + 1
                self._keep(job, message)
                job.report(message)
        elif isinstance(message, KeyDone):
            job.finished.add(part_name(message))
            stored = partial(self._key_stored, job)
            self._archive.write(job, store_key, self._archive.journal, job, message, then=stored)
        else:
            return False
        return True

    def _keep(self, job: Job, message: FramePainted) -> None:
        def stored(_: Any) -> None:  # so memory need not hold it
            job.parts.pop(part_name(message), None)

        job.keep(message)
        self._archive.write(job, store_frame, self._archive.journal, job, message, then=stored)

    def _key_stored(self, job: Job, removed: list[str]) -> None:
        """A shot can go on from here: others that wait are let through first."""
        job.finished.difference_update(removed)
        if job.state == RUNNING and not job.steps_back and self._lets_others_through(job):
            job.steps_back = True
            self._supervisor.stop_job(job.name)

    def _lets_others_through(self, job: Job) -> bool:
        waiting, desk = self._jobs.waiting, self._desks.get(job.name)
        if not waiting or desk is None:
            return False
        reloads = all(other.kind == "shot" and other.settings.model != job.settings.model for other in waiting)
        return desk.had_its_turn or not reloads


def _links(frame: ShotFrame) -> tuple[int | bool | None, ...]:
    links = (frame.before, frame.after, frame.previous)
    return (frame.number, frame.key, *(link.frame if link else None for link in links))


def check_continued(journal: Journal, shot: Shot) -> None:
    """Raise UnknownJob or NothingToContinue if a shot cannot go on from the keyframes that it names."""
    if journal.load_record(shot.continues).kind != "shot":  # whose request is gone once it is done
        raise NothingToContinue(place=shot.first, reason="what it names is no shot")
    other = journal.load_request(shot.continues).request
    what = (shot.width, shot.height, shot.plan()[: shot.first])
    if not isinstance(other, Shot) or (other.width, other.height, other.plan()[: shot.first]) != what:
        raise NothingToContinue(place=shot.first, reason="the frames before are others")
    keys = [index for index, place in enumerate(shot.plan()) if place.key]
    if journal.load_state(shot.continues, keys, shot.first)[1] is None:
        raise NothingToContinue(place=shot.first, reason="the keyframes before are no longer there")


def store_frame(journal: Journal, job: Job, frame: FramePainted) -> None:
    """Keep a painted frame; what cannot be is tried again with the next keyframe. On the journal's thread."""
    try:
        journal.part(job.name, frame)
    except PaintoverError:
        job.lost.add(part_name(frame))
        raise


def store_key(journal: Journal, job: Job, key: KeyDone) -> list[str]:
    """Keep a keyframe, once all that was painted before is kept; returns the names of old ones that had to go.

    Without that order, a server that goes on behind the keyframe would never paint what is lost before it.
    """
    for name in sorted(job.lost):
        if frame := job.parts.get(name):  # else a client has it
            journal.part(job.name, frame)
    job.lost.clear()
    journal.part(job.name, key)
    return journal.trim_keys(job.name)
