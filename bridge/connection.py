"""A socket with one reader and one writer thread over the codec: for whoever has no event loop.

What is small leaves from the thread that sends it, as far as the system takes it at once: waking another thread would
cost more than that. All else, and what is left of it, is the writer's.

The add-on's link, the command line, the server's worker and other programs stand on it.
"""

from __future__ import annotations

import contextlib
import copy
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from . import board, lane
from .cores import be_prompt
from .errors import ConnectionLost, LinkError, PaintoverError, ServerSilent
from .mailbox import Inbox, Mailbox
from .messages import BoardOffer, BoardProof, LaneOffer, LaneProof, Ping, Pong
from .schema import array_bytes
from .wire import Decoder, encode

PULSE = 1.0
"""Seconds after which a waiting thread looks around."""
AT_ONCE = 4 << 20
"""Bytes that are encoded in the sender's own thread: copying them takes less than a millisecond."""
_OUR_PING = -1
"""Its answer is for the connection itself."""


class _Rest:
    """What the system did not take at once of a frame; it leaves before everything else."""

    def __init__(self, views: list[memoryview]) -> None:
        self.views = views


class Connection:
    """Messages that arrive wait in `inbox`, where a newer frame supersedes one that nobody has looked at; behind the
    last one comes the error that ended the connection.

    With `patience`, a peer that neither sends nor takes anything for half of that many seconds is asked whether it is
    there (Ping); after all of them the connection ends with ServerSilent. Shared memory that the peer offers is used
    unless `share` is False.
    """

    def __init__(
        self,
        connection: socket.socket,
        decoder: Decoder | None = None,
        *,
        patience: float | None = None,
        share: bool = True,
    ) -> None:
        self.inbox = Inbox()
        self.ended = threading.Event()
        """Set once the connection is over, whoever ended it."""
        self._socket = connection
        self._decoder = decoder or Decoder()
        self._outbox = Mailbox()
        self._sending = threading.Lock()
        """Held by whoever takes a message out of the outbox, or past it, until it has left."""
        self._outgoing: lane.Ring | None = None
        """Where large arrays go; the lane's ring once its proof has left."""
        self._posting: board.BoardWriter | None = None
        """Where those of frames go that say so (`on_board`), once the board's proof has left."""
        self._boards: dict[str, board.BoardWriter] = {}
        """Nonce -> a board whose proof has not left yet."""
        self._clock: int | None = None
        """Of the reader's processor time. It is asked for seldom: where the system is virtual, that takes long."""
        self._patience = patience
        self._share = share
        self._lane: lane.Lane | None = None
        self._alive = time.monotonic()
        """When the peer last sent or took something."""
        self._asked = False
        if connection.family != getattr(socket, "AF_UNIX", None):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(PULSE)
        self._at_once = connection.dup()
        self._at_once.setblocking(False)
        self._threads = [
            threading.Thread(target=self._read, name="paintover-reader", daemon=True),
            threading.Thread(target=self._write, name="paintover-writer", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def shares_memory(self) -> bool:
        """Whether large arrays bypass the socket."""
        return self._lane is not None

    def send(self, message: Any) -> None:
        """Send a message, or queue it behind those that wait; returns at once.

        Raises ConnectionLost after the connection has ended.
        """
        if self.ended.is_set():
            raise ConnectionLost()
        if array_bytes(message) > AT_ONCE or not self._sending.acquire(blocking=False):
            self._outbox.put(message)
            return
        try:
            if len(self._outbox):
                self._outbox.put(message)
                return
            with self._ending_on_error():
                if rest := self._push(self._encoded(message)):
                    self._outbox.put_first(_Rest(rest))
        finally:
            self._sending.release()

    def receive(self, timeout: float | None = None) -> Any:
        """The next message (or Malformed). Raises the error that ended the connection, or queue.Empty."""
        message = self.inbox.get(timeout=timeout)
        if isinstance(message, PaintoverError):
            self.inbox.put(message)  # everybody who asks again is told again
            # One of its own for each: what is raised holds on to the frames that it came through.
            raise copy.copy(message)
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
        self._at_once.close()
        self._socket.close()

    @property
    def reading_seconds(self) -> float:
        """Processor time that receiving has taken; 0 where the system does not tell (Windows), or it is over."""
        with contextlib.suppress(OSError):
            return time.clock_gettime(self._clock) if self._clock is not None else 0.0
        return 0.0

    def _end(self, error: PaintoverError) -> None:
        self._outbox.close()
        if not self.ended.is_set():
            self.inbox.put(error)
            self.ended.set()

    # ------------------------------------------------------------ the reader's thread

    def _read(self) -> None:
        be_prompt()
        if hasattr(time, "pthread_getcpuclockid"):
            self._clock = time.pthread_getcpuclockid(threading.get_ident())
        with self._ending_on_error():
            self._receive_all()
            self._end(ConnectionLost())
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the writer if it is in the middle of a send

    def _receive_all(self) -> None:
        count = 0  # bytes that came behind the greeting may hold whole messages
        while not self.ended.is_set():
            for message in self._decoder.advance(count):
                if isinstance(message, LaneOffer):
                    self._join(message)
                elif isinstance(message, BoardOffer):
                    self._join_board(message)
                elif message != Pong(_OUR_PING):
                    self.inbox.put(message)
            try:
                count = self._socket.recv_into(self._decoder.get_buffer())
            except TimeoutError:
                count = 0
                self._look_around()
            else:
                if not count:
                    return
                self._alive, self._asked = time.monotonic(), False

    def _join(self, offer: LaneOffer) -> None:
        joined = lane.join(offer) if self._share else None
        if joined:
            self._lane = joined[0]
            self._decoder.shared = self._lane.incoming
        # The writer uses the lane for what it sends behind this.
        self._outbox.put(LaneProof(joined[1] if joined else ""))

    def _join_board(self, offer: BoardOffer) -> None:
        memory, nonce = (board.join(offer) if self._share else None) or (None, "")
        if memory and offer.write:
            self._boards[nonce] = board.BoardWriter(memory)
        elif memory:
            self._decoder.board = board.BoardReader(memory)
        self._outbox.put(BoardProof(nonce))

    def _look_around(self) -> None:
        """Nothing came for a while: ask whether somebody is there, or give up. Raises ServerSilent."""
        if self._patience is None:
            return
        silent = time.monotonic() - self._alive
        if silent > self._patience and self._asked:
            raise ServerSilent(seconds=self._patience)
        if silent > self._patience / 2 and not self._asked:
            self._asked = True
            self._outbox.put(Ping(_OUR_PING))

    # ------------------------------------------------------------ sending

    def _write(self) -> None:
        """The writer's thread."""
        with self._ending_on_error():
            while self._outbox.wait():
                with self._sending:
                    message = self._outbox.take(timeout=0)
                    if message is None:  # somebody cleared it
                        continue
                    if isinstance(message, _Rest):
                        self._send_all(message.views)
                    else:
                        self._send_all(self._encoded(message))
                    if isinstance(message, LaneProof) and self._lane:
                        self._outgoing = self._lane.outgoing
                    elif isinstance(message, BoardProof):
                        self._posting = self._boards.pop(message.nonce, self._posting)
                    self._outbox.done()

    def _encoded(self, message: Any) -> list[memoryview]:
        shared = self._posting if self._posting and hasattr(message, "on_board") else self._outgoing
        return [memoryview(buffer) for buffer in encode(message, shared)]

    @contextlib.contextmanager
    def _ending_on_error(self) -> Iterator[None]:
        """What goes wrong within ends the connection; whoever receives is told."""
        try:
            yield
        except OSError:
            self._end(ConnectionLost())
        except PaintoverError as error:
            self._end(error)
        except Exception as error:  # noqa: BLE001 - a bug; without an end, whoever waits would wait for ever
            self._end(LinkError(reason=f"{type(error).__name__}: {error}"))

    def _push(self, views: list[memoryview]) -> list[memoryview]:
        """Give the system as much as it takes without waiting; returns what is left."""
        with contextlib.suppress(BlockingIOError):
            while views:
                views = self._send_some(self._at_once, views)
        return views

    def _send_all(self, views: list[memoryview]) -> None:
        """All of a frame, however long the peer takes for it, unless the connection ends meanwhile."""
        while views:
            try:
                views = self._send_some(self._socket, views)
            except TimeoutError:
                if self.ended.is_set():
                    raise

    def _send_some(self, connection: socket.socket, views: list[memoryview]) -> list[memoryview]:
        """One call to the system; returns what is left."""
        # Windows has no sendmsg.
        sent = connection.sendmsg(views[:64]) if hasattr(connection, "sendmsg") else connection.send(views[0])
        # Small frames fit any buffer: that one left says nothing about the peer.
        if sent > 1 << 16:
            self._alive = time.monotonic()
        first = 0
        while first < len(views) and sent >= len(views[first]):
            sent -= len(views[first])
            first += 1
        if sent:
            views[first] = views[first][sent:]
        return views[first:]
