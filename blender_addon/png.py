"""PNG files of 8-bit RGB, with a text inside that says what they were painted from. Touches no bpy, so it may run in a
thread."""

from __future__ import annotations

import struct
import zlib

import numpy as np

KEY = "paintover"
"""Of the text chunk; an OpenEXR file has it as an attribute."""
MAGIC = b"\x89PNG\r\n\x1a\n"


def encode(image: np.ndarray, text: str = "") -> bytes:
    """uint8 (H, W, 3), sRGB, as a PNG file, with `text` (ASCII) inside."""
    height, width = image.shape[:2]
    # Each row as its difference to the one above ("up"): painted rows become smaller than as they are, and sooner.
    rows = np.empty((height, 1 + width * 3), np.uint8)
    rows[:, 0] = 2
    flat = image.reshape(height, -1)
    rows[0, 1:] = flat[0]
    np.subtract(flat[1:], flat[:-1], out=rows[1:, 1:])
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),  # 8 bits, RGB
        (b"sRGB", b"\0"),
        (b"IDAT", zlib.compress(rows.data, level=1)),
        (b"IEND", b""),
    ]
    if text:
        chunks.insert(2, (b"tEXt", KEY.encode() + b"\0" + text.encode("ascii")))
    return MAGIC + b"".join(_chunk(kind, data) for kind, data in chunks)


def text_in(head: bytes) -> str:
    """The text of a file that begins with `head`; empty if there is none."""
    at = len(MAGIC)
    while at + 8 <= len(head):
        length, kind = struct.unpack_from(">I4s", head, at)
        data = head[at + 8 : at + 8 + length]
        if kind == b"tEXt" and data.startswith(KEY.encode() + b"\0"):
            return data[len(KEY) + 1 :].decode("ascii")
        if kind == b"IDAT":
            break
        at += 12 + length
    return ""


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
