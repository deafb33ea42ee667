"""A socket with one reader and one writer thread over the codec: for whoever has no event loop.

The add-on's link, the command line, the server's worker and other programs stand on it.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
from typing import Any

from .errors import ConnectionLost, PaintoverError
from .mailbox import Mailbox
from .wire import Decoder, encode


class Connection:
    """Messages that arrive wait in `inbox`; behind the last one comes the error that ended the connection."""

    def __init__(self, connection: socket.socket, decoder: Decoder | None = None) -> None:
        self.inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.ended = threading.Event()
        """Set once the connection is over, whoever ended it."""
        self._socket = connection
        self._decoder = decoder or Decoder()
        self._outbox = Mailbox()
        self._threads = [
            threading.Thread(target=self._read, name="paintover-reader", daemon=True),
            threading.Thread(target=self._write, name="paintover-writer", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def send(self, message: Any) -> None:
        """Queue a message; returns at once. Raises ConnectionLost after the connection has ended."""
        if self.ended.is_set():
            raise ConnectionLost()
        self._outbox.put(message)

    def receive(self, timeout: float | None = None) -> Any:
        """The next message (or Malformed). Raises the error that ended the connection, or queue.Empty."""
        message = self.inbox.get(timeout=timeout)
        if isinstance(message, PaintoverError):
            self.inbox.put(message)  # everybody who asks again is told again
            raise message
        return message

    def flush(self, timeout: float) -> bool:
        """Wait until all that was queued has been handed to the system. False if `timeout` seconds were not enough."""
        return self._outbox.wait_empty(timeout)

    def close(self) -> None:
        """End the connection and its threads. What was queued but not sent is dropped."""
        self._end(ConnectionLost())
        with contextlib.suppress(OSError):  # the other side may have gone first
            self._socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(timeout=5)
        self._socket.close()

    def _end(self, error: PaintoverError) -> None:
        self._outbox.close()
        if not self.ended.is_set():
            self.inbox.put(error)
            self.ended.set()

    def _read(self) -> None:
        try:
            while count := self._socket.recv_into(self._decoder.get_buffer()):
                for message in self._decoder.advance(count):
                    self.inbox.put(message)
            self._end(ConnectionLost())
        except PaintoverError as error:
            self._end(error)
        except OSError:
            self._end(ConnectionLost())
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the writer if it is in the middle of a send

    def _write(self) -> None:
        try:
            while (message := self._outbox.take()) is not None:
                for buffer in encode(message):
                    self._socket.sendall(buffer)
                self._outbox.done()
        except OSError:
            self._end(ConnectionLost())
        except PaintoverError as error:
            self._end(error)
