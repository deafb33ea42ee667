"""Threads that run as soon as they wake, and on other cores than others."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import threading

import pytest

from paintover.bridge import cores

GETATTR = {"x86_64": 315, "aarch64": 275}.get(platform.machine())


def slice_of_this_thread() -> int:
    attributes = cores._Attributes()
    size = ctypes.sizeof(attributes)
    assert ctypes.CDLL(None).syscall(GETATTR, 0, ctypes.byref(attributes), size, 0) == 0
    assert attributes.nice == os.getpriority(os.PRIO_PROCESS, 0)
    return int(attributes.runtime)


@pytest.mark.skipif(sys.platform != "linux" or not GETATTR, reason="there is no such thing")
def test_a_thread_asks_for_a_short_slice() -> None:
    found: list[int] = []

    def work() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 3)
        found.append(slice_of_this_thread())
        cores.be_prompt()
        found.append(slice_of_this_thread())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    usual, short = found
    if not usual:
        pytest.skip("a kernel older than 6.12")
    assert short == cores.SHORT < usual


@pytest.mark.skipif(sys.platform != "linux", reason="there is no such thing")
def test_a_thread_keeps_off_a_core_until_it_may_go_anywhere() -> None:
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        pytest.skip("one core")
    first, second = sorted(allowed)[:2]
    try:
        for taken in (first, second, second):
            cores.keep_off(taken)
            assert os.sched_getaffinity(0) == allowed - {taken}
            assert cores.core() != taken
        cores.keep_off(-1)
        assert os.sched_getaffinity(0) == allowed - {second}
        cores.keep_off(first, needed=len(allowed))
        assert os.sched_getaffinity(0) == allowed - {second}, "too few would be left"
    finally:
        cores.go_anywhere()
    assert os.sched_getaffinity(0) == allowed


def test_elsewhere_it_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "_libc", None)
    monkeypatch.setattr(cores, "_allowed", set())
    cores.be_prompt()
    assert cores.core() == -1
    cores.keep_off(cores.core())
    cores.go_anywhere()
