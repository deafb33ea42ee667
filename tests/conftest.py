"""Two interpreters run these tests: the server's, and Blender's own (tests/addon). Each collects its part."""

from __future__ import annotations

import importlib.util
import os

# Before anything imports torch: waiting threads that spin make tests crawl on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if importlib.util.find_spec("hypothesis"):
    from hypothesis import settings

    settings.register_profile("paintover", deadline=None)  # no test asserts times: machines are busy
    settings.load_profile("paintover")

if importlib.util.find_spec("bpy"):
    collect_ignore = ["bridge", "server", "end_to_end", "tools", "benchmarks", "test_structure.py"]
else:
    collect_ignore = ["addon"]
