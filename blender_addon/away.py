"""Jobs of this file that ended, or go on, while Blender was away: which they are, and which ones the file has got."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Iterable
from functools import cache

import bpy

from .bridge.messages import CANCELLED, DONE, FAILED, JobSummary
from .bridge.origin import LONGEST_LABEL, Origin

REMEMBERED = 64
"""Jobs that a scene keeps in mind."""


def origin(scene: str) -> Origin:
    """How jobs of this scene are labelled. Names only: the server learns no path."""
    file = bpy.path.basename(bpy.data.filepath)
    return Origin(_client()[:LONGEST_LABEL], file[:LONGEST_LABEL], scene[:LONGEST_LABEL])


@cache  # panels ask at every redraw
def _client() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError, ImportError):  # a system without users' names
        return socket.gethostname()


def mark(scene: str, job: str) -> None:
    """This scene has got what the job made."""
    found = bpy.data.scenes.get(scene)
    if found and not found.library:
        names = [name for name in applied(found) if name != job]
        found.paintover.applied = " ".join([*names, job][-REMEMBERED:])


def applied(scene: bpy.types.Scene) -> list[str]:
    """Names of the jobs whose results the scene got."""
    return scene.paintover.applied.split()


def offers(jobs: Iterable[JobSummary], scene: bpy.types.Scene, under_way: Iterable[str]) -> list[JobSummary]:
    """Of all the server's jobs, those of this file and scene that can be taken over or resumed; the newest first.

    Not those that this session (`under_way`) or another one listens to, nor those that stopped with nothing finished.
    """
    ours = origin(scene.name)
    known = {*applied(scene), *under_way}

    def wanted(job: JobSummary) -> bool:
        here = (job.client, job.file, job.scene) == (ours.client, ours.file, ours.scene)
        stopped = job.state in (CANCELLED, FAILED)
        useful = job.resumable and job.painted > 0 if stopped else job.state == DONE or not job.followed
        return here and job.job not in known and useful

    return [job for job in jobs if wanted(job)][::-1]
