"""How fast does a set of passes reach the server, and an image come back? Against PNG in JSON over HTTP, and pickle.

One round trip: depth (float32), normal (float16 × 3), edge (uint8) and object ids (uint16) go to another process, which
sums up every byte that it got and sends the sum and a finished picture (uint8 × 3) back. Four ways, in turn, with the
same passes, the same picture and the same checksum:

- shm, socket: the add-on's own client and a real `paintover serve`, with and without shared memory.
- base64: HTTP on one kept-alive connection, JSON with base64 of PNGs; depth, normals (their three planes, one above
  the other) and ids as 16-bit grey, edge and the picture as 8-bit. Pillow at compression level 1, its fastest.
- pickle: two multiprocessing queues between two processes.

The passes are rendered from a still life of 40 spheres on a floor before an empty background: depth with its horizon,
curved normals with a fine relief (so that their low bits are not constant), outlines. PNG packs them to about a fifth;
neither constants nor noise.

A round makes ten trips each way (two by base64) and keeps the fastest, since other work on the machine only ever adds
time; figures are medians over twelve rounds, and ratios are those of the medians.

Run: python -m benchmarks.wire
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from paintover.bridge.client import Client
from paintover.bridge.messages import Ping, Pong, Probe, ProbeAnswer
from paintover.server.probe import checksum, picture
from tests.server_process import TOKEN, running

from .report import Result, report

SIZES = (512, 1024)
ROUNDS = 12
TRIPS = {"shm": 10, "socket": 10, "pickle": 10, "base64": 2}
"""Round trips of each way in a round. The ways take turns, so that a busy moment of the machine meets all of them."""

Passes = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
Trip = Callable[[Passes], tuple[int, np.ndarray]]
"""Sends passes; returns the server's checksum and picture."""


# ---------------------------------------------------------------- what is sent


