"""Frames in shared memory: written by one process, read by another, and what happens when either misbehaves."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from paintover.bridge import frames
from paintover.bridge.frames import FrameReader, FrameWriter, place

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="looks at files")


@pytest.fixture
def name() -> Iterator[str]:
    own = f"paintover-test-{uuid.uuid4().hex[:12]}"
    yield own
    place(own).unlink(missing_ok=True)


def picture(value: int, height: int = 48, width: int = 64, channels: int = 3) -> np.ndarray:
    return np.full((height, width, channels), value, np.uint8)


def test_a_reader_gets_the_newest_frame_once_and_its_own_copy(name: str) -> None:
    writer, reader = FrameWriter(name, 1 << 20), FrameReader(name)
    assert reader.read() is None
    for value in (1, 2, 3):
        writer.write(picture(value), 100.0 + value, fresh=value != 3)
    frame = reader.read()
    assert frame is not None
    assert (frame.number, frame.picture, frame.time) == (3, 2, 103.0)
    assert frame.image.shape == (48, 64, 3)
    assert (frame.image == 3).all()
    assert reader.read(after=3) is None
    for value in (4, 5, 6):
        writer.write(picture(value), 0.0)
    assert (frame.image == 3).all(), "a copy, which later frames do not change"
    writer.close()


def test_sizes_and_channels_may_change(name: str) -> None:
    writer, reader = FrameWriter(name, 1 << 20), FrameReader(name)
    for shape in ((64, 64, 3), (8, 1024, 4), (333, 100, 1)):
        image = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
        writer.write(image, 0.0)
        frame = reader.read()
        assert frame is not None
        assert np.array_equal(frame.image, image)
    for bad in (picture(0, 1024, 1024), picture(0, channels=2), picture(0).astype(np.float32)):
        with pytest.raises(ValueError, match="does not fit"):
            writer.write(bad, 0.0)
    writer.close()


def test_no_frame_is_ever_torn(name: str) -> None:
    """A writer that is as fast as it can be, in another process, while this one reads. Every frame is of one value."""
    code = (
        "import select, sys, numpy as np\n"
        "from paintover.bridge.frames import FrameWriter\n"
        "writer = FrameWriter(sys.argv[1], 512 * 512 * 3)\n"
        "images = [np.full((512, 512, 3), i, np.uint8) for i in range(256)]\n"
        "i = 0\n"
        "while not select.select([sys.stdin], [], [], 0)[0]: writer.write(images[i % 256], 0.0); i += 1\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, name], stdin=subprocess.PIPE)
    reader, whole, last = FrameReader(name), 0, 0
    while whole < 2000:
        assert process.poll() is None
        frame = reader.read(last)
        if frame is not None:
            assert frame.number > last
            last = frame.number
            assert frame.image.min() == frame.image.max() == (frame.number - 1) % 256
            whole += 1
    process.communicate(b"\n", timeout=20)
    assert process.returncode == 0


def test_a_name_belongs_to_one_writer_and_is_free_after_a_kill(name: str) -> None:
    code = (
        "import sys, os, signal, numpy as np\n"
        "from paintover.bridge.frames import FrameWriter\n"
        "writer = FrameWriter(sys.argv[1], 1000)\n"
        "writer.write(np.ones((4, 4, 3), np.uint8), 0.0)\n"
        "print('here', flush=True); sys.stdin.readline(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdin is not None
    process.stdout.readline()
    reader = FrameReader(name)
    assert reader.read() is not None
    with pytest.raises(FileExistsError):
        FrameWriter(name, 1000)
    process.communicate(b"\n", timeout=20)
    writer = FrameWriter(name, 1000)
    writer.write(picture(9, 4, 4), 0.0)
    until = time.monotonic() + 20
    while (frame := reader.read()) is None or frame.image[0, 0, 0] != 9:
        assert time.monotonic() < until, "the reader never found the new writer"
    writer.close()
    assert not place(name).is_symlink()
    assert reader.read() is None


def damaged(name: str, change: dict[int, bytes], cut: int | None = None) -> None:
    """A file under the name as a writer would leave it, but for some bytes."""
    stride = 4096
    data = bytearray(frames.HEADER + 3 * stride)
    header = struct.pack("<8sIIQQQQ", b"PTOVFRAM", 1, 3, stride, os.getpid(), 1, 0)
    slot = struct.pack("<QQQdIIII", 2, 1, 1, 0.0, 16, 16, 3, 1)
    data[: len(header)] = header
    data[frames.HEADER : frames.HEADER + len(slot)] = slot
    for at, what in change.items():
        data[at : at + len(what)] = what
    place(name).write_bytes(data[:cut])


@pytest.mark.parametrize(
    ("change", "cut"),
    [
        ({0: b"RUBBISH!"}, None),
        ({8: b"\x02"}, None),
        ({12: b"\xff\xff\xff\xff"}, None),
        ({12: b"\0\0\0\0"}, None),
        ({16: b"\xff" * 8}, None),
        ({16: b"\0" * 8}, None),
        ({frames.HEADER + 32: b"\xff\xff\xff\xff"}, None),
        ({frames.HEADER + 40: b"\x07"}, None),
        ({frames.HEADER + 44: b"\x63"}, None),
        ({frames.HEADER: b"\x03"}, None),
        ({}, 100),
        ({}, frames.HEADER + 100),
        ({}, 0),
    ],
)
def test_what_is_damaged_gives_no_frame(name: str, change: dict[int, bytes], cut: int | None) -> None:
    damaged(name, {})
    reader = FrameReader(name)
    assert reader.read() is not None, "undamaged it is one"
    damaged(name, change, cut)
    reader = FrameReader(name)
    for _ in range(3):
        assert reader.read() is None


def test_a_file_that_is_cut_short_while_it_is_read_costs_nothing(name: str) -> None:
    damaged(name, {})
    reader = FrameReader(name)
    assert reader.read() is not None
    os.truncate(place(name), frames.HEADER + 500)
    assert reader.read() is None


def test_a_name_is_a_name(tmp_path: Path) -> None:
    for bad in ("", "../x", "a/b", ".hidden", "x" * 65, "a\0b"):
        with pytest.raises(ValueError, match="not a name"):
            FrameReader(bad)
