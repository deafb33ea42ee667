"""The server's own Python environment in the user's data folder: made, checked, repaired and removed from Blender.

Nothing here imports bpy, and everything that waits does so in a thread of its own. In the order of a set-up: `pythons`
finds an interpreter, `builds` chooses PyTorch's build, `installation` runs venv and pip (it is `work` in a thread that
holds a `lock`), `record` says what is there.
"""

from __future__ import annotations

from .processes import OWN_GROUP, variables
from .record import program

__all__ = ["OWN_GROUP", "program", "variables"]
