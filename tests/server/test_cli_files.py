"""How many files a server may have open."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import ClassVar

import psutil
import pytest

from ..server_process import ServerProcess

FEW = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
from paintover.server import cli
cli.main()
"""


class FewFiles(ServerProcess):
    PROGRAM: ClassVar[tuple[str, ...]] = ("-c", FEW)


@pytest.mark.skipif(sys.platform != "linux", reason="only there can another process's limit be read")
def test_a_server_has_more_files_than_a_system_that_gives_few(tmp_path: Path) -> None:
    server = FewFiles(tmp_path, "fake", "--no-standby")
    try:
        soft, most = psutil.Process(server.process.pid).rlimit(psutil.RLIMIT_NOFILE)
        assert soft == min(4096, most) > 200
    finally:
        server.stop()
