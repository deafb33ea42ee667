"""How two sides meet and look after their link: the first of all messages, and what every message is registered in.

messages.py has the rest, and all of them under one name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from .errors import PaintoverError, from_wire

MESSAGES: dict[str, type] = {}
"""Wire tag -> class of every message that travels between client and server."""

M = TypeVar("M", bound=type)


def message(cls: M) -> M:
    MESSAGES[cls.__name__] = cls
    return cls


@dataclass(frozen=True)
class Failure:
    """An error on the wire."""

    code: str
    message: str
    hint: str

    @classmethod
    def of(cls, error: PaintoverError) -> Failure:
        return cls(error.code, error.message, error.hint)

    def error(self) -> PaintoverError:
        return from_wire(self.code, self.message, self.hint)


@message
@dataclass(frozen=True)
class Hello:
    """First message of a client."""

    protocol: int
    token: str
    client: str
    version: str


@dataclass(frozen=True)
class ModelInfo:
    """A model that the server can load."""

    name: str
    family: str
    controls: tuple[str, ...]
    defaults: dict[str, int | float | str | bool]
    """Parameter values that suit this model (steps, guidance, size)."""
    description: str = ""


@dataclass(frozen=True)
class Capabilities:
    models: tuple[ModelInfo, ...]
    device: str

    def model(self, name: str) -> ModelInfo | None:
        return next((model for model in self.models if model.name == name), None)


@message
@dataclass(frozen=True)
class Welcome:
    """The server accepts the client."""

    protocol: int
    version: str
    capabilities: Capabilities


@message
@dataclass(frozen=True)
class Refused:
    """The server does not accept the client, and closes."""

    failure: Failure


@message
@dataclass(frozen=True)
class LaneOffer:
    """Here is memory that both of us could use, if you can see it (see lane.py)."""

    name: str
    ring: int
    """Bytes of each of its two rings."""


@message
@dataclass(frozen=True)
class LaneProof:
    """The nonce that the peer read in the memory that was offered; empty if it does not see it, or does not want it.

    From here on both sides may put arrays there.
    """

    nonce: str


@message
@dataclass(frozen=True)
class BoardOffer:
    """Here is memory for frames of which only the newest counts, if you can see it (see board.py)."""

    name: str
    size: int
    """Bytes of its area."""
    write: bool
    """It is for your frames; otherwise for those that I hand on to you."""


@message
@dataclass(frozen=True)
class BoardProof:
    """As LaneProof, for a board: each offer is answered, in order. From here on frames may refer to it."""

    nonce: str


@message
@dataclass(frozen=True)
class Ping:
    number: int


@message
@dataclass(frozen=True)
class Pong:
    number: int


@message
@dataclass(frozen=True, eq=False)
class Probe:
    """Measure the link: touch every byte of these arrays, and send a picture of this size back."""

    arrays: tuple[np.ndarray, ...]
    width: int
    height: int


@message
@dataclass(frozen=True, eq=False)
class ProbeAnswer:
    checksum: int
    image: np.ndarray
    """uint8 (height, width, 3)."""
