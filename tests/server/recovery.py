"""A small texture job for tests of what survives: a sphere from four sides."""

from __future__ import annotations

from typing import Any

from paintover.bridge.client import Client
from paintover.bridge.messages import ENDED, JobState, Texture
from paintover.bridge.origin import Origin, Target
from paintover.bridge.parameters import Settings

from . import sphere

ORIGIN = Origin("tests", "ball.blend", "Scene", targets=(Target("Sphere", "UVMap"),))


def submit(client: Client, steps: int = 30, **settings: Any) -> str:
    """Ask for the job; returns its name."""
    (mesh,) = client.upload([sphere.mesh()])
    views = tuple(sphere.passes(sphere.camera(azimuth)) for azimuth in (0, 90, 180, 270))
    values = {"seed": 3, "texture_size": 128, "steps": steps, **settings}
    return client.submit(Texture(Settings(**values), views, (mesh,)), ORIGIN)


def until(client: Client, wanted: type, job: str, count: int = 1) -> Any:
    """The count-th message of that type of that job from now on."""
    while True:
        message = client.receive(60)
        if isinstance(message, wanted) and getattr(message, "job", job) == job:
            count -= 1
            if count == 0:
                return message


def state_after(client: Client, job: str, *states: str) -> JobState:
    while True:
        state: JobState = until(client, JobState, job)
        if state.state in states:
            return state


def end_of(client: Client, job: str) -> JobState:
    return state_after(client, job, *ENDED)
