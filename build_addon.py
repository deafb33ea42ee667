#!/usr/bin/env python3
"""Builds the Blender extension: stages blender_addon/ with bridge/ vendored inside, and zips it.

    python build_addon.py [--out DIR]        -> DIR/paintover-VERSION.zip (default: dist/)

Development, tests and the demo run a staged tree too (`stage`), since the source tree cannot resolve the add-on's
`from .bridge import …`. Standard library only, so that any Python can build it, Blender's own included.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
NAME = "paintover"
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
EPOCH = (1980, 1, 1, 0, 0, 0)


def version() -> str:
    """The version that the manifest names."""
    return str(tomllib.loads((ROOT / "blender_addon" / "blender_manifest.toml").read_text(encoding="utf-8"))["version"])


def stage(folder: Path) -> Path:
    """Put the extension's tree into folder/paintover (replacing what is there); returns that path."""
    target = folder / NAME
    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(ROOT / "blender_addon", target, ignore=LEFT_OUT)
    shutil.copytree(ROOT / "bridge", target / "bridge", ignore=LEFT_OUT)
    shutil.copy(ROOT / "LICENSE", target / "LICENSE")
    return target


def build(out: Path) -> Path:
    """Write the zip that Blender installs; returns its path. The same sources give the same bytes."""
    out.mkdir(parents=True, exist_ok=True)
    tree = stage(out / "stage")
    target = out / f"{NAME}-{version()}.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(p for p in tree.rglob("*") if p.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(tree).as_posix(), EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, path.read_bytes())
    shutil.rmtree(out / "stage")
    return target


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder for the zip")
    print(build(parser.parse_args().out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
