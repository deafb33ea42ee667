"""The server as `paintover serve` runs it; at SIGUSR1 it writes how many objects of some types it holds.

What it held before is old then, as in a server that has run for long: Python's collector looks at it seldom.
"""

from __future__ import annotations

import collections
import gc
import json
import signal

from paintover.bridge.paths import data_folder
from paintover.server.cli import main

HELD = "held.json"
TYPES = ("Channel", "Decoder", "Mailbox", "WorkerProcess", "Popen")


def write(*_: object) -> None:
    gc.collect(1)  # of three generations the younger two
    names = (type(one).__name__ for one in gc.get_objects())
    part = data_folder() / f"{HELD}.part"
    part.write_text(json.dumps(collections.Counter(name for name in names if name in TYPES)))
    part.replace(data_folder() / HELD)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, write)
    main()
