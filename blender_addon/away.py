"""Jobs of this file that ended, or go on, while Blender was away: which they are, and which ones the file has got."""

from __future__ import annotations

import getpass
import hashlib
import os
import socket
import uuid
from collections.abc import Container, Iterable
from functools import cache

import bpy

from .bridge.messages import CANCELLED, DONE, ENDED, FAILED, JobSummary
from .bridge.origin import LONGEST_LABEL, Origin

SHOT = "shot"
"""Kind of a job: JobSummary.kind."""
REMEMBERED = 64
"""Jobs, and places, that a scene keeps in mind."""


def origin(scene: bpy.types.Scene) -> Origin:
    """How jobs of this scene are labelled. The server learns names, but no path."""
    path = bpy.data.filepath
    labels = (_client(), bpy.path.basename(path), scene.name, _place(path), scene.paintover.identity)
    return Origin(*(label[:LONGEST_LABEL] for label in labels))


def identify(scene: bpy.types.Scene) -> None:
    """Give the scene an identity if it has none of its own (a copy of a scene has the other's), and note its file.

    Files that were copied share identities. By the files that it was before it got its name, the one that *Save As*
    makes finds the jobs of the one that it was, but neither that one nor another copy finds its jobs.
    """
    if scene.library:
        return
    own, others = scene.paintover, (other.paintover.identity for other in bpy.data.scenes if other != scene)
    if not own.identity or own.identity in others:
        own.identity = uuid.uuid4().hex
    here, places = _place(bpy.data.filepath), own.places.split()
    if places[-1:] != [here]:
        own.places = " ".join([*(place for place in places if place != here), here][-REMEMBERED:])


def identify_all(*, opened: bool = False) -> None:
    """Identify every scene: after a file was opened, before its first step to undo, so that no undo takes an identity
    away, and before it is saved. What a new file has is that of the start-up file."""
    for scene in bpy.data.scenes:
        if opened and not bpy.data.filepath and not scene.library:
            scene.paintover.identity = scene.paintover.places = ""
        identify(scene)


@cache  # panels ask at every redraw
def _place(path: str) -> str:
    """Stands for a file, on this machine, without telling where it is."""
    place = f"{_client()}\n{os.path.normcase(os.path.realpath(path)) if path else ''}"
    return hashlib.blake2b(place.encode(errors="surrogateescape"), digest_size=16).hexdigest()


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

    A scene is known by its identity and one of the files that it was in; or by its name and the file that it is in: one
    that was not saved since has no identity. Not those that this session (`under_way`) or another one listens to (to
    those that are `left` nobody does), nor those that stopped with nothing finished, nor shots: those go on from the
    frames on disk.
    """
    ours = origin(scene)
    known = {*applied(scene), *under_way}
    places = {ours.place, *scene.paintover.places.split()}

    def wanted(job: JobSummary) -> bool:
        named = (job.place, job.scene) == (ours.place, ours.scene)
        here = named or (job.place in places and job.identity == ours.identity != "")
        stopped = job.state in (CANCELLED, FAILED)
        free = job.state == DONE or not job.followed or job.job in left
        useful = job.resumable and job.painted > 0 if stopped else free
        return here and job.kind != SHOT and job.job not in known and useful

    return [job for job in jobs if wanted(job)][::-1]


def forsaken(jobs: Iterable[JobSummary], scene: bpy.types.Scene, under_way: Iterable[str]) -> list[JobSummary]:
    """Shots of this scene that wait on the server for frames which nobody sends any more: of a Blender that ended."""
    ours, known = origin(scene), set(under_way)
    return [
        job
        for job in jobs
        if job.kind == SHOT
        and job.state not in ENDED
        and not job.followed
        and job.job not in known
        and (job.place, job.scene) == (ours.place, ours.scene)
    ]
