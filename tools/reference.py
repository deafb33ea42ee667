"""Writes what is made from the tables of parameters and OSC addresses, and copies: python -m tools.reference"""

from __future__ import annotations

from pathlib import Path

from paintover.bridge.parameters import PARAMETERS, Parameter
from paintover.server.live.osc_addresses import ACTIONS, BOTH, READ, ROOT, SENT, SERVICE, SIZE, TAKEN, Address
from paintover.server.live.osc_addresses import PARAMETERS as OSC_PARAMETERS

ROOT_FOLDER = Path(__file__).parent.parent
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
        text = f"{parameter.minimum:.10g} … {parameter.maximum:.10g}"
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


OSC_HEAD = (Path(__file__).parent / "osc_head.md").read_text(encoding="utf-8")


def osc() -> str:
    """docs/osc.md."""
    rows = [
        f"| `{ROOT}/{one.path}` | {one.tags} | {_osc_values(one)} | {_osc_default(one)} | {one.description} |"
        for one in (*OSC_PARAMETERS, SIZE)
    ]
    parts = [
        OSC_HEAD,
        "## Parameters\n\n| address | type | values | at first | meaning |\n|---|---|---|---|---|",
        *rows,
        "\n## Triggers\n\nArguments in brackets may be left out.\n\n| address | type | meaning |\n|---|---|---|",
        *_plain(ACTIONS),
        "\n## The link itself\n\n| address | type | meaning |\n|---|---|---|",
        *_plain(SERVICE),
        "\n## What the server sends\n\nBesides each parameter that changes, at its own address.\n",
        "| address | type | meaning |\n|---|---|---|",
        *_plain(SENT),
    ]
    return "\n".join(parts) + "\n"


def _plain(addresses: tuple[Address, ...]) -> list[str]:
    return [f"| `{ROOT}/{one.path}` | {one.tags or '–'} | {one.description} |" for one in addresses]


def _osc_values(address: Address) -> str:
    found = []
    for row in address.rows:
        found.append("0, 1" if row.type is bool else ", ".join(map(str, row.choices)) if row.choices else values(row))
    return " and ".join(dict.fromkeys(found))


def _osc_default(address: Address) -> str:
    defaults = [int(row.default) if row.type is bool else row.default for row in address.rows]
    return ", ".join(str(value) if value != "" else "(empty)" for value in defaults)


def cheat_sheet() -> str:
    """touchdesigner/osc_addresses.tsv: a table for a DAT, one address a row."""
    lines = ["address\ttype\tdirection\tminimum\tmaximum\tdefault\tmeaning"]
    for one in (*TAKEN, *SENT):
        row = one.rows[0] if one.rows else None
        bounds: tuple[object, ...] = ("", "", "")
        if row is not None:
            low, high = (0, 1) if row.type is bool else (row.minimum, row.maximum)
            bounds = ("" if low is None else f"{low:.10g}", "" if high is None else f"{high:.10g}", _osc_default(one))
        direction = {READ: "out", BOTH: "in and out"}.get(one.access, "in")
        lines.append("\t".join((f"{ROOT}/{one.path}", one.tags, direction, *map(str, bounds), one.description)))
    return "\n".join(lines) + "\n"


def frames() -> str:
    """touchdesigner/paintover_frames.py: a copy, so that the folder needs nothing else."""
    return (ROOT_FOLDER / "bridge" / "frames.py").read_text(encoding="utf-8")


PAGES = {
    ROOT_FOLDER / "docs" / "parameters.md": parameters,
    ROOT_FOLDER / "docs" / "osc.md": osc,
    ROOT_FOLDER / "touchdesigner" / "osc_addresses.tsv": cheat_sheet,
    ROOT_FOLDER / "touchdesigner" / "paintover_frames.py": frames,
}


if __name__ == "__main__":
    for path, page in PAGES.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(page(), encoding="utf-8")
        print(path)
