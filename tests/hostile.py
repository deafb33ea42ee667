"""Frames that no honest client sends, from a seed: the same seed gives the same frames."""

from __future__ import annotations

import copy
import json
import random
import uuid
from typing import Any

import numpy as np

from paintover.bridge import PROTOCOL, VERSION
from paintover.bridge.messages import (
    Cancel,
    Failure,
    Follow,
    FrameGiven,
    FrameKept,
    FrameMissing,
    Generate,
    Hello,
    ListJobs,
    MeshQuery,
    MeshUpload,
    Ping,
    Probe,
    Shot,
    Submit,
    Texture,
)
from paintover.bridge.parameters import Settings
from paintover.bridge.shot import Link, ShotFrame
from paintover.bridge.wire import ALIGNMENT, DTYPES, MAGIC, PREFIX, encode

from .bridge.conftest import make_mesh, make_passes
from .server_process import TOKEN

DEEP: Any = 1
for _ in range(300):
    DEEP = [DEEP]
NUMBERS = (0, -1, 1, 2**31, 2**63, -(2**63), 2**64, 10**400, -(10**400), 0.5, -0.0, 5e-324, 1.7e308, True, False)
TEXTS = ("", "\x00", "\ud800", "x\udfff", "é" * 50, "a" * 70_000, "../../etc/passwd", "{name}", "%s%n", "NaN", "\n" * 9)
JUNK: tuple[Any, ...] = (None, [], {}, [[]], DEEP, {"$array": 0}, {"$array": -1}, {"$array": 10**30}, {"type": "Exec"},
                         {"type": ["Ping"]}, {"type": None}, *NUMBERS, *TEXTS)  # fmt: skip


def junk(rng: random.Random) -> Any:
    return copy.deepcopy(rng.choice(JUNK))


def hello(token: str = TOKEN) -> bytes:
    return b"".join(encode(Hello(PROTOCOL, token, "hostile", VERSION)))


def job_name(rng: random.Random) -> str:
    return uuid.UUID(int=rng.getrandbits(128)).hex


def _templates() -> list[tuple[str, bytes]]:
    passes, name = make_passes(16, 8), "0" * 32
    link = Link(1, np.zeros((8, 16, 3), np.float32))
    messages = (
        Ping(1),
        ListJobs(),
        Follow(name),
        Cancel(name),
        MeshQuery((name, "x")),
        MeshUpload(make_mesh()),
        Probe((passes.depth,), 8, 8),
        Submit(name, Generate(Settings(model="nonesuch"), 16, 8, passes)),
        Submit(name, Texture(Settings(model="nonesuch"), (passes, passes), ("a",))),
        Submit(name, Shot(Settings(model="nonesuch"), (1, 2, 3), 16, 8, (2,), name, 1)),
        FrameGiven(name, 0, ShotFrame(2, Settings(), passes, False, link, link)),
        FrameKept(name, 0),
        FrameMissing(name, 0, Failure("no_camera", "None.", "Add one.")),
    )
    found = []
    for data in (b"".join(encode(message)) for message in messages):
        end = PREFIX.size + PREFIX.unpack_from(data)[3]
        found.append((data[PREFIX.size : end].decode(), data[end:]))
    return found


TEMPLATES = _templates()


def template(rng: random.Random) -> tuple[dict[str, Any], bytes]:
    """Header and body of some right message, which names a job that nobody else names."""
    text, body = rng.choice(TEMPLATES)
    return json.loads(text.replace("0" * 32, job_name(rng))), body


def frame(header: Any, body: bytes = b"", protocol: int = PROTOCOL) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return PREFIX.pack(MAGIC, protocol, 0, len(text), len(body)) + text + body


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += _places(item, (*path, key))
    return found


