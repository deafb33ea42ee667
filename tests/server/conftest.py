"""A server with the fake engine that a module's tests share, and a client of it. A module may have its own instead."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from paintover.bridge.client import Client

from ..server_process import ServerProcess, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("data")) as process:
        yield process


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    with server.client() as connected:
        yield connected


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of its own for this process, not made yet."""
    folder = tmp_path / "data"
    monkeypatch.setenv("PAINTOVER_DATA", str(folder))
    return folder


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Have torch use one thread. For tiny models that is many times faster, above all where other tests keep the other
    cores busy."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
