"""Two interpreters run these tests: the server's, and Blender's own (tests/addon). Each collects its part."""

from __future__ import annotations

import importlib.util

if importlib.util.find_spec("bpy"):
    collect_ignore = ["bridge", "server", "end_to_end", "tools", "benchmarks", "test_structure.py"]
else:
    collect_ignore = ["addon"]
