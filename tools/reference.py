"""Writes docs/parameters.md from the parameter table: python -m tools.reference"""

from __future__ import annotations

from pathlib import Path

from paintover.bridge.parameters import PARAMETERS, Parameter

TARGET = Path(__file__).parent.parent / "docs" / "parameters.md"
HEAD = """# Parameters

Every setting of a job, generated from `bridge/parameters.py` by `python -m tools.reference`. The same table makes the
panels in Blender, the flags of `paintover generate`, and the checks on the wire. The defaults are those of Stable
Diffusion; choosing another model in Blender, like mini, fills in its own.

| parameter | name in the panel | values | default | meaning |
|---|---|---|---|---|
"""


def values(parameter: Parameter) -> str:
    """The allowed values in words."""
    if parameter.choices:
        return ", ".join(parameter.choices)
    if parameter.type is bool:
        return "on, off"
    if parameter.type is str:
        return "text"
    text = parameter.type.__name__
    if parameter.minimum is not None:
        text = f"{parameter.minimum:g} … {parameter.maximum:g}"
    text += f" {parameter.unit}" if parameter.unit else ""
    return text + (f", divisible by {parameter.step}" if parameter.step else "")


def default(parameter: Parameter) -> str:
    if parameter.type is bool:
        return "on" if parameter.default else "off"
    return str(parameter.default) if parameter.default != "" else "(empty)"


def parameters() -> str:
    """The page."""
    rows = [f"| `{p.name}` | {p.label} | {values(p)} | {default(p)} | {p.description} |" for p in PARAMETERS]
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    TARGET.write_text(parameters(), encoding="utf-8")
    print(TARGET)
