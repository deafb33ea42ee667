"""The client of `resume`: sends the frames of a rendered shot, and writes what is painted as PNGs, each whole or not at
all. Killed and started again it goes on; a server that is gone is waited for.

python -m benchmarks.resume_client JOB FOLDER    (FOLDER/port has the server's port)
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from PIL import Image

from paintover.bridge.client import Client
from paintover.bridge.errors import LinkError, SenderGone, UnknownJob
from paintover.bridge.messages import (
    DONE,
    ENDED,
    RUNNING,
    FrameGiven,
    FrameKept,
    FramePainted,
    FrameWanted,
    JobState,
    Resume,
    Submit,
    Trouble,
)
from paintover.bridge.messages import Shot as ShotRequest
from tests.server_process import TOKEN

from .flicker_paint import settings
from .shots import Shot

SHOT = Shot("passing", 24, 128, 128)
STEPS = 4
SILENCE, AWAY = 300.0, 120.0
"""Seconds that the server may say nothing, and be gone."""


def request() -> ShotRequest:
    look = settings("a lava object", STEPS)
    return ShotRequest(look, tuple(range(1, SHOT.frames + 1)), SHOT.width, SHOT.height)


def file_of(folder: Path, number: int) -> Path:
    return folder / f"{number:04}.png"


def write(folder: Path, painted: FramePainted) -> None:
    part = folder / f"{painted.number:04}.part"
    with part.open("wb") as file:
        Image.fromarray(painted.image).save(file, "PNG", compress_level=1)
        file.flush()
        os.fsync(file.fileno())
    part.replace(file_of(folder, painted.number))


def play(client: Client, job: str, folder: Path) -> None:
    """Until the shot is done. Raises its failure, or a LinkError."""
    asked = request()
    places = asked.plan()
    client.send(Resume(job))
    while True:
        message = client.receive(SILENCE)
        if isinstance(message, Trouble):
            raise message.failure.error()
        if getattr(message, "job", "") != job:
            continue
        if isinstance(message, FrameWanted):
            for place in range(message.place, message.place + message.count):
                client.send(FrameGiven(job, place, SHOT.frame(places[place], asked.settings)))
        elif isinstance(message, FramePainted):
            write(folder, message)
            client.send(FrameKept(job, message.place))
            print("painted", message.place, flush=True)
        elif isinstance(message, JobState):
            failure = message.failure.error() if message.failure else None
            if isinstance(failure, UnknownJob):
                client.send(Submit(job, asked))
            elif isinstance(failure, SenderGone):
                client.send(Resume(job))
            elif failure:
                raise failure
            elif message.state in ENDED:
                assert message.state == DONE
                client.flush(5)
                return
            elif message.state == RUNNING:
                print("running", flush=True)


def main() -> None:
    job, folder = sys.argv[1], Path(sys.argv[2])
    away = time.monotonic()
    while True:
        try:
            port = int((folder / "port").read_text(encoding="utf-8"))
            with Client.connect("127.0.0.1", port, TOKEN, name="resume") as client:
                away = time.monotonic()
                play(client, job, folder)
                return
        except LinkError:
            if time.monotonic() - away > AWAY:
                raise
            time.sleep(0.1)


if __name__ == "__main__":
    main()
