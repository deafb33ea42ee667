"""The connection to the server as Blender sees it: made in a thread, polled by the pump, never waited for."""

from __future__ import annotations

import enum
import queue
import threading
from typing import Any

from .bridge.client import Client
from .bridge.errors import ConnectionLost, LinkError, PaintoverError
from .bridge.wire import Malformed


class LinkState(enum.Enum):
    OFFLINE = "Offline"
    CONNECTING = "Connecting"
    ONLINE = "Online"


class Link:
    """At most one connection. Everything that happens to it comes out of `poll`."""

    def __init__(self) -> None:
        self.state = LinkState.OFFLINE
        self.client: Client | None = None
        self._outcome: queue.SimpleQueue[Client | PaintoverError] = queue.SimpleQueue()
        """Of the attempt under way, no other."""
        self._attempt = 0
        self._giving_up = threading.Lock()
        """Held while an outcome is handed in, and while an attempt is given up: none is left behind between them."""

    def connect(self, host: str, port: int, token: str | None) -> None:
        """Begin to connect, instead of any connection there is. The outcome comes out of `poll`."""
        self.close()
        self.state = LinkState.CONNECTING
        attempt = self._attempt

        def work() -> None:
            try:
                outcome: Client | PaintoverError = Client.connect(host, port, token, name=f"Blender {_blender()}")
            except PaintoverError as error:
                outcome = error
            except Exception as error:  # noqa: BLE001 - without an outcome the panel would say “Connecting” for ever
                outcome = LinkError(reason=f"{type(error).__name__}: {error}")
            with self._giving_up:
                if attempt == self._attempt:
                    self._outcome.put(outcome)
                    return
            _let_go(outcome)

        threading.Thread(target=work, name="paintover-connect", daemon=True).start()

    def poll(self, timeout: float = 0.0) -> Any | None:
        """The next thing that happened: a Client (now online), a message, an error (now offline), or None.

        Waits up to `timeout` seconds for it.
        """
        try:
            if self.state is LinkState.CONNECTING:
                return self._connected(self._outcome.get(timeout=timeout) if timeout else self._outcome.get_nowait())
            if self.client:
                message = self.client.inbox.get(timeout=timeout) if timeout else self.client.inbox.get_nowait()
                if isinstance(message, Malformed):
                    message = message.error
                if isinstance(message, PaintoverError):
                    self.close()
                return message
        except queue.Empty:
            pass  # nothing happened
        return None

    def _connected(self, outcome: Client | PaintoverError) -> Client | PaintoverError:
        if isinstance(outcome, Client):
            self.client, self.state = outcome, LinkState.ONLINE
        else:
            self.state = LinkState.OFFLINE
        return outcome

    def send(self, message: Any) -> None:
        """Queue a message. Raises ConnectionLost when offline."""
        if not self.client:
            raise ConnectionLost()
        self.client.send(message)

    def close(self) -> None:
        """Go offline; a connection that is still being made is closed when it comes."""
        client, self.client, self.state = self.client, None, LinkState.OFFLINE
        with self._giving_up:
            self._attempt += 1
            outcome = None if self._outcome.empty() else self._outcome.get_nowait()
        _let_go(client or outcome)


def _let_go(outcome: Client | PaintoverError | None) -> None:
    if isinstance(outcome, Client):
        outcome.close()


def _blender() -> str:
    import bpy

    return bpy.app.version_string
