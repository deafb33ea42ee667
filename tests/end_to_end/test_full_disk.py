"""Disks that are really full, or cannot be written, while a shot is painted: the frames' own, and the server's."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from paintover.bridge.errors import DiskFull
from paintover.bridge.messages import DONE, ENDED, JobState, Notice

from ..server.shot_client import Artist, same, shot
from ..server_process import ServerProcess, running
from ..small_disk import small_disk
from .conftest import Blender
from .film import CONNECT, FILM, SHOOT, pictures

AGAIN = """
settings.seed = 3
tell(error=failure(bpy.ops.paintover.render_shot))
task = part("session").session.tasks[-1] if part("session").session.tasks else None
tell(state=task and task.state.name, fresh=task and task.pace.painted)
"""


def test_the_output_folder_becomes_full(
    blender: Blender, fake_server: ServerProcess, addon_zip: Path, tmp_path: Path
) -> None:
    whole = Blender(tmp_path / "whole", addon_zip)
    whole.folder.mkdir()
    assert whole.run(SHOOT, port=fake_server.port)["painted"] == ["FINISHED"]
    wanted = pictures(whole.folder / "frames")
    size = sum(path.stat().st_size for path in (whole.folder / "frames").iterdir())
    with small_disk(blender.folder / "frames", kilobytes=4 + size // 2000) as disk:
        told = blender.run(FILM + CONNECT + AGAIN, port=fake_server.port)
        assert "No space left on device" in told["error"]
        assert "press Render Shot" in told["error"]
        assert told["state"] == "FAILED"
        there = pictures(disk.folder)
        assert 1 <= len(there) < 8
        assert all(np.array_equal(there[name], wanted[name]) for name in there), "all that is there is whole"
        assert not list(disk.folder.glob(".*")), "and there is no half of a picture"
        assert len(there) == len(list(disk.folder.iterdir()))
        disk.resize(1024)
        disk.set_read_only(True)
        told = blender.run(FILM + CONNECT + AGAIN, port=fake_server.port)
        assert "Read-only file system" in told["error"]
        assert told["state"] is None, "it is said before anything is painted"
        disk.set_read_only(False)
        told = blender.run(FILM + CONNECT + AGAIN, port=fake_server.port)
        assert told["error"] == ""
        assert told["fresh"] == 8 - len(there)
        assert same_pictures(pictures(disk.folder), wanted)


def same_pictures(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_the_servers_own_disk_becomes_full(tmp_path: Path, fake_server: ServerProcess) -> None:
    with fake_server.client() as client:
        undisturbed = Artist(client, shot(17)).finish()
    with small_disk(tmp_path / "data", 320) as disk, running(disk.folder) as server, server.client() as client:
        artist, said = Artist(client, shot(17)), []
        while not (isinstance(message := artist.step(), JobState) and message.state in ENDED):
            said.append(message)
        assert message.state == DONE
        assert same(artist.pictures, undisturbed)
        notices = [message.failure.error() for message in said if isinstance(message, Notice)]
        assert notices
        assert all(isinstance(error, DiskFull) for error in notices), "everybody is told"
        disk.resize(8192)
        artist = Artist(client, shot(17))
        assert same(artist.finish(), undisturbed)
        assert len(list((disk.folder / "jobs" / artist.job).glob("key-*"))) == 5, "and with room all is kept again"
