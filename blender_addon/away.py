"""Jobs of this file that ended, or go on, while Blender was away: which they are, and which ones the file has got."""

from __future__ import annotations

import getpass
import socket
import uuid
from collections.abc import Container, Iterable
from functools import cache

import bpy

from .bridge.messages import CANCELLED, DONE, FAILED, JobSummary
from .bridge.origin import LONGEST_LABEL, Origin

REMEMBERED = 64
"""Jobs that a scene keeps in mind."""


def origin(scene: bpy.types.Scene) -> Origin:
    """How jobs of this scene are labelled. Names only: the server learns no path."""
    file, name = bpy.path.basename(bpy.data.filepath), scene.name
    return Origin(
        _client()[:LONGEST_LABEL], file[:LONGEST_LABEL], name[:LONGEST_LABEL], scene.paintover.identity[:LONGEST_LABEL]
    )


def identify(scene: bpy.types.Scene) -> None:
    """Give the scene an identity if it has none of its own (a copy of a scene has the other's)."""
    others = (other.paintover.identity for other in bpy.data.scenes if other != scene)
    if not scene.library and (not scene.paintover.identity or scene.paintover.identity in others):
        scene.paintover.identity = uuid.uuid4().hex


def identify_all() -> None:
    """After a file was opened: before its first step to undo, so that no undo takes an identity away. What a new file
    has is that of the start-up file."""
    for scene in bpy.data.scenes:
        if not bpy.data.filepath and not scene.library:
            scene.paintover.identity = ""
        identify(scene)


@cache  # panels ask at every redraw
def _client() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError, ImportError):  # a system without users' names
        return socket.gethostname()


def mark(scene: bpy.types.Scene, job: str) -> None:
    """This scene has got what the job made."""
    if not scene.library:
        names = [name for name in applied(scene) if name != job]
        scene.paintover.applied = " ".join([*names, job][-REMEMBERED:])


def applied(scene: bpy.types.Scene) -> list[str]:
    """Names of the jobs whose results the scene got."""
    return scene.paintover.applied.split()


def offers(
    jobs: Iterable[JobSummary], scene: bpy.types.Scene, under_way: Iterable[str], left: Container[str] = ()
) -> list[JobSummary]:
    """Of all the server's jobs, those of this scene that can be taken over or resumed; the newest first.

    A scene is known by its identity, or by the names of it and its file: one that was not saved since has no identity.
    Not those that this session (`under_way`) or another one listens to (to those that are `left` nobody does), nor
    those that stopped with nothing finished.
    """
    ours = origin(scene)
    known = {*applied(scene), *under_way}

    def wanted(job: JobSummary) -> bool:
        named = (job.client, job.file, job.scene) == (ours.client, ours.file, ours.scene)
        here = named or (ours.identity != "" and job.identity == ours.identity)
        stopped = job.state in (CANCELLED, FAILED)
        free = job.state == DONE or not job.followed or job.job in left
        useful = job.resumable and job.painted > 0 if stopped else free
        return here and job.job not in known and useful

    return [job for job in jobs if wanted(job)][::-1]
