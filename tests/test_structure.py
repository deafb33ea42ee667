"""The shape that the project keeps: who may import whom, one version everywhere, references that are current."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from paintover.bridge import VERSION

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "diffusers", "transformers", "safetensors", "scipy", "huggingface_hub", "peft", "PIL"}
STANDARD_IN_BRIDGE = {"numpy"}
BEHIND_THE_SEAM = ("server/animation/", "server/pipelines/", "server/texturing/", "server/doctor.py")


def sources(folder: str) -> Iterator[Path]:
    yield from sorted(p for p in (ROOT / folder).rglob("*.py") if "__pycache__" not in p.parts)


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every import of a file as (absolute or dotted-relative name, line)."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield base, node.lineno
            if not node.module:
                yield from ((base + alias.name, node.lineno) for alias in node.names)


def offences(folder: str, forbidden: re.Pattern[str], but: tuple[str, ...] = ()) -> list[str]:
    found = []
    for path in sources(folder):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(but or ("\0",)):
            found += [f"{name}:{line} imports {what}" for what, line in imports(path) if forbidden.match(what)]
    return found


def test_the_bridge_needs_only_the_standard_library_and_numpy() -> None:
    import sys

    allowed = sys.stdlib_module_names | STANDARD_IN_BRIDGE
    found = [
        f"{path.name}:{line} imports {name}"
        for path in sources("bridge")
        for name, line in imports(path)
        if not name.startswith(".") and name.split(".")[0] not in allowed
    ]
    assert not found
    assert not offences("bridge", re.compile(r"\.\.")), "bridge/ imports nothing beside itself"


def test_blender_lives_in_the_addon_and_torch_behind_the_seam() -> None:
    assert not offences("server", re.compile(r"(bpy|mathutils|gpu)\b"))
    assert not offences("server", re.compile(r"(torch|diffusers|transformers)\b"), BEHIND_THE_SEAM)
    assert not offences("blender_addon", re.compile(rf"({'|'.join(sorted(HEAVY))})\b"))


def test_setting_up_needs_nothing_of_blender() -> None:
    assert not offences("blender_addon/environment", re.compile(r"(bpy|mathutils|gpu|numpy)\b"))
    assert not offences("blender_addon/environment", re.compile(r"\.\.(?!bridge)\w"))


def test_the_addon_and_the_server_never_import_each_other() -> None:
    assert not offences("blender_addon", re.compile(r"(paintover|server|\.+server\b(?!_process))"))
    assert not offences("server", re.compile(r".*blender_addon"))


def parts(folder: str) -> set[str]:
    """The modules and packages right below a folder."""
    inside = [path for path in (ROOT / folder).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    return {path.stem for path in inside} - {"__init__"}


def between_parts(folder: str) -> Iterator[tuple[str, str, str]]:
    """Every import of one part of a folder by another, also within functions, as (importer, imported, place)."""
    for path in sources(folder):
        inside = path.relative_to(ROOT / folder).parts
        for name, line in imports(path):
            own = name.removeprefix(f"paintover.{folder}.")
            rest = own.lstrip(".")
            if rest == own == name:
                continue  # from elsewhere
            above = len(own) - len(rest) - 1  # how many packages up; -1 for an absolute name
            package = inside[: len(inside) - 1 - above] if above >= 0 else ()
            imported = [*package, *rest.split(".")][0]
            if imported and imported != inside[0].removesuffix(".py"):
                yield inside[0].removesuffix(".py"), imported, f"{path.relative_to(ROOT).as_posix()}:{line}"


# A part may import those that come after it only: panels -> operators -> … -> bridge, cli -> front -> … -> engine.
LAYERS = {
    "blender_addon": (
        "panels", "operators", "render_engine", "overlay", "pump", "preferences", "session", "live", "animate",
        "takeover_task", "texture_task", "tasks", "away", "dressing", "images", "textures", "png", "folders", "strips",
        "uvs", "unwrap", "cameras", "meshes", "passes", "steps", "main_thread", "link", "server_process", "environment",
        "properties",
    ),
    "server": (
        "cli", "models_cli", "doctor", "catalogue", "front", "live", "traffic", "probe", "runner", "shots", "archive",
        "supervisor", "jobs", "journal", "parts", "worker_process", "worker", "stream", "animation", "texturing",
        "pipelines", "fake_engine", "engine", "extras", "models", "model_files", "worker_messages", "ending",
        "disk",
    ),
}  # fmt: skip


@pytest.mark.parametrize("folder", LAYERS)
def test_layers_point_downwards(folder: str) -> None:
    layers = LAYERS[folder]
    assert set(layers) == parts(folder), "whatever is new or gone has, or had, its place in LAYERS"
    up = [
        f"{place} imports {imported}"
        for importer, imported, place in between_parts(folder)
        if importer in layers and imported in layers and layers.index(imported) < layers.index(importer)
    ]
    assert not up


def test_the_front_holds_nothing_of_the_engine() -> None:
    front = {
        "cli",
        "front",
        "live",
        "runner",
        "shots",
        "archive",
        "supervisor",
        "jobs",
        "journal",
        "parts",
        "worker_process",
        "traffic",
    }
    behind = {"worker", "stream", "animation", "texturing", "pipelines", "fake_engine", "engine"}
    found = [
        f"{place} imports {imported}"
        for importer, imported, place in between_parts("server")
        if importer in front and imported in behind
    ]
    assert not found


def test_files_and_functions_stay_readable() -> None:
    long_files = [
        path.relative_to(ROOT).as_posix()
        for folder in ("bridge", "server", "blender_addon", "tools", "benchmarks", "tests")
        for path in sources(folder)
        if len(path.read_text(encoding="utf-8").splitlines()) > 420
    ]
    assert not long_files
    long_functions = [
        f"{path.relative_to(ROOT).as_posix()}:{node.lineno} {node.name}"
        for folder in ("bridge", "server", "blender_addon", "tools", "benchmarks")
        for path in sources(folder)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (node.end_lineno or 0) - node.lineno >= 60
    ]
    assert not long_functions


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    manifest = tomllib.loads((ROOT / "blender_addon" / "blender_manifest.toml").read_text(encoding="utf-8"))["version"]
    changelog = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert changelog
    assert VERSION == project == manifest == changelog[1]


def test_the_references_are_current() -> None:
    from tools import reference

    for path, page in reference.PAGES.items():
        assert path.read_text(encoding="utf-8") == page(), "run: python -m tools.reference"
