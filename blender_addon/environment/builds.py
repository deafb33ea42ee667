"""Chooses which of PyTorch's builds the machine's graphics card can use."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..bridge.errors import SetupError
from .processes import ask

INDEX = "https://download.pytorch.org/whl"
"""Where the PyTorch project publishes its builds, one folder a kind (PAINTOVER_TORCH_INDEX overrides it)."""


@dataclass(frozen=True)
class Build:
    """One of PyTorch's builds. Sizes are rough, in GB: of what is downloaded, and of the whole environment."""

    name: str
    label: str
    folder: str
    """Below INDEX; empty for what Python's default index has."""
    download: float
    disk: float
    own_dependencies: bool = False
    """Whether that index alone has what PyTorch depends on, too."""

    @property
    def index(self) -> str:
        """Address of the index, or an empty text for the default one."""
        return f"{os.environ.get('PAINTOVER_TORCH_INDEX', INDEX)}/{self.folder}" if self.folder else ""


# CUDA 13 needs driver 580 and a card of the Turing generation or later (compute capability 7.5). The CUDA 12.6 build is
# the one that still carries older cards, and runs with every driver of the CUDA 12 generation.
CUDA_13 = Build("cuda13", "CUDA 13", "cu130", 2.6, 8.0)
CUDA_12 = Build("cuda12", "CUDA 12", "cu126", 3.2, 9.0)
ROCM = Build("rocm", "ROCm", "rocm7.2", 5.0, 18.0, own_dependencies=True)
# On Linux the default index's build is the CUDA one, several GB larger than needed; elsewhere it is the plain one.
CPU_LINUX = Build("cpu", "CPU", "cpu", 0.5, 2.0)
CPU_ELSEWHERE = Build("cpu", "CPU", "", 0.5, 2.0)
MPS = Build("mps", "Apple GPU", "", 0.5, 2.0)

ALL = (CPU_LINUX, CPU_ELSEWHERE, MPS, CUDA_13, CUDA_12, ROCM)
"""The one place of their sizes: docs/install.md repeats them (a test compares), the preferences name the range."""
DOWNLOADS = f"{min(build.download for build in ALL):g} to {max(build.download for build in ALL):g} GB"

NEWEST_DRIVER, NEWEST_CARD = 580, 7.5
OLDEST_DRIVER = {"linux": 525, "win32": 528}

WANTED = {
    "AUTO": ("Automatic", "What the graphics card of this machine can use"),
    "CUDA": ("CUDA", "For NVIDIA's cards"),
    "ROCM": ("ROCm", "For AMD's cards, on Linux"),
    "CPU": ("CPU", "No graphics card: the smallest download, and slow with anything but mini"),
}
"""What can be wished for, as the preferences offer it: its label and description."""


@dataclass(frozen=True)
class Machine:
    """What matters of a machine."""

    platform: str
    driver: int = 0
    """NVIDIA's driver, major version; 0 without one."""
    card: float = 0.0
    """Compute capability of the first NVIDIA card; 0 where the driver does not tell."""
    rocm: bool = False


def look(
    platform: str = sys.platform,
    ask: Callable[[Sequence[str]], str | None] = ask,
    rocm: Path = Path("/opt/rocm"),
) -> Machine:
    """Look at this machine."""
    if platform == "darwin":
        return Machine(platform)
    query = ["nvidia-smi", "--format=csv,noheader"]
    answer = ask([*query, "--query-gpu=driver_version,compute_cap"]) or ask([*query, "--query-gpu=driver_version"])
    driver, card = 0, 0.0
    if match := re.match(r"\s*(\d+)\.[\d.]+(?:\s*,\s*(\d+\.\d+))?", answer or ""):
        driver, card = int(match[1]), float(match[2] or 0)
    amd = platform == "linux" and (rocm.exists() or ask(["rocminfo"]) is not None)
    return Machine(platform, driver, card, amd)


def choose(machine: Machine, wanted: str = "AUTO") -> tuple[Build, str]:
    """The build for a machine and why it is that one; `wanted` is one of WANTED. Raises SetupError for a wish that no
    build can fulfil."""
    cpu = CPU_LINUX if machine.platform == "linux" else CPU_ELSEWHERE
    if wanted == "CPU":
        return cpu, "chosen in the preferences"
    if machine.platform == "darwin":
        if wanted != "AUTO":
            raise SetupError(reason=f"there is no {wanted} on macOS", hint="Choose Automatic: it uses Apple's GPU.")
        return MPS, "Apple's GPU comes with the default build"
    if wanted == "ROCM" and machine.platform != "linux":
        raise SetupError(
            reason="PyTorch's ROCm build exists for Linux alone", hint="Choose CPU, or run the server on Linux."
        )
    oldest = OLDEST_DRIVER.get(machine.platform, 525)
    if wanted == "CUDA" or (wanted == "AUTO" and machine.driver >= oldest):
        new = machine.driver >= NEWEST_DRIVER and (machine.card >= NEWEST_CARD or not machine.card)
        build = CUDA_13 if new or not machine.driver else CUDA_12
        card = f", a card of compute capability {machine.card}" if machine.card else ""
        return build, f"NVIDIA driver {machine.driver}{card}" if machine.driver else "chosen in the preferences"
    if wanted == "ROCM" or machine.rocm:
        return ROCM, "ROCm is installed" if machine.rocm else "chosen in the preferences"
    if machine.driver:
        return cpu, f"NVIDIA driver {machine.driver} is too old for PyTorch: install {oldest} or newer, then Repair"
    return cpu, "no graphics card that PyTorch can use was found"
