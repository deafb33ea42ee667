"""Choosing PyTorch's build for a machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paintover.bridge.errors import SetupError
from paintover.environment import builds
from paintover.environment.builds import CPU_ELSEWHERE, CPU_LINUX, CUDA_12, CUDA_13, MPS, ROCM, Machine

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    ("machine", "wanted", "build", "words"),
    [
        (Machine("linux"), "AUTO", CPU_LINUX, "no graphics card"),
        (Machine("win32"), "AUTO", CPU_ELSEWHERE, "no graphics card"),
        (Machine("darwin"), "AUTO", MPS, "Apple"),
        (Machine("linux", 580, 8.9), "AUTO", CUDA_13, "580"),
        (Machine("win32", 591, 0.0), "AUTO", CUDA_13, "591"),
        (Machine("linux", 580, 6.1), "AUTO", CUDA_12, "6.1"),
        (Machine("linux", 535, 8.9), "AUTO", CUDA_12, "535"),
        (Machine("win32", 526, 8.9), "AUTO", CPU_ELSEWHERE, "install 528 or newer"),
        (Machine("linux", rocm=True), "AUTO", ROCM, "ROCm"),
        (Machine("linux", 580, 8.9, rocm=True), "AUTO", CUDA_13, "580"),
        (Machine("linux", 580, 8.9, rocm=True), "ROCM", ROCM, "ROCm"),
        (Machine("linux", 580, 8.9), "CPU", CPU_LINUX, "preferences"),
        (Machine("linux"), "CUDA", CUDA_13, "preferences"),
    ],
)
def test_the_build_for_a_machine(machine: Machine, wanted: str, build: builds.Build, words: str) -> None:
    chosen, reason = builds.choose(machine, wanted)
    assert chosen == build
    assert words in reason


@pytest.mark.parametrize(("machine", "wanted"), [(Machine("darwin"), "CUDA"), (Machine("win32"), "ROCM")])
def test_a_build_that_does_not_exist(machine: Machine, wanted: str) -> None:
    with pytest.raises(SetupError) as refused:
        builds.choose(machine, wanted)
    assert refused.value.hint


def test_looking_at_the_machine(tmp_path: Path) -> None:
    def nvidia(command: Any) -> str | None:
        return "581.29, 12.0\n581.29, 8.6\n" if "compute_cap" in command[-1] else None

    def old_nvidia(command: Any) -> str | None:
        return "470.82.01\n" if command[-1].endswith("driver_version") else None

    none = tmp_path / "none"
    assert builds.look("win32", nvidia, none) == Machine("win32", 581, 12.0)
    assert builds.look("linux", old_nvidia, none) == Machine("linux", 470, 0.0)
    assert builds.look("linux", lambda command: None, tmp_path) == Machine("linux", rocm=True)
    assert builds.look("linux", lambda command: "agent" if "rocminfo" in command else None, none).rocm
    assert builds.look("darwin", nvidia, none) == Machine("darwin")


def test_every_build_has_an_index_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PAINTOVER_TORCH_INDEX", raising=False)
    indexed = [build.index for build in (CUDA_13, CUDA_12, ROCM, CPU_LINUX)]
    assert len(set(indexed)) == 4
    assert all(index.startswith("https://") for index in indexed)
    assert CPU_ELSEWHERE.index == MPS.index == ""


def test_the_docs_tell_the_sizes_of_the_builds() -> None:
    text = (Path(__file__).parents[2] / "docs" / "install.md").read_text(encoding="utf-8")
    told = [line for line in text.splitlines() if line.startswith("|") and "GB" in line]
    sizes = [f"| {build.label} | {build.download:g} GB | {build.disk:g} GB |" for build in builds.ALL]
    assert told == list(dict.fromkeys(sizes))
