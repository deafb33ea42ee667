"""The link to the server, over real sockets: what becomes of a connection that nobody wants any more when it comes."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from paintover.bridge import PROTOCOL, VERSION
from paintover.bridge.messages import Capabilities, Welcome
from paintover.bridge.wire import encode
from paintover.link import Link, LinkState

from ..waiting import wait_until

WELCOME = Welcome(PROTOCOL, VERSION, Capabilities((), "none"))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(30)
        yield made


def greeted(listener: socket.socket) -> socket.socket:
    """The server's side of a connection that waits for its answer."""
    accepted, _ = listener.accept()
    accepted.settimeout(30)
    assert accepted.recv(1 << 16), "it says Hello"
    return accepted


def welcome(accepted: socket.socket) -> None:
    accepted.sendall(b"".join(encode(WELCOME)))


def ended(accepted: socket.socket) -> bool:
    """Whether the other side ends the connection."""
    return accepted.recv(1 << 16) == b""


def test_a_connection_that_is_given_up_while_it_is_made_is_closed_when_it_comes(listener: socket.socket) -> None:
    link = Link()
    link.connect(*listener.getsockname(), "token")
    with greeted(listener) as accepted:
        link.close()
        welcome(accepted)
        assert ended(accepted)
    assert link.poll() is None
    assert link.state is LinkState.OFFLINE


def test_a_connection_that_came_before_it_was_given_up_is_closed(listener: socket.socket) -> None:
    link = Link()
    link.connect(*listener.getsockname(), "token")
    with greeted(listener) as accepted:
        welcome(accepted)
        wait_until(lambda: not link._outcome.empty(), 30)
        link.close()
        assert ended(accepted)
    assert link.poll() is None


def test_only_the_newest_attempt_counts(listener: socket.socket) -> None:
    link = Link()
    link.connect(*listener.getsockname(), "token")
    first = greeted(listener)
    link.connect(*listener.getsockname(), "token")
    second = greeted(listener)
    with first, second:
        welcome(first)
        assert ended(first)
        assert link.poll() is None
        assert link.state is LinkState.CONNECTING
        welcome(second)
        assert wait_until(link.poll, 30) is link.client
        assert link.state is LinkState.ONLINE
        link.close()
        assert ended(second)
