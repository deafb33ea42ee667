"""The paintover command as a user types it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from paintover.bridge.client import Client
from paintover.server.cli import _until_told_to_stop

from ..server_process import TOKEN, ServerProcess
from ..small_disk import small_disk


def paintover(*arguments: str, data: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "paintover.server.cli", *arguments],
        env={**os.environ, "PAINTOVER_DATA": str(data), "NO_COLOR": "1", "COLUMNS": "200", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )


def test_generate(server: ServerProcess, tmp_path: Path) -> None:
    out = tmp_path / "new" / "moss.png"
    arguments = ("--steps", "2", "--size", "128", "--seed", "4", "--port", str(server.port), "--out", str(out))
    result = paintover("generate", "mossy stone", *arguments, data=server.data)
    assert result.returncode == 0, result.stderr
    assert "seed 4" in result.stdout
    with Image.open(out) as image:
        assert image.size == (128, 128)
        assert image.info["prompt"] == "mossy stone"
        assert image.info["steps"] == "2"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--steps", "0"), ("steps", "minimum 1")),
        (("--model", "nonesuch"), ("nonesuch", "models list")),
        (("--width", "100"), ("100", "divisible by 8")),
        (("--width", "8192"), ("8192", "between 64 and 4096")),
    ],
)
def test_generate_says_what_is_wrong(server: ServerProcess, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    result = paintover("generate", "x", "--port", str(server.port), *arguments, data=server.data)
    assert result.returncode == 1
    for word in words:
        assert word in result.stderr
    assert "Traceback" not in result.stderr


def test_generate_without_a_server(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    result = paintover("generate", "x", "--port", str(port), data=tmp_path)
    assert result.returncode == 1
    assert "paintover serve" in result.stderr


def test_doctor(server: ServerProcess) -> None:
    result = paintover("doctor", "--port", str(server.port), data=server.data)
    assert result.returncode == 0, result.stdout
    assert TOKEN in result.stdout
    assert "Model mini (sd15): depth, normal, edge" in result.stdout
    assert f"A server answers at 127.0.0.1:{server.port}" in result.stdout
    assert re.search(r"The link: [\d,]+ MB/s through (shared memory|the socket), [\d.]+ ms", result.stdout)


@pytest.mark.parametrize("kind", ["read-only", "file"])
def test_a_data_folder_that_cannot_be_written(tmp_path: Path, kind: str) -> None:
    with contextlib.ExitStack() as stack:
        data = tmp_path / "data"
        if kind == "file":
            data.write_text("no folder")
        else:
            stack.enter_context(small_disk(data, kilobytes=64)).set_read_only(True)
        served, told = paintover("serve", "--port", "0", data=data), paintover("doctor", data=data)
    assert (served.returncode, told.returncode) == (1, 1)
    assert f"cannot write to its folder {data}" in served.stderr
    assert "PAINTOVER_DATA" in served.stderr
    assert "Traceback" not in served.stderr
    assert f"Data folder {data}: nothing can be written there" in told.stdout
    assert "PAINTOVER_DATA" in told.stdout


def test_models(tmp_path: Path) -> None:
    listed = paintover("models", "list", data=tmp_path)
    assert listed.returncode == 0
    assert "mini" in listed.stdout
    assert "sd15-depth" in listed.stdout
    wrong = tmp_path / "model.ckpt"
    wrong.write_bytes(b"pickled")
    added = paintover("models", "add", str(wrong), data=tmp_path)
    assert added.returncode == 1
    assert "safetensors" in added.stderr
    folder = tmp_path / "loras"
    folder.mkdir()
    (folder / "film.safetensors").write_bytes(b"no LoRA")
    assert paintover("models", "add", str(folder), "--lora", data=tmp_path).returncode == 0
    listed = paintover("models", "list", data=tmp_path)
    assert "film" in listed.stdout
    assert "not a safetensors file" in " ".join(listed.stdout.split())
    removed = paintover("models", "remove", "nonesuch", data=tmp_path)
    assert removed.returncode == 1
    assert "nonesuch" in removed.stderr
    fetched = paintover("models", "fetch", "sd15", "--yes", data=tmp_path)
    assert fetched.returncode == 1
    assert "internet" in fetched.stderr
    assert "Traceback" not in fetched.stderr


def test_a_log_that_nobody_watches_has_a_record_a_line(server: ServerProcess) -> None:
    with Client.connect("127.0.0.1", server.port, TOKEN, name="a client with a name of eighty letters".ljust(80, "!")):
        server.said("!!!' .* connected")
    lines = server.log.read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ \S", line) for line in lines), lines


async def test_stopped_twice_it_still_tidies_up() -> None:
    """As Stop Server does: it closes the server's input, and sends a signal while that is being obeyed."""
    tidied: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            for _ in range(100):  # the signal comes during this
                await asyncio.sleep(0)
            tidied.append("all")

    async def unneeded() -> None:
        pass

    await _until_told_to_stop(work(), unneeded())
    assert tidied == ["all"]
