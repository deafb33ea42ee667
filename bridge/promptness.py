"""Threads that do little, and at once when they wake, also while others compute.

Linux lets whoever runs go on until its time slice (3 ms) is over, unless the one that wakes has asked for a shorter
slice; asking needs no privilege and takes nobody's share of the processor (EEVDF, Stoica and Abdel-Wahab 1995; slices a
thread can choose, and that preempt, since Linux 6.12). On older kernels and other systems nothing happens.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import sys

SHORT = 100_000
"""Nanoseconds: the least that Linux takes."""
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}.get(platform.machine()) if sys.platform == "linux" else None


class _Attributes(ctypes.Structure):
    """struct sched_attr of sched_setattr(2)."""

    _fields_ = (
        ("size", ctypes.c_uint32), ("policy", ctypes.c_uint32), ("flags", ctypes.c_uint64), ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32), ("runtime", ctypes.c_uint64), ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    )  # fmt: skip


def be_prompt(prompt: bool = True) -> None:
    """Have this thread, and those that it starts from now on, run as soon as they wake; or have it do without that."""
    if _SCHED_SETATTR is None:
        return
    with contextlib.suppress(OSError, AttributeError):
        nice = os.getpriority(os.PRIO_PROCESS, 0)
        attributes = _Attributes(ctypes.sizeof(_Attributes), 0, 0, nice, 0, SHORT if prompt else 0, 0, 0)
        ctypes.CDLL(None, use_errno=True).syscall(_SCHED_SETATTR, 0, ctypes.byref(attributes), 0)