def still_life(size: int) -> Passes:
    """depth float32, normal float16 (…, 3), edge uint8, object id uint16 of a square picture."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size - 0.5
    ray = np.stack([x, -y, np.full_like(x, -1.0)], -1)
    depth = np.full((size, size), np.inf, np.float32)
    normal = np.zeros((size, size, 3), np.float32)
    ids = np.zeros((size, size), np.uint16)
    floor = y > 0.02
    depth[floor] = 1.0 / y[floor]
    normal[floor], ids[floor] = (0, 1, 0), 1
    relief = np.sin(x * 160) * np.cos(y * 190)
    for number in range(40):
        across, away = rng.uniform(-3, 3), rng.uniform(3, 9)
        radius = rng.uniform(0.2, 0.7)
        centre = np.array([across, radius - 1.0, -away], np.float32)
        squared, along = (ray**2).sum(-1), ray @ centre
        root = along**2 - squared * (centre @ centre - radius**2)
        near = (along - np.sqrt(root.clip(0))) / squared
        seen = (root > 0) & (near > 0) & (near < depth)
        depth[seen], ids[seen] = near[seen], number + 2
        surface = (ray * near[..., None] - centre) / radius
        normal[seen] = surface[seen]
    hit = ids > 0
    normal += hit[..., None] * 0.04 * relief[..., None] * (1, -0.6, 0.3)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-6)
    border = np.zeros((size, size), np.float32)
    border[1:] += ids[1:] != ids[:-1]
    border[:, 1:] += ids[:, 1:] != ids[:, :-1]
    border[:-1, :-1] += 0.5 * (border[1:, 1:] > 0)
    return depth, normal.astype(np.float16), (border.clip(0, 1) * 255).astype(np.uint8), ids


# ---------------------------------------------------------------- PNG in JSON over HTTP


def as_words(passes: Passes) -> list[np.ndarray]:
    """The passes as a PNG can hold them: 16-bit depth, normals (planes stacked) and ids, 8-bit edge."""
    depth, normal, edge, ids = passes
    finite = np.isfinite(depth)
    far = depth[finite].max()
    words = np.where(finite, depth * np.float32(65534 / far), 65535).astype(np.uint16)
    planes = ((normal.astype(np.float32) + 1) * 32767.5).astype(np.uint16).transpose(2, 0, 1)
    return [words, planes.reshape(-1, depth.shape[1]), edge, ids]


def to_png(array: np.ndarray) -> str:
    data = io.BytesIO()
    Image.fromarray(array).save(data, "PNG", compress_level=1)
    return base64.b64encode(data.getvalue()).decode()


def from_png(text: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        arrays = [from_png(text) for text in question["passes"]]
        height, width = arrays[0].shape
        answer = json.dumps({"checksum": checksum(arrays), "image": to_png(picture(width, height))}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def serve_http(ready: Any) -> None:
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        ready.send(server.server_address[1])
        server.serve_forever()


@contextmanager
def over_http() -> Iterator[Trip]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve_http, args=(theirs,), daemon=True)
    process.start()
    connection = http.client.HTTPConnection("127.0.0.1", ours.recv())

    def trip(passes: Passes) -> tuple[int, np.ndarray]:
        body = json.dumps({"passes": [to_png(array) for array in as_words(passes)]})
        connection.request("POST", "/", body, {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        return answer["checksum"], from_png(answer["image"])

    yield trip
    connection.close()
    process.terminate()
    process.join()


# ---------------------------------------------------------------- pickle


def serve_queues(questions: Any, answers: Any) -> None:
    while (passes := questions.get()) is not None:
        height, width = passes[0].shape
        answers.put((checksum(passes), picture(width, height)))


@contextmanager
def over_queues() -> Iterator[Trip]:
    context = multiprocessing.get_context("spawn")
    questions, answers = context.Queue(), context.Queue()
    process = context.Process(target=serve_queues, args=(questions, answers), daemon=True)
    process.start()

    def trip(passes: Passes) -> tuple[int, np.ndarray]:
        questions.put(passes)
        return answers.get()  # type: ignore[no-any-return]

    yield trip
    questions.put(None)
    process.join()


# ---------------------------------------------------------------- ours


def over_bridge(client: Client) -> Trip:
    def trip(passes: Passes) -> tuple[int, np.ndarray]:
        height, width = passes[0].shape
        client.send(Probe(passes, width, height))
        answer = client.receive(60)
        assert isinstance(answer, ProbeAnswer)
        return answer.checksum, answer.image

    return trip


def latency(client: Client) -> float:
    """Median seconds from a small message to its answer."""
    times = []
    for number in range(300):
        start = time.perf_counter()
        client.send(Ping(number))
        assert client.receive(60) == Pong(number)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


# ---------------------------------------------------------------- measuring


def measure(ways: dict[str, Trip], passes: Passes) -> dict[str, float]:
    """Seconds of a round trip each way: the median over rounds of the fastest in each. Every answer is checked."""
    height, width = passes[0].shape
    right = {way: checksum(as_words(passes) if way == "base64" else passes) for way in ways}
    times: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(ROUNDS + 1):
        for way, trip in ways.items():
            elapsed = []
            for _ in range(TRIPS[way]):
                start = time.perf_counter()
                total, image = trip(passes)
                elapsed.append(time.perf_counter() - start)
                assert total == right[way], f"{way} lost bytes"
            if number:  # the first round warms up
                times[way].append(min(elapsed))
            assert np.array_equal(image, picture(width, height)), f"{way} spoiled the picture"
    return {way: statistics.median(found) for way, found in times.items()}


def plain_copy(passes: Passes) -> float:
    """Seconds to copy the passes and a picture within one process, measured likewise."""
    height, width = passes[0].shape
    pairs = [(np.empty_like(array), array) for array in (*passes, picture(width, height))]
    times: list[float] = []
    for _ in range(ROUNDS):
        elapsed = []
        for _ in range(TRIPS["shm"]):
            start = time.perf_counter()
            for target, source in pairs:
                np.copyto(target, source)
            elapsed.append(time.perf_counter() - start)
        times.append(min(elapsed))
    return statistics.median(times)


def main() -> None:
    """Measure and report."""
    bars = {("base64", "shm"): 10.0, ("pickle", "shm"): 3.0, ("base64", "socket"): 10.0, ("pickle", "socket"): 1.5}
    results, details = [], []
    with ExitStack() as stack:
        server = stack.enter_context(
            running(Path(stack.enter_context(tempfile.TemporaryDirectory())), "fake", "--no-standby")
        )
        shared, plain = (
            stack.enter_context(Client.connect("127.0.0.1", server.port, TOKEN, share=share)) for share in (True, False)
        )
        ways = {
            "shm": over_bridge(shared),
            "socket": over_bridge(plain),
            "base64": stack.enter_context(over_http()),
            "pickle": stack.enter_context(over_queues()),
        }
        for size in SIZES:
            passes = still_life(size)
            seconds = measure(ways, passes)
            assert shared.shares_memory
            assert not plain.shares_memory
            for (other, ours), bar in bars.items():
                binding = bar if ours == "shm" or size == 512 else None
                ratio = seconds[other] / seconds[ours]
                results.append(Result(f"{ours}_over_{other}_{size}", ratio, "times as fast", at_least=binding))
            details += [Result(f"{way}_ms_{size}", value * 1000, "ms") for way, value in seconds.items()]
            share = plain_copy(passes) / seconds["shm"]
            details.append(Result(f"memcpy_share_{size}", share, "of the shm time is one plain copy"))
        details.append(Result("small_message_ms", latency(shared) * 1000, "ms"))
    report("wire", results + details)


if __name__ == "__main__":
    main()
