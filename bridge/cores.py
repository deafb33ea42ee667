"""Which thread runs where and when: what Linux cannot know of threads that pass things on to each other.

Everything here needs no privilege and takes nobody's share of the processor. On other systems nothing happens.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import sys

SHORT = 100_000
"""Nanoseconds: the shortest slice that Linux takes."""
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}.get(platform.machine()) if sys.platform == "linux" else None
_allowed = os.sched_getaffinity(0) if sys.platform == "linux" else set()
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class _Attributes(ctypes.Structure):
    """struct sched_attr of sched_setattr(2)."""

    _fields_ = (
        ("size", ctypes.c_uint32), ("policy", ctypes.c_uint32), ("flags", ctypes.c_uint64), ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32), ("runtime", ctypes.c_uint64), ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    )  # fmt: skip


def be_prompt() -> None:
    """Have this thread, and those that it starts from now on, run as soon as they wake. For threads that do little.

    Whoever runs goes on until its time slice (3 ms) is over, unless the one that wakes has asked for a shorter one
    (EEVDF, Stoica and Abdel-Wahab 1995; slices that a thread can choose, and that preempt, since Linux 6.12).
    """
    if _SCHED_SETATTR is None or _libc is None:
        return
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    attributes = _Attributes(ctypes.sizeof(_Attributes), 0, 0, nice, 0, SHORT, 0, 0)
    _libc.syscall(_SCHED_SETATTR, 0, ctypes.byref(attributes), 0)


def core() -> int:
    """The core that this thread runs on; −1 where that is not known."""
    return int(_libc.sched_getcpu()) if _libc is not None and hasattr(_libc, "sched_getcpu") else -1


def keep_off(taken: int, needed: int = 1) -> None:
    """Have this thread, and all that it starts, use other cores than this one, where somebody is at work who sends it
    something: until `go_anywhere`, or until the next core is named. Where fewer than `needed` are left, nothing
    happens.

    Linux wakes whoever gets a message on its sender's core, and on a machine with few cores leaves it waiting there
    while the others are idle.
    """
    others = _allowed - {taken}
    if len(others) >= needed:
        with contextlib.suppress(OSError):
            if taken in os.sched_getaffinity(0):
                os.sched_setaffinity(0, others)


def go_anywhere() -> None:
    """Have this thread use every core again that it had at first."""
    if _allowed:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, _allowed)
