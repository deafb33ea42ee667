"""Does OSC keep up, and does the show go on meanwhile? 20,000 messages in 0.25 s, a long prompt, a million bad packets.

A real server process with the null stream sends frames at 60 a second into shared memory, from where another process
takes the times at which they went out, during everything below:

- flood: 20,000 messages within 0.25 s, over all numeric parameters that can be faded, five times. Afterwards each
  parameter is asked for: the last value that was sent must be there. As root the server may ask the system for all the
  memory that it wants; `stock` is the same with the 208 kB that Debian gives to anybody.
- long prompt: 60,000 bytes of UTF-8, there and back, to OSC and to a client.
- fuzz: 1,000,000 packets: random bytes, and messages and bundles with bytes changed, cut off, repeated or put together
  anew. After each 500 the sender waits for the answer to a ping, so that none is lost on the way.

A frame is late by what it is behind the grid of its rate. Run: python -m benchmarks.osc [--packets 1000000]
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import random
import socket
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import psutil
from pythonosc.osc_packet import OscPacket

from paintover.bridge.frames import FrameReader
from paintover.bridge.live import LIVE
from paintover.bridge.live_messages import LiveJoin, LiveValues
from paintover.server.live.osc_addresses import TAKEN
from paintover.server.live.osc_codec import BUNDLE, encode
from tests.server_process import ServerProcess

from .report import Result, report

FPS = 60.0
MESSAGES, SECONDS, ROUNDS = 20_000, 0.25, 5
LATE = 0.005
FADED = [row for row in LIVE if row.type is float and row.group not in ("stage", "tempo")]
FUZZED = [one for one in TAKEN if not one.path.startswith(("output/", "tempo/quantize"))]
"""Not what sets the frames' pace, which is measured, or holds values back."""


class StockServer(ServerProcess):
    """With the receive buffer of an ordinary user on Debian: 212,992 bytes, as the kernel counts."""

    PROGRAM: ClassVar[tuple[str, ...]] = (
        "-c",
        "from paintover.server.live import osc_socket; osc_socket.BUFFER = 106_496\n"
        "from paintover.server.cli import main; main()",
    )


class Program:
    """An OSC program with an address of its own for what comes back."""

    def __init__(self, port: int) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.settimeout(0.2)
        self.server = ("127.0.0.1", port)
        self.send("/paintover/osc/reply", self.sock.getsockname()[1])
        self.send("/paintover/osc/subscribe", "*", 0)
        self.ping()

    def send(self, address: str, *arguments: Any) -> None:
        self.sock.sendto(encode(address, *arguments), self.server)

    def until(self, address: str, timeout: float = 20.0) -> list[Any] | None:
        limit = time.monotonic() + timeout
        while time.monotonic() < limit:
            with contextlib.suppress(TimeoutError):
                for one in OscPacket(self.sock.recv(65_536)).messages:
                    if one.message.address == address:
                        return list(one.message.params)
        return None

    def ask(self, address: str, *arguments: Any, back: str = "") -> list[Any] | None:
        """What comes back for a question, asked again where it is lost."""
        for _ in range(5):
            self.send(address, *arguments)
            if (answer := self.until(back or address, 5.0)) is not None:
                return answer
        return None

    def ping(self) -> bool:
        number = random.getrandbits(31)
        limit = time.monotonic() + 20
        self.send("/paintover/ping", number)
        while time.monotonic() < limit:
            answer = self.until("/paintover/pong", 2.0)
            if answer == [number]:
                return True
            if answer is None:
                self.send("/paintover/ping", number)
        return False


def watch(name: str, pipe: Any) -> None:
    """In a process of its own: the times of all frames, until told to stop."""
    reader, times, last = FrameReader(name), [], 0
    while not pipe.poll():
        frame = reader.read()
        if frame and frame.number > last:
            last = frame.number
            times.append((frame.number, frame.time))
        time.sleep(0.003)
    pipe.recv()
    pipe.send(times)


def lateness(times: list[tuple[int, float]], fps: float = FPS) -> tuple[np.ndarray, float]:
    """Seconds that each frame was behind its grid, and the longest time between two that were sent, in intervals."""
    at = np.array([when for _, when in times])
    ticks = np.round((at - at[0]) * fps)
    behind = at - ticks / fps
    numbers = np.array([number for number, _ in times])
    next_to = np.diff(numbers) == 1
    return behind - np.percentile(behind, 5), float(np.max(np.diff(at)[next_to] * fps))


def flood(program: Program, rng: random.Random) -> tuple[bool, float]:
    """Whether the last values are there, and how many seconds the sending took."""
    last: dict[str, float] = {}
    packets = []
    for number in range(MESSAGES):
        row = FADED[number % len(FADED)]
        value = float(np.float32(rng.uniform(row.minimum or 0.0, row.maximum or 1.0)))
        last[row.address] = value
        packets.append(encode(f"/paintover/{row.address}", value))
    start, sock, server = time.perf_counter(), program.sock, program.server
    for begin in range(0, MESSAGES, 80):
        for packet in packets[begin : begin + 80]:
            sock.sendto(packet, server)
        due = start + SECONDS * (begin + 80) / MESSAGES
        while time.perf_counter() < due:
            pass
    took = time.perf_counter() - start
    found = {address: program.ask(f"/paintover/{address}") for address in last}
    return all(answer is not None and abs(answer[0] - last[a]) < 1e-5 for a, answer in found.items()), took


