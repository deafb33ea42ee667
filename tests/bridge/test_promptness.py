"""Threads that run as soon as they wake."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import threading

import pytest

from paintover.bridge import promptness

GETATTR = {"x86_64": 315, "aarch64": 275}.get(platform.machine())


def slice_of_this_thread() -> int:
    attributes = promptness._Attributes()
    size = ctypes.sizeof(attributes)
    assert ctypes.CDLL(None).syscall(GETATTR, 0, ctypes.byref(attributes), size, 0) == 0
    assert attributes.nice == os.getpriority(os.PRIO_PROCESS, 0)
    return int(attributes.runtime)


@pytest.mark.skipif(sys.platform != "linux" or not GETATTR, reason="there is no such thing")
def test_a_thread_asks_for_a_short_slice_and_gives_it_back() -> None:
    found: list[int] = []

    def work() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 3)
        found.append(slice_of_this_thread())
        promptness.be_prompt()
        found.append(slice_of_this_thread())
        promptness.be_prompt(False)
        found.append(slice_of_this_thread())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    usual, short, again = found
    if not short:
        pytest.skip("a kernel older than 6.12")
    assert short == promptness.SHORT < usual == again


def test_elsewhere_it_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promptness, "_SCHED_SETATTR", None)
    monkeypatch.setattr(ctypes, "CDLL", None)
    promptness.be_prompt()
