#!/usr/bin/env python3
"""Builds the Blender extension: stages blender_addon/ with bridge/ vendored inside and the server's wheel beside it,
and zips it.

    python build_addon.py [--out DIR]        -> DIR/paintover-VERSION.zip (default: dist/)

Development and tests run a staged tree too (`stage`), since the source tree cannot resolve the add-on's
`from .bridge import …`. Staging needs the standard library alone, so that any Python can do it, Blender's own included;
the wheel needs pip, and setuptools, which pip fetches where it is missing or too old.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent
NAME = "paintover"
SERVER_PACKAGE = "server_package"
"""Folder in the extension with the server's wheel and the exact versions that it is tested with. The add-on makes the
server's environment from it (blender_addon/environment)."""
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


def build_wheel(folder: Path) -> Path:
    """Write the server's wheel, with mini's weights, into `folder`; returns its path."""
    with tempfile.TemporaryDirectory(prefix="paintover-wheel-") as temporary:
        # Built from a copy: setuptools leaves files beside what it builds, and takes stale ones from there.
        copy = Path(temporary)
        for name in ("bridge", "server"):
            shutil.copytree(ROOT / name, copy / name, ignore=LEFT_OUT)
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, copy / name)
        for path in copy.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
        # The builder at hand needs no network; elsewhere pip fetches one, as pyproject.toml asks for it.
        command += ["--no-build-isolation"] * _has_setuptools() + ["--wheel-dir", str(folder), str(copy)]
        environment = {**os.environ, "SOURCE_DATE_EPOCH": "315532800"}
        umask = {"umask": 0o022} if os.name == "posix" else {}
        subprocess.run(command, env=environment, check=True, **umask)  # type: ignore[call-overload]
    (wheel,) = folder.glob("*.whl")
    return wheel


def _has_setuptools() -> bool:
    """Whether this interpreter has the setuptools that pyproject.toml asks for."""
    try:
        return int(metadata.version("setuptools").split(".")[0]) >= 77
    except metadata.PackageNotFoundError:
        return False


def build(out: Path) -> Path:
    """Write the zip that Blender installs; returns its path. The same sources give the same bytes."""
    out.mkdir(parents=True, exist_ok=True)
    tree = stage(out / "stage")
    package = tree / SERVER_PACKAGE
    package.mkdir()
    build_wheel(package)
    shutil.copy(ROOT / "constraints.txt", package / "constraints.txt")
    target = out / f"{NAME}-{version()}.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(p for p in tree.rglob("*") if p.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(tree).as_posix(), EPOCH)
            entry.compress_type = zipfile.ZIP_STORED if path.suffix == ".whl" else zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, path.read_bytes())
    shutil.rmtree(out / "stage")
    return target


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder for the zip")
    target = build(parser.parse_args().out)
    print(f"{target} ({target.stat().st_size / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