def long_prompt(server: ServerProcess, program: Program) -> bool:
    text = "".join(f"{number} älter, " for number in range(9000))
    prompt = text.encode()[:60_000].decode("utf-8", "ignore")
    prompt += "x" * (60_000 - len(prompt.encode()))
    with server.client() as client:
        client.send(LiveJoin())
        program.send("/paintover/prompt", prompt)
        back = program.ask("/paintover/prompt", "?")
        limit, heard = time.monotonic() + 20, ""
        while time.monotonic() < limit and heard != prompt:
            message = client.receive(20)
            if isinstance(message, LiveValues):
                heard = str(message.values.get("prompt", heard))
    return back == [prompt] and heard == prompt


def seeds() -> list[bytes]:
    """Sound messages and bundles, to be damaged."""
    found = []
    for one in FUZZED:
        for arguments in ((), (1,), (0.5,), ("moss",), (3, 0.5), ("status/*", 5), (True, 2.0, "x")):
            found.append(encode(f"/paintover/{one.path}", *arguments))

    def bundle(*elements: bytes) -> bytes:
        return BUNDLE + struct.pack(">Q", 1) + b"".join(struct.pack(">i", len(e)) + e for e in elements)

    found += [bundle(*found[i : i + 3]) for i in range(0, len(found), 3)]
    return [*found, *(bundle(bundle(found[-i]), bundle(found[-i - 1])) for i in range(1, 50))]


def damaged(rng: random.Random, sound: list[bytes]) -> bytes:
    """A random packet, or a sound one that something has happened to."""
    kind = rng.random()
    if kind < 0.2:
        return rng.randbytes(int(1500 * kind * kind * 25))
    if kind < 0.201:
        return rng.choice((b"/", BUNDLE + bytes(8), b"/paintover/prompt\0\0\0,s\0\0")) + rng.randbytes(60_000)
    packet = bytearray(rng.choice(sound))
    for _ in range(1 + int(kind * 3)):
        at = int(rng.random() * len(packet)) if packet else 0
        what = rng.random()
        if what < 0.5 and packet:
            packet[at] = rng.getrandbits(8)
        elif what < 0.65:
            del packet[at:]
        elif what < 0.8:
            packet[at:at] = rng.randbytes(4)
        elif what < 0.9:
            packet += rng.choice(sound)
        else:
            del packet[at : at + 4]
    return bytes(packet[:65_507])


def fuzz(program: Program, count: int, rng: random.Random) -> tuple[bool, float]:
    """Whether every ping meanwhile was answered, and packets a second."""
    sound, start, answered = seeds(), time.perf_counter(), True
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for number in range(1, count + 1):
            with contextlib.suppress(OSError):  # a packet that is too long to be sent
                sock.sendto(damaged(rng, sound), program.server)
            if number % 500 == 0 or number == count:
                answered = program.ping() and answered
            if number % 100_000 == 0:
                print(f"  {number:,} packets", flush=True)
    return answered, count / (time.perf_counter() - start)


@contextlib.contextmanager
def serving(kind: type[ServerProcess]) -> Iterator[tuple[ServerProcess, Program]]:
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        flags = ("--osc-port", str(port), "--osc-reply", "0", "--sink", "shared", "--no-standby")
        server = kind(Path(folder), "fake", *flags)
        try:
            program = Program(port)
            program.send("/paintover/output/fps", FPS)
            program.ping()
            with server.client() as client:
                client.send(LiveJoin(source=True))
                program.ping()
            yield server, program
            program.sock.close()
        finally:
            server.stop()


@contextlib.contextmanager
def watched(server: ServerProcess, times: list[tuple[int, float]]) -> Iterator[None]:
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=watch, args=(f"paintover-{server.port}", theirs))
    process.start()
    time.sleep(1.0)  # frames of a quiet second, too
    try:
        yield
    finally:
        ours.send("stop")
        times += ours.recv()
        process.join(10)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--packets", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    times: list[tuple[int, float]] = []
    with serving(StockServer) as (_, program):
        stock = [flood(program, rng)[0] for _ in range(ROUNDS)]
    with serving(ServerProcess) as (server, program), watched(server, times):
        floods = [flood(program, rng) for _ in range(ROUNDS)]
        intact = long_prompt(server, program)
        front = psutil.Process(server.process.pid)
        memory, worker = front.memory_info().rss, server.worker().pid
        answered, rate = fuzz(program, arguments.packets, rng)
        program.send("/paintover/strength", 0.375)
        answered = answered and program.ask("/paintover/strength") == [0.375] and server.worker().pid == worker
        grown = (front.memory_info().rss - memory) / (1 << 20)
    late, gap = lateness(times)
    report(
        "osc",
        [
            Result("flood_last_values_applied", float(all(ok for ok, _ in floods)), "", at_least=1),
            Result("flood_seconds", max(took for _, took in floods), "s"),
            Result("flood_stock_buffer_applied", sum(stock) / len(stock), "share of rounds"),
            Result("long_prompt_intact", float(intact), "", at_least=1),
            Result("fuzz_answers_ping", float(answered), "", at_least=1),
            Result("fuzz_packets", arguments.packets, "packets"),
            Result("fuzz_rate", rate, "packets/s"),
            Result("fuzz_front_memory_growth_mb", grown, "MB"),
            Result("frames", len(late), "frames"),
            Result("late_frames", float(np.mean(late > LATE)), "share", at_most=0.01),
            Result("late_p99_ms", 1000 * float(np.percentile(late, 99)), "ms"),
            Result("largest_gap_intervals", gap, "intervals", at_most=2),
        ],
    )


if __name__ == "__main__":
    main()
