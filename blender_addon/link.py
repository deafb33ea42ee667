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
        self._results: queue.SimpleQueue[tuple[int, Client | PaintoverError]] = queue.SimpleQueue()
        self._attempt = 0

    def connect(self, host: str, port: int, token: str | None) -> None:
        """Begin to connect, instead of any connection there is. The outcome comes out of `poll`."""
        self.close()
        self.state = LinkState.CONNECTING
        self._attempt += 1
        attempt = self._attempt

        def work() -> None:
            try:
                outcome: Client | PaintoverError = Client.connect(host, port, token, name=f"Blender {_blender()}")
            except PaintoverError as error:
                outcome = error
            except Exception as error:  # noqa: BLE001 - without an outcome the panel would say “Connecting” for ever
                outcome = LinkError(reason=f"{type(error).__name__}: {error}")
            self._results.put((attempt, outcome))

        threading.Thread(target=work, name="paintover-connect", daemon=True).start()

    def poll(self, timeout: float = 0.0) -> Any | None:
        """The next thing that happened: a Client (now online), a message, an error (now offline), or None.

        Waits up to `timeout` seconds for it.
        """
        try:
            if self.state is LinkState.CONNECTING:
                return self._connected(*self._results.get(timeout=timeout) if timeout else self._results.get_nowait())
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

    def _connected(self, attempt: int, outcome: Client | PaintoverError) -> Client | PaintoverError | None:
        if attempt != self._attempt:  # an older attempt, which the user has given up
            if isinstance(outcome, Client):
                outcome.close()
            return None
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
        """Go offline; a connection that is still being made is dropped when it comes."""
        client, self.client, self.state = self.client, None, LinkState.OFFLINE
        self._attempt += 1
        if client:
            client.close()


def _blender() -> str:
    import bpy

    return bpy.app.version_string
