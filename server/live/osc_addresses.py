"""Every OSC address, below the root: the live parameters and triggers of the table, and what OSC has besides."""

from __future__ import annotations

from dataclasses import dataclass

from paintover.bridge.live import LIVE, LIVE_BY_NAME, TRIGGERS
from paintover.bridge.parameters import Parameter

ROOT = "/paintover"
OSC_PORT, OSC_REPLY, HTTP_PORT = 9700, 9701, 9702
READ, WRITE, BOTH = 1, 2, 3
"""OSCQuery's ACCESS."""
UNKNOWN, TYPE, RANGE, BUSY, FAILED = 1, 2, 3, 4, 5
"""Codes of what is sent back as an error: there is no such address, …"""
_TAGS = {str: "s", int: "i", float: "f", bool: "i"}


@dataclass(frozen=True)
class Address:
    """One address: what it takes or sends."""

    path: str
    tags: str
    """OSC types; those in brackets may be left out. Any number is taken for any other."""
    description: str
    access: int = WRITE
    rows: tuple[Parameter, ...] = ()
    """The parameters that it sets, one an argument."""
    trigger: bool = False


PARAMETERS = tuple(
    Address(row.address, _TAGS[row.type], row.description, BOTH, (row,))
    for row in sorted(LIVE, key=lambda r: r.address)
)
SIZE = Address(
    "output/size", "ii", "Width and height of the painted frames", BOTH,
    (LIVE_BY_NAME["output_width"], LIVE_BY_NAME["output_height"]),
)  # fmt: skip
ACTIONS = tuple(Address(t.address, t.tags, t.description, trigger=True) for t in TRIGGERS)
SERVICE = (
    Address("osc/reply", "i[s]", "Where feedback for this sender goes: port and, if it is another one, the host's IP"),
    Address("osc/subscribe", "si", "How often the addresses that match a pattern are sent here, in Hz; 0 is never"),
    Address("sync", "", "Send all values now, in bundles", trigger=True),
    Address("ping", "[i]", "Answered by /pong with the same number"),
)
TAKEN = (*PARAMETERS, SIZE, *ACTIONS, *SERVICE)
"""All that is listened to."""
BY_PATH: dict[str, Address] = {address.path: address for address in TAKEN}

STATUS = (
    Address("status/state", "i", "0 off, 1 loading, 2 warming, 3 running, 4 frozen, 5 recovering, 6 error", READ),
    Address("status/fps", "f", "Painted frames a second", READ),
    Address("status/latency_ms", "f", "From a change to the first frame that shows it", READ),
    Address("status/frame_age_ms", "f", "Age of the frame that is sent out", READ),
    Address("status/jitter_ms", "f", "Of the output's pace", READ),
    Address("status/dropped", "f", "Control frames that newer ones replaced before they were painted", READ),
    Address("status/vram_gb", "f", "GPU memory in use", READ),
    Address("status/progress", "f", "Of what is loaded or run, 0 to 1", READ),
)
"""Sent five times a second."""
SENT = (
    *STATUS,
    Address("status/alive", "f", "Counts up once a second", READ),
    Address("status/text", "s", "What the server does, when it changes", READ),
    Address("event/trigger", "s", "A trigger that somebody fired", READ),
    Address("event/trouble", "s", "Something went wrong on the stage; the picture goes on", READ),
    Address("frame", "i", "Number of each painted frame; only for those who subscribe", READ),
    Address("ack", "si", "A trigger was done: its address and number", READ),
    Address("pong", "i", "Answer to /ping", READ),
    Address("error", "sis", "Address, code, words. 1 unknown, 2 type, 3 range, 4 busy, 5 failed", READ),
)
"""What goes out besides values that changed."""