def bent(rng: random.Random) -> bytes:
    """A frame that keeps the stream going: lengths and type are right, what it says is not."""
    header, body = template(rng)
    message = header["message"]
    for _ in range(rng.randint(1, 3)):
        place = rng.choice(_places(message) or [("type",)])
        if place == ("type",):
            continue  # an unknown type ends the stream: see `fatal`
        target = message
        try:
            for key in place[:-1]:
                target = target[key]
            act = rng.random()
            if act < 0.7:
                target[place[-1]] = junk(rng)
            elif act < 0.85:
                del target[place[-1]]
            elif isinstance(target, dict):
                target[rng.choice(("extra", "type ", "", "__class__"))] = junk(rng)
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change has taken this place away
    if header["arrays"] and rng.random() < 0.5:
        header["arrays"], body = _other_arrays(rng, header["arrays"])
    text = json.dumps(header)
    if rng.random() < 0.1:
        text = text.replace('{"type"', '{"type": "Ping", "number": 7, "type"', 1)  # the same key twice: the last counts
    return frame(text.encode(), body)


def _other_arrays(rng: random.Random, arrays: list[Any]) -> tuple[list[Any], bytes]:
    """Arrays of other types and shapes, in a body that has just their length."""
    specs, size = [], 0
    for dtype, shape in arrays:
        kind = rng.choice((dtype, *DTYPES))
        sides = rng.choice((shape, shape[::-1], [], [0], [0, 1 << 20], [1] * 4, [rng.randint(0, 9) for _ in shape]))
        count = 1
        for side in sides:
            count *= side
        size += -(-DTYPES[kind].itemsize * count // ALIGNMENT) * ALIGNMENT
        specs.append([kind, sides])
    return specs, rng.randbytes(size)


def fatal(rng: random.Random) -> bytes:
    """Bytes after which the stream makes no sense any more, or never ends."""
    header, body = template(rng)
    whole = frame(header, body)
    kind = rng.randrange(12)
    if kind == 0:
        return rng.randbytes(rng.randint(1, 3000))
    if kind == 1:
        flipped = bytearray(whole)
        for _ in range(rng.randint(1, 6)):
            flipped[rng.randrange(len(flipped))] = rng.randrange(256)
        return bytes(flipped)
    if kind == 2:
        return whole[: rng.randrange(len(whole))]
    if kind == 3:
        return PREFIX.pack(MAGIC, PROTOCOL, 0, rng.choice((0, 1 << 21, 0xFFFFFFFF)), rng.choice((0, 1 << 62)))
    if kind == 4:
        return PREFIX.pack(MAGIC, PROTOCOL, 0, 100, rng.choice(((1 << 30) + 1, 1 << 63, (1 << 64) - 1)))
    if kind == 5:
        return frame(header, body, protocol=rng.choice((0, PROTOCOL - 1, PROTOCOL + 1, 65535)))
    if kind == 6:
        deep = b'{"message":' + rng.choice((b"[", b'{"a":')) * rng.randint(1000, 100_000)
        return frame(deep)
    if kind == 7:
        return frame(b'{"message":{"type":"Ping","number":' + rng.choice((b"NaN", b"-Infinity", b"9" * 9000)) + b"}}")
    if kind == 8:
        header["message"] = rng.choice(JUNK) if rng.random() < 0.5 else {"type": rng.choice(JUNK)}
        return frame(header, body)
    if kind == 9:
        spec = [rng.choice(JUNK), rng.choice(JUNK)]
        header["arrays"] = rng.choice((JUNK[rng.randrange(len(JUNK))], [spec] * rng.choice((1, 5000)), [DEEP]))
        return frame(header, body)
    if kind == 10:
        side = rng.choice((1 << 20, 1 << 30, 2**31, 2**62, 2**63, 10**30))
        header["arrays"] = [["float64", rng.choice(([side] * 4, [0, side, side, side], [side], [-1], [True], [0.5]))]]
        return frame(header, body)
    header["arrays"] = [["uint8", [100_000], rng.choice((0, 64, 10**30, -1, True, None)), rng.randrange(3)]]
    return frame(header, body)
