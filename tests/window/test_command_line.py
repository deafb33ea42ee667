"""`blender -b film.blend -a` with the program itself, as a render farm runs it: no window, no screen, no script."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ..server_process import TOKEN, ServerProcess, running
from . import host
from .test_window import OUT

pytestmark = [pytest.mark.skipif(not host.ROOT, reason=host.WHY_NOT), pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("server"), engine="diffusers") as process:
        yield process


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory, addon_zip: Path, server: ServerProcess) -> Path:
    """A folder with film.blend, and a profile in which the extension is enabled."""
    work = tmp_path_factory.mktemp("film")
    shutil.copy(addon_zip, work / "paintover.zip")
    shutil.copy(Path(__file__).with_name("film.py"), work)
    (work / "plan.json").write_text(json.dumps({"port": server.port, "token": TOKEN}))
    code, said = host.command_line(work, "--factory-startup", "--python", "film.py")
    assert code == 0, said[-4000:]
    assert (work / "film.blend").exists(), said[-4000:]
    return work


def pictures(folder: Path) -> dict[str, np.ndarray]:
    found = {}
    for path in sorted(folder.iterdir()):
        with Image.open(path) as picture:
            found[path.name] = np.asarray(picture.convert("RGB")).astype(np.float32)
    return found


def test_an_animation_lands_in_its_folder_painted(film: Path) -> None:
    code, said = host.command_line(film, "film.blend", "-a")
    assert code == 0, said[-4000:]
    found = pictures(film / "painted")
    assert list(found) == [f"frame_{number:04}.png" for number in range(1, 8)], said[-4000:]
    OUT.mkdir(parents=True, exist_ok=True)
    shutil.copy(film / "painted" / "frame_0004.png", OUT / "command-line.png")
    for name, picture in found.items():
        assert picture.shape == (128, 192, 3), name
        middle = picture[44:84, 76:116].mean((0, 1))
        assert middle[1] > middle[2] + 10, f"moss is green, {name} has {middle.round()}"
    assert abs(found["frame_0001.png"] - found["frame_0007.png"]).mean() > 3, "it turns"
    code, said = host.command_line(film, "film.blend", "-o", "//one/", "-f", "3")
    assert code == 0, said[-4000:]
    assert list(pictures(film / "one")) == ["0003.png"]


def test_without_a_server_it_says_so_and_writes_nothing(film: Path) -> None:
    elsewhere = "import bpy; bpy.context.preferences.addons['bl_ext.user_default.paintover'].preferences.port = 1"
    code, said = host.command_line(film, "film.blend", "--python-expr", elsewhere, "-o", "//nothing/", "-a")
    assert code != 0, "a render farm sees that it failed"
    assert "No Paintover server answers" in said
    assert not (film / "nothing").exists(), "no black frames"
