"""The second painting process: when it is started and warmed, how it steps in and makes room, and what if it dies."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import queue
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from paintover.bridge.errors import WorkerDied
from paintover.bridge.messages import FAILED, QUEUED, RUNNING, Generate, JobState, Texture, TextureResult, ViewPainted
from paintover.bridge.parameters import Settings
from paintover.server.supervisor import BACK_OFF, SLOW, Supervisor, may_start, may_warm, short_of_memory
from paintover.server.worker import apart, slowed
from paintover.server.worker_messages import Beat, Run, ViewDone, Yield

from ..server_process import running
from ..waiting import eventually
from . import sphere
from .recovery import finish, of_type, submit, until


def test_the_standby_steps_in_and_is_replaced(tmp_path: Path) -> None:
    with running(tmp_path) as server, server.client() as client:
        for count in (1, 2):
            server.said("is ready to step in", count)
            server.said("holds mini ready", count - 1)  # what the first job has left in the first worker
            active = server.worker()
            (standby,) = [process for process in server.processes() if process.pid != active.pid]
            job = submit(client)
            until(client, ViewPainted, job)
            active.kill()
            assert of_type(finish(client, job), TextureResult)
            assert server.worker().pid == standby.pid
        server.said("is ready to step in", 3)
        active = server.worker()
        (standby,) = [process for process in server.processes() if process.pid != active.pid]
        standby.kill()
        server.said("is ready to step in", 4)
        active.kill()
        server.said("takes the jobs", 4)
        assert finish(client, submit(client, 1)), "one that dies idle is replaced, too"


def test_without_a_standby_there_is_one_process(tmp_path: Path) -> None:
    with running(tmp_path, "fake", "--no-standby") as server, server.client() as client:
        job = submit(client)
        until(client, ViewPainted, job)
        server.worker().kill()
        assert of_type(finish(client, job), TextureResult)
        assert len(server.processes()) == 1


def test_memory_decides_about_the_standby() -> None:
    giga = 1 << 30
    roomy = Beat("sdxl", (), 6 * giga, 8 * giga, 15 * giga, 2 * giga, 9 * giga)
    assert may_start(roomy)
    assert may_warm(roomy)
    assert not may_warm(Beat("sdxl", (), 6 * giga, 8 * giga, 13 * giga, 2 * giga, 9 * giga)), "a full GPU"
    assert not may_start(Beat("mini", (), 1, giga, giga, giga, giga)), "little RAM"
    assert not may_start(Beat()), "nothing is known yet"
    assert not short_of_memory(roomy)
    assert short_of_memory(Beat("sdxl", (), 6 * giga, 12 * giga, 2 * giga, 2 * giga, 9 * giga))


async def test_the_standby_holds_what_the_active_worker_does_and_lets_go_for_another_model(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    supervisor = Supervisor("fake")
    try:
        await supervisor.run(Run("a" * 32, Generate(Settings(steps=1), 64, 64)), lambda message: None)
        await eventually(lambda: (standby := supervisor._warm_standby()) and standby.beat.model == "mini")
        standby = supervisor._warm_standby()
        assert standby is not None
        other = Generate(Settings(prompt=f"until {gate}", model="other"), 64, 64)
        running = asyncio.create_task(supervisor.run(Run("b" * 32, other), lambda message: None))
        await eventually(lambda: standby.beat.model == "")
        assert not running.done(), "while the job runs, its model has the memory for itself"
        gate.touch()
        assert await running is None
        await eventually(lambda: standby.beat.model == "other")
        assert await supervisor.make_room()
        assert standby.dead
        assert not await supervisor.make_room(), "once is all there is"
    finally:
        await supervisor.close()


async def test_a_standby_that_still_loads_at_low_priority_is_not_promoted(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    settings = Settings(steps=1, model=f"when {gate}")
    endless = Generate(dataclasses.replace(settings, prompt="endless"), 64, 64)
    supervisor = Supervisor("fake")
    heard: list[Any] = []
    try:
        gate.touch()
        await supervisor.run(Run("a" * 32, Generate(settings, 64, 64)), heard.append)
        gate.unlink()  # the standby's turn to load has not come yet
        await eventually(lambda: (standby := supervisor._warm_standby()) and standby.asked)
        standby, active = supervisor._warm_standby(), supervisor._active
        assert standby is not None
        assert active is not None
        heard.clear()
        running = asyncio.create_task(supervisor.run(Run("b" * 32, endless), heard.append))
        await eventually(lambda: heard)  # by now the standby was told to yield
        psutil.Process(active.pid).kill()
        with pytest.raises(WorkerDied):
            await running
        await supervisor.ready()
        active = supervisor._active
        assert active is not None
        assert active.pid != standby.pid, "a fresh one is quicker"
        gate.touch()
        await eventually(lambda: standby.beat.model == settings.model)
        psutil.Process(active.pid).kill()
        await eventually(lambda: active.dead)
        await supervisor.ready()
        assert supervisor._active is standby, "now it is ready"
        nices = {os.getpriority(os.PRIO_PROCESS, thread.id) for thread in psutil.Process(standby.pid).threads()}
        assert nices == {os.getpriority(os.PRIO_PROCESS, 0)}, "and nothing of it is at low priority any more"
    finally:
        await supervisor.close()


async def test_a_standby_that_was_left_at_low_priority_is_started_anew() -> None:
    supervisor = Supervisor("fake")
    try:
        await supervisor.ready()
        await eventually(supervisor._warm_standby)
        standby = supervisor._warm_standby()
        assert standby is not None
        standby.beat = dataclasses.replace(standby.beat, slowed=True)
        assert await supervisor._promoted() is None
        for _ in range(SLOW):  # without a pause: its next heartbeat says the truth
            await supervisor._tend_standby()
        assert standby.dead
        await eventually(supervisor._warm_standby)
    finally:
        await supervisor.close()


async def test_a_worker_that_took_a_job_with_nothing_left_to_paint_ends_warm_and_so_does_its_standby() -> None:
    supervisor = Supervisor("fake")
    run = textured_but_for_the_last_word()
    try:
        assert await supervisor.run(run, lambda message: None) is None
        assert supervisor._active is not None
        assert supervisor._active.beat.model == ""
        await eventually(lambda: supervisor._active and supervisor._active.beat.model == "mini")
        await eventually(lambda: (standby := supervisor._warm_standby()) and standby.beat.model == "mini")
        assert supervisor._active.beat.controls == ("depth",)
    finally:
        await supervisor.close()


async def test_a_model_whose_loading_kills_the_worker_is_not_loaded_ahead_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("paintover.server.supervisor.TEND", 0.02)
    supervisor = Supervisor("fake")
    monkeypatch.setattr("paintover.server.supervisor.may_start", lambda beat: False)
    try:
        assert await supervisor.run(textured_but_for_the_last_word(model="deadly"), lambda message: None) is None
        first = supervisor._active
        assert first is not None
        await eventually(lambda: first.dead and supervisor._active not in (first, None))
        second = supervisor._active
        await eventually(lambda: second and second.beat.ram_used)
        assert supervisor._last is None
        assert await supervisor.run(Run("b" * 32, Generate(Settings(steps=1), 64, 64)), lambda message: None) is None
        assert supervisor._active is second
    finally:
        await supervisor.close()


def textured_but_for_the_last_word(**settings: Any) -> Run:
    """A job whose worker died when it had finished all of it, but had not said so."""
    passes, mesh = sphere.passes(sphere.camera(0)), sphere.mesh()
    picture = np.zeros((passes.camera.height, passes.camera.width, 3), np.uint8)
    view = ViewDone("a" * 32, 0, ViewPainted("a" * 32, "", picture), np.ones(picture.shape[:2], np.uint8))
    request = Texture(Settings(texture_size=64, **settings), (passes,), ("",))
    return Run("a" * 32, request, (mesh,), (view,), (mesh.object_id,))


async def test_a_standby_that_dies_again_and_again_is_given_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paintover.server.supervisor.TEND", 3600.0)  # the test tends
    supervisor = Supervisor("fake")
    starts: list[asyncio.Task[Any]] = []

    async def tended(true: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not true():
                await supervisor._tend_standby()
                if supervisor._standby and supervisor._standby not in starts:
                    starts.append(supervisor._standby)
                await asyncio.sleep(0.02)

    async def killed() -> None:
        await tended(supervisor._warm_standby)
        standby = supervisor._warm_standby()
        assert standby is not None
        psutil.Process(standby.pid).kill()
        await eventually(lambda: standby.dead)
        await tended(lambda: supervisor._standby is None or supervisor._standby is not starts[-1])

    def serves() -> bool:
        standby = supervisor._warm_standby()
        return standby is not None and standby.beat.model == supervisor._standing_by == "mini"

    try:
        await supervisor.run(Run("a" * 32, Generate(Settings(steps=1), 64, 64)), lambda message: None)
        await tended(serves)
        await killed()
        await tended(lambda: len(starts) == 2)
        assert supervisor._not_before == 0, "one that has served its purpose is replaced at once"
        await killed()
        assert supervisor._not_before > asyncio.get_running_loop().time() + BACK_OFF / 2
        await supervisor._tend_standby()
        assert supervisor._standby is None, "a second death, with no model held in between"
        supervisor._not_before = 0
        await tended(serves)
        await killed()
        await tended(lambda: len(starts) == 4)
    finally:
        await supervisor.close()


@pytest.mark.skipif(sys.platform != "linux", reason="priorities of single threads")
def test_threads_that_a_lowered_one_has_started_are_raised_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in a thread of its own by `apart`, as libraries do that keep a pool."""
    held, pool = threading.Event(), list[threading.Thread]()
    yielding: queue.Queue[Any] = queue.Queue()
    yielding.put(Yield())

    def load() -> None:
        while not slowed():
            assert threading.current_thread().is_alive()
        pool.append(threading.Thread(target=held.wait, daemon=True))
        pool[0].start()

    class Front:
        def receive(self, timeout: float) -> Any:
            return yielding.get(timeout=timeout)

    try:
        with monkeypatch.context() as patch:
            put = os.setpriority

            def lower(kind: int, who: int, value: int) -> None:
                if value < 19:
                    raise PermissionError
                put(kind, who, value)

            patch.setattr(os, "setpriority", lower)
            apart(Front(), [], load)  # type: ignore[arg-type]
            assert slowed() == [pool[0].native_id], "as most users' systems have it: it is known, at least"
        yielding.put(Yield())
        apart(Front(), [], lambda: None)  # type: ignore[arg-type]
        if os.geteuid() == 0:
            assert slowed() == []
    finally:
        held.set()


def test_a_job_that_lacks_memory_gets_the_standbys(tmp_path: Path) -> None:
    with running(tmp_path) as server, server.client() as client:
        finish(client, client.submit(Generate(Settings(steps=1), 64, 64)))
        server.said("holds mini ready")
        job = client.submit(Generate(Settings(prompt="no memory"), 64, 64))
        states: list[str] = []
        while FAILED not in states:
            states.append(until(client, JobState, job).state)
        assert states == [QUEUED, RUNNING, QUEUED, RUNNING, FAILED], "tried again, alone"
        assert len(server.processes()) == 1
