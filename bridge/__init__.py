"""The language that Blender, the server and everybody else speak. Standard library and numpy only."""

VERSION = "0.2.0"
"""Paintover's version: the same in the manifest, in pyproject.toml and in CHANGELOG.md (a test compares them)."""

PROTOCOL = 2
"""Version of the wire protocol. Two sides with different numbers refuse each other, naming both."""
