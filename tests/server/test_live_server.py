"""OSC, HTTP, a client and the stage in one real server process with the null stream."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pythonosc.osc_packet import OscPacket

from paintover.bridge.live_messages import LiveJoin, LivePicture, LiveSet, LiveTrigger, LiveValues
from paintover.bridge.messages import Notice
from paintover.server.live.osc_codec import encode

from ..server_process import ServerProcess, running
from ..waiting import wait_until


def free_port(kind: socket.SocketKind = socket.SOCK_DGRAM) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Osc:
    """An OSC program that keeps asking until what it waits for has come: it may be there before the server."""

    def __init__(self, port: int) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.settimeout(0.2)
        self.server = ("127.0.0.1", port)
        self.heard: list[tuple[str, list[Any]]] = []
        self.send("/paintover/osc/reply", self.sock.getsockname()[1])

    def send(self, address: str, *arguments: Any) -> None:
        self.sock.sendto(encode(address, *arguments), self.server)

    def until(self, true: Callable[[str, list[Any]], bool], timeout: float = 60.0) -> list[Any]:
        limit = time.monotonic() + timeout
        while time.monotonic() < limit:
            try:
                packet = OscPacket(self.sock.recv(65536))
            except TimeoutError:
                continue
            for one in packet.messages:
                self.heard.append((one.message.address, one.message.params))
                if true(*self.heard[-1]):
                    return self.heard[-1][1]
        raise AssertionError(f"it never came; heard {self.heard[-20:]}")

    def ask(self, address: str) -> Any:
        self.send(address)
        return self.until(lambda name, _: name == address)[0]


@pytest.fixture
def program() -> Iterator[Callable[[int], Osc]]:
    programs: list[Osc] = []

    def make(port: int) -> Osc:
        programs.append(Osc(port))
        return programs[-1]

    yield make
    for one in programs:
        one.sock.close()


@pytest.fixture
def ports() -> tuple[int, int]:
    return free_port(), free_port(socket.SOCK_STREAM)


@pytest.fixture
def server(tmp_path: Path, ports: tuple[int, int]) -> Iterator[ServerProcess]:
    with running(tmp_path / "data", "fake", *flags(ports)) as started:
        yield started


def flags(ports: tuple[int, int]) -> list[str]:
    return ["--osc-port", str(ports[0]), "--osc-reply", "0", "--http-port", str(ports[1])]


def get(port: int, path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        return json.load(answer)


def test_osc_http_and_a_client_share_one_stage(
    server: ServerProcess, ports: tuple[int, int], program: Callable[[int], Osc]
) -> None:
    osc = program(ports[0])
    with server.client() as client:
        client.send(LiveJoin(pictures=True))
        osc.send("/paintover/strength", 0.25)
        until(client, lambda m: isinstance(m, LiveValues) and m.values.get("strength") == 0.25)
        until(client, lambda m: isinstance(m, LivePicture))
        client.send(LiveSet({"guidance": 3.5}))
        assert osc.until(lambda name, _: name == "/paintover/guidance") == [3.5]
        client.send(LiveTrigger("preset/store", (3.0,)))
        osc.until(lambda name, values: (name, values) == ("/paintover/event/trigger", ["preset/store 3"]))
        assert get(ports[1], "/paintover/strength?VALUE") == {"VALUE": [0.25]}
        assert get(ports[1], "/?HOST_INFO")["OSC_PORT"] == ports[0]
        osc.until(lambda name, values: (name, values) == ("/paintover/status/state", [3]))
        osc.send("/paintover/osc/subscribe", "frame", 30)
        osc.until(lambda name, _: name == "/paintover/ack")
        osc.send("/paintover/prompt", "moss")
        number = osc.until(lambda name, _: name == "/paintover/frame")[0]
        osc.send("/paintover/prompt", "brick")
        osc.until(lambda name, values: name == "/paintover/frame" and values[0] > number)
        osc.send("/paintover/model", "sd99")
        assert osc.until(lambda name, _: name == "/paintover/error")[:2] == ["/paintover/model", 5]


def test_what_is_set_survives_the_whole_server(
    tmp_path: Path, ports: tuple[int, int], program: Callable[[int], Osc]
) -> None:
    with running(tmp_path / "data", "fake", *flags(ports)) as server:
        osc = program(ports[0])
        osc.send("/paintover/prompt", "old red brick")
        osc.send("/paintover/preset/store", 5)
        osc.send("/paintover/prompt", "ice")
        osc.send("/paintover/play", 0)
        assert osc.ask("/paintover/prompt") == "ice"
        seed = osc.ask("/paintover/seed")
        kept = tmp_path / "data" / "live-0.json"
        wait_until(lambda: kept.exists() and json.loads(kept.read_text(encoding="utf-8"))["prompt"] == "ice", 30)
        server.process.kill()
    with running(tmp_path / "data", "fake", *flags(ports)):
        osc = program(ports[0])
        assert osc.ask("/paintover/prompt") == "ice"
        assert osc.ask("/paintover/play") == 0
        assert osc.ask("/paintover/seed") == seed
        osc.send("/paintover/preset/recall", 5)
        assert osc.until(lambda name, _: name == "/paintover/prompt") == ["old red brick"]


def test_a_second_server_does_without_the_ports_and_says_so(
    server: ServerProcess, tmp_path: Path, ports: tuple[int, int], program: Callable[[int], Osc]
) -> None:
    with running(tmp_path / "other", "fake", *flags(ports)) as second:
        with second.client() as client:
            found = [until(client, lambda m: isinstance(m, Notice)) for _ in range(2)]
            assert {notice.failure.code for notice in found} == {"port_in_use"}
            assert sorted(str(port) for port in ports) == sorted(
                next(word for word in notice.failure.message.split() if word.isdigit()) for notice in found
            )
            client.send(LiveJoin())
            until(client, lambda m: isinstance(m, LiveValues))
        assert program(ports[0]).ask("/paintover/strength") == 1.0, "the first one goes on"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--osc-allow", "everybody"], "--osc-allow"),
        (["--osc-allow", "fe80::/10"], "--osc-allow"),
        (["--sink", "hologram"], "hologram"),
        (["--fallback", __file__], "no picture"),
    ],
)
def test_flags_that_cannot_be_followed_are_said(tmp_path: Path, arguments: list[str], words: str) -> None:
    command = [sys.executable, "-m", "paintover.server.cli", "serve", "--port", "0", "--engine", "fake"]
    command += ["--osc-port", "0", "--http-port", "0", *arguments]
    environment = {**os.environ, "PAINTOVER_DATA": str(tmp_path), "COLUMNS": "200"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def until(client: Any, true: Callable[[Any], bool], timeout: float = 60.0) -> Any:
    limit = time.monotonic() + timeout
    while time.monotonic() < limit:
        if true(message := client.receive(timeout=timeout)):
            return message
    raise AssertionError("it never came")
