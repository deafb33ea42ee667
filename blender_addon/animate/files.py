"""Painted frames as files that say what they were painted from: PNG, or OpenEXR in 16-bit floats. Touches no bpy, so it
may run in a thread.

A file appears under its name when it is whole and on the disk, never before.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import png
from ..bridge.errors import RenderFailed

FORMATS = {"PNG": ".png", "OPEN_EXR": ".exr"}
HEADS = 1 << 14, 1 << 20
"""Bytes at the beginning of a file in which its request is: mostly, and with the longest of prompts."""
EXR_MAGIC = struct.pack("<II", 20000630, 2)
ROWS = 16
"""Of a block of an EXR with ZIP compression."""


@dataclass(frozen=True)
class Folder:
    """Where the frames of a scene are, and how they are called."""

    path: Path
    name: str
    """How their names begin."""
    format: str
    """One of FORMATS."""

    def file(self, number: int) -> Path:
        sign = "-" if number < 0 else ""
        return self.path / f"{self.name}_{sign}{abs(number):04}{FORMATS[self.format]}"

    def check(self) -> None:
        """Make the folder, and a file in it for a moment. Raises RenderFailed."""
        probe = self.path / f".{self.name}.part"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"Paintover")
        except OSError as reason:
            raise unwritable(self.path, reason) from reason
        finally:
            with contextlib.suppress(OSError):
                probe.unlink(missing_ok=True)

    def request(self, number: int) -> dict[str, Any] | None:
        """What the file of a frame was painted from; None if there is none, or none of Paintover's."""
        return read_request(self.file(number))

    def write(self, number: int, image: np.ndarray, request: Mapping[str, Any]) -> Path:
        """Write a frame, uint8 (H, W, 3), sRGB. Raises RenderFailed."""
        path = self.file(number)
        encode = png.encode if self.format == "PNG" else exr
        part = path.with_name(f".{path.name}.part")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                file.write(encode(image, json.dumps(request)))
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError as reason:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise unwritable(path, reason) from reason
        return path


def unwritable(path: Path, reason: OSError) -> RenderFailed:
    """The error for a file or folder that cannot be written, in plain words."""
    return RenderFailed(
        f"{path} cannot be written: {reason.strerror or reason}.",
        hint="Make room there or choose another folder (Animate > Output), then press Render Shot: it goes on with the "
        "first frame that is missing.",
    )


def read_request(path: Path) -> dict[str, Any] | None:
    """The request inside a file; None if there is no such file, or nothing of Paintover's in it."""
    for size in HEADS:
        try:
            with path.open("rb") as file:
                head = file.read(size)
        except OSError:
            return None
        with contextlib.suppress(ValueError, struct.error):  # cut off, or not ours
            found = json.loads(png.text_in(head) if head.startswith(png.MAGIC) else _exr_text(head))
            return found if isinstance(found, dict) else None
    return None


def linear(image: np.ndarray) -> np.ndarray:
    """uint8 sRGB -> float32, linear with sRGB's primaries (IEC 61966-2-1)."""
    levels = np.arange(256, dtype=np.float32) / np.float32(255)
    table = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4).astype(np.float32)
    return table[image]


def exr(image: np.ndarray, text: str) -> bytes:
    """uint8 (H, W, 3), sRGB, as an OpenEXR file of linear half floats, in blocks with ZIP compression, with `text` as
    an attribute. The layout is that of "OpenEXR File Layout" (openexr.com)."""
    height, width = image.shape[:2]
    # Channels in the order of their names, row by row.
    halves = linear(image)[..., ::-1].astype("<f2").transpose(0, 2, 1)
    box = struct.pack("<4i", 0, 0, width - 1, height - 1)
    channels = b"".join(name + b"\0" + struct.pack("<iB3xii", 1, 0, 1, 1) for name in (b"B", b"G", b"R")) + b"\0"
    header = EXR_MAGIC + b"".join(
        name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(value)) + value
        for name, kind, value in (
            ("channels", "chlist", channels),
            ("compression", "compression", b"\3"),
            ("dataWindow", "box2i", box),
            ("displayWindow", "box2i", box),
            ("lineOrder", "lineOrder", b"\0"),
            (png.KEY, "string", text.encode("ascii")),
            ("pixelAspectRatio", "float", struct.pack("<f", 1.0)),
            ("screenWindowCenter", "v2f", struct.pack("<2f", 0, 0)),
            ("screenWindowWidth", "float", struct.pack("<f", 1.0)),
        )
    )
    blocks = []
    for y in range(0, height, ROWS):
        data = _squeezed(np.ascontiguousarray(halves[y : y + ROWS]).tobytes())
        blocks.append(struct.pack("<ii", y, len(data)) + data)
    first = len(header) + 1 + 8 * len(blocks)
    offsets = first + np.concatenate([[0], np.cumsum([len(block) for block in blocks[:-1]])])
    return header + b"\0" + offsets.astype("<u8").tobytes() + b"".join(blocks)


def _squeezed(data: bytes) -> bytes:
    """ZIP compression of EXR: even bytes before odd ones, differences of neighbours, deflate; as they are if that makes
    them no smaller."""
    raw = np.frombuffer(data, np.uint8)
    sorted_bytes = np.concatenate([raw[0::2], raw[1::2]])
    steps = sorted_bytes.copy()
    steps[1:] = sorted_bytes[1:] - sorted_bytes[:-1] + np.uint8(128)
    packed = zlib.compress(steps, 4)
    return packed if len(packed) < len(data) else data


def _exr_text(head: bytes) -> str:
    if not head.startswith(EXR_MAGIC):
        return ""
    at = len(EXR_MAGIC)
    while at < len(head) and head[at]:
        name_end = head.index(b"\0", at)
        kind_end = head.index(b"\0", name_end + 1)
        (length,) = struct.unpack_from("<i", head, kind_end + 1)
        value = head[kind_end + 5 : kind_end + 5 + length]
        if head[at:name_end] == png.KEY.encode():
            return value.decode("ascii")
        at = kind_end + 5 + max(0, length)
    return ""
