"""Who keeps a connection of the HTTP port: clients that never read, never ask, or ask for too little too slowly."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import numpy as np
import psutil
import pytest

from paintover.server.live import connections

from ..server_process import running
from ..waiting import wait_until
from .test_live_server import flags, free_port, get
from .web_server import TOKEN, WebServer, serving

UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@pytest.fixture
def server() -> Iterator[WebServer]:
    with serving() as started:
        yield started


def asked(port: int, method: str, path: str, headers: str = "") -> socket.socket:
    """A connection that has sent a request, and has little room for an answer."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(30)
    sock.connect(("127.0.0.1", port))
    sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{headers}\r\n".encode())
    return sock


def answer(sock: socket.socket) -> bytes:
    """All that comes until the other end closes."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while part := sock.recv(1 << 16):
            found += part
    return found


@pytest.mark.parametrize(("path", "headers"), [("/stream.mjpg", ""), ("/ws", UPGRADE)])
def test_a_client_that_stops_reading_keeps_no_connection(
    server: WebServer, monkeypatch: pytest.MonkeyPatch, path: str, headers: str
) -> None:
    monkeypatch.setattr("paintover.server.live.web.DEAF", 0.5)
    monkeypatch.setattr("paintover.server.live.page_client.DEAF", 0.5)
    noise = np.random.default_rng(0)
    held = server.web._runner.server.connections  # type: ignore[union-attr]
    assert not held
    with asked(server.port, "GET", path, headers):
        wait_until(lambda: server.web._viewers)
        number = 0

        def gone() -> bool:
            nonlocal number
            number += 1
            server.stage.show(noise.integers(0, 255, (512, 512, 3), np.uint8))
            server.set("prompt_1", f"{number} " + "x" * 50_000)
            return not server.web._viewers and not server.web._runner.server.connections  # type: ignore[union-attr]

        wait_until(gone)


def test_connections_that_ask_for_nothing_keep_nobody_out(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST", 8)
    with contextlib.ExitStack() as open_ones:
        silent = [open_ones.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(30)]
        with asked(server.port, "GET", "/app.js", "Connection: close\r\n") as one:
            assert answer(one).startswith(b"HTTP/1.1 200")
        for sock in silent[:22]:
            sock.settimeout(30)
            assert answer(sock) == b"", "the oldest had to go"
    wait_until(lambda: not server.web._runner.server.connections)  # type: ignore[union-attr]
    with contextlib.ExitStack() as open_ones:
        viewers = [open_ones.enter_context(asked(server.port, "GET", "/stream.mjpg")) for _ in range(8)]
        assert all(sock.recv(15) == b"HTTP/1.1 200 OK" for sock in viewers)
        with socket.create_connection(("127.0.0.1", server.port)) as late:
            late.settimeout(30)
            assert answer(late) == b"", "who is in stays in"


def test_silent_connections_take_no_files_from_the_rest_of_the_server(tmp_path: object) -> None:
    """A process has few file descriptors: a flood must leave enough for a new worker."""
    ports = free_port(), free_port(socket.SOCK_STREAM)
    with running(tmp_path, "fake", *flags(ports)) as server, contextlib.ExitStack() as open_ones:  # type: ignore[arg-type]
        server.said("Worker .* takes the jobs")
        for _ in range(connections.MOST * 3):
            open_ones.enter_context(socket.create_connection(("127.0.0.1", ports[1])))
        assert get(ports[1], "/?HOST_INFO")["OSC_PORT"] == ports[0]
        assert psutil.Process(server.process.pid).num_fds() < connections.MOST + 250
        server.worker().kill()
        server.said("Worker .* takes the jobs", 2)


def test_a_head_request_gets_no_stream(server: WebServer) -> None:
    with asked(server.port, "HEAD", "/stream.mjpg", "Connection: close\r\n") as sock:
        found = answer(sock)
    assert found.startswith(b"HTTP/1.1 200")
    assert b"multipart/x-mixed-replace" in found
    assert found.endswith(b"\r\n\r\n")
    assert b"image/jpeg" not in found


def test_a_token_that_never_arrives_holds_no_connection(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paintover.server.live.guard.PATIENCE", 0.2)
    headers = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 60\r\n"
    with asked(server.port, "POST", "/token", headers) as sock:
        sock.sendall(b"token=")
        assert answer(sock).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("origin", ["http://[", "http://]", "http://[::1", "\xff"])
def test_an_origin_that_is_none_is_refused(server: WebServer, origin: str) -> None:
    with asked(server.port, "GET", "/app.js", f"Origin: {origin}\r\n") as sock:
        assert answer(sock).startswith(b"HTTP/1.1 403")


@pytest.mark.parametrize("header", ["X-Forwarded-For: 10.0.0.9", "Forwarded: for=10.0.0.9", "Via: 1.1 somewhere"])
def test_a_proxy_of_this_machine_needs_the_token_as_who_it_asks_for(server: WebServer, header: str) -> None:
    with asked(server.port, "GET", "/app.js", f"{header}\r\n") as sock:
        assert answer(sock).startswith(b"HTTP/1.1 401")
    with asked(server.port, "GET", f"/app.js?token={TOKEN}", f"{header}\r\nConnection: close\r\n") as sock:
        assert answer(sock).startswith(b"HTTP/1.1 200")


def test_requests_that_are_none_do_not_fill_the_log(server: WebServer, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(200):
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.settimeout(30)
            sock.sendall(b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n")
            assert answer(sock).startswith(b"HTTP/1.0 400")
    assert 1 <= caplog.text.count("Got more than") <= 2, "that there are such is said"
