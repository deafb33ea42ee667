"""A blocking client of a Paintover server. The add-on, the CLI and other programs use it.

with Client.connect() as client:
    job = client.submit(Generate(Settings(prompt="mossy stone"), 256, 256))
    for message in client.follow(job):
        ...
"""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from . import PROTOCOL, VERSION
from .connection import Connection
from .errors import ConnectionLost, ServerNotRunning, ServerSilent
from .messages import (
    ENDED,
    Cancel,
    Generate,
    Hello,
    JobState,
    MeshesMissing,
    MeshQuery,
    MeshUpload,
    Notice,
    Refused,
    Shot,
    Submit,
    Texture,
    Trouble,
    Welcome,
)
from .origin import Origin
from .paths import DEFAULT_HOST, DEFAULT_PORT, read_token
from .scene import MeshData
from .wire import Decoder, Malformed, check_size, encode

PATIENCE = 20.0
"""Seconds after which a server that does nothing at all counts as hanging."""


class Client(Connection):
    """A greeted connection."""

    def __init__(
        self, connection: socket.socket, decoder: Decoder, welcome: Welcome, *, patience: float, share: bool
    ) -> None:
        self.welcome = welcome
        super().__init__(connection, decoder, patience=patience, share=share)

    @classmethod
    def connect(
        cls,
        host: str = DEFAULT_HOST,
        port: int = DEFAULT_PORT,
        token: str | None = None,
        *,
        name: str = "python",
        timeout: float = 10.0,
        patience: float = PATIENCE,
        share: bool = True,
    ) -> Client:
        """Connect and greet. `token` defaults to this machine's own. Raises a LinkError that says what is wrong.

        A server that hangs for `patience` seconds ends the connection with ServerSilent. `share=False` keeps
        everything in the socket, even on the server's own machine.
        """
        try:
            connection = socket.create_connection((host, port), timeout)
        except (OSError, UnicodeError) as reason:  # UnicodeError: not a host name at all
            raise ServerNotRunning(host=host, port=port) from reason
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            hello = Hello(PROTOCOL, read_token() if token is None else token, name, VERSION)
            connection.sendall(b"".join(encode(hello)))
            decoder = Decoder()
            welcome = _first_answer(connection, decoder, time.monotonic() + timeout)
        except BaseException as error:
            connection.close()
            if isinstance(error, TimeoutError):
                raise ServerSilent(seconds=timeout) from error
            if isinstance(error, OSError):
                raise ConnectionLost() from error
            raise
        return cls(connection, decoder, welcome, patience=patience, share=share)

    def receive(self, timeout: float | None = None) -> Any:
        """The next message. Raises what is wrong with a message, what ended the connection, or queue.Empty."""
        message = super().receive(timeout)
        if isinstance(message, Malformed):
            raise message.error
        return message

    def upload(self, meshes: Sequence[MeshData], timeout: float = 60.0) -> tuple[str, ...]:
        """Give the server those of `meshes` that it does not have. Returns their content hashes.

        For programs that wait; messages of jobs that run meanwhile are dropped.
        """
        by_hash = {mesh.content_hash(): mesh for mesh in meshes}
        self.send(MeshQuery(tuple(by_hash)))
        answer = self._wait_for(MeshesMissing, timeout)
        for missing in answer.hashes:
            self.send(MeshUpload(by_hash[missing]))
        return tuple(by_hash)

    def submit(self, request: Generate | Texture | Shot, origin: Origin | None = None) -> str:
        """Ask for a job; returns its name."""
        message = Submit(uuid.uuid4().hex, request, origin or Origin())
        check_size(message)
        self.send(message)
        return message.job

    def cancel(self, job: str) -> None:
        self.send(Cancel(job))

    def follow(self, job: str, timeout: float | None = None) -> Iterator[Any]:
        """The job's messages up to its final JobState, and the server's Notices to everybody.

        Raises the job's error if it failed, Cancelled if it was.

        `timeout` is the longest silence in seconds; after it, queue.Empty.
        """
        while True:
            message = self.receive(timeout)
            if isinstance(message, Trouble):
                raise message.failure.error()
            if getattr(message, "job", None) != job and not isinstance(message, Notice):
                continue
            yield message
            if isinstance(message, JobState) and message.state in ENDED:
                if message.failure:
                    raise message.failure.error()
                return

    def _wait_for(self, wanted: type, timeout: float) -> Any:
        until = time.monotonic() + timeout
        while True:
            message = self.receive(max(0.0, until - time.monotonic()))
            if isinstance(message, Trouble):
                raise message.failure.error()
            if isinstance(message, wanted):
                return message

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _first_answer(connection: socket.socket, decoder: Decoder, until: float) -> Welcome:
    while True:
        connection.settimeout(max(0.01, until - time.monotonic()))
        count = connection.recv_into(decoder.get_buffer())
        if not count:
            raise ConnectionLost()
        for message in decoder.advance(count):
            if isinstance(message, Malformed):
                raise message.error
            if isinstance(message, Refused):
                raise message.failure.error()
            if isinstance(message, Welcome):
                return message
