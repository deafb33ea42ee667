"""Setting up the server: a real venv and a real pip, packages from a tiny registry on loopback."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paintover import environment
from paintover.bridge.errors import Cancelled, NoSpace, NotOnline, ServerRuns, SetupError, SetupRunning
from paintover.environment import installation, lock, record
from paintover.environment.installation import Installation, Removal
from paintover.environment.pip_progress import PipProgress

from .interpreters import interpreter
from .tiny_registry import TinyRegistry, package

pytestmark = [
    pytest.mark.once,
    pytest.mark.timeout(1500),  # seconds on an idle machine; venv and pip write and delete thousands of files
    pytest.mark.skipif(os.name != "posix", reason="the stand-in interpreters are shell scripts"),
]


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TinyRegistry]:
    made = TinyRegistry()
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    values = {
        "PAINTOVER_DATA": tmp_path / "data",
        "PAINTOVER_TORCH_INDEX": "http://127.0.0.1:1/whl",
        "PIP_INDEX_URL": made.url,
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_CACHE_DIR": tmp_path / "cache",
        "PIP_RETRIES": "0",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, str(value))
    yield made
    made.close()


def end(work: Any) -> Any:
    """Wait for its end."""
    work.poll(wait=600)
    assert work.ended
    return work


def set_up(carried: Path, **options: Any) -> Installation:
    work = Installation(carried, wanted="CPU", **options)
    work.start()
    end(work)
    assert work.error is None, "\n".join(work.lines)
    return work


def state(carried: Path) -> record.State:
    wheel = record.wheel_in(carried)
    assert wheel
    return record.state(record.identity(wheel))


def says() -> str:
    program = environment.program()
    assert program
    return subprocess.run([program], capture_output=True, text=True, check=True).stdout.strip()


def test_from_nothing_to_ready_update_repair_remove(registry: TinyRegistry, tmp_path: Path) -> None:
    carried = package(tmp_path / "package")
    assert state(carried) is record.State.ABSENT
    assert environment.program() is None
    work = set_up(carried)
    assert work.fraction == 1.0
    assert state(carried) is record.State.READY
    assert says() == "hello"
    made = record.read()
    assert made
    assert (made.build, made.device, made.torch) == ("cpu", "CPU", "torch==2.13.0")
    text = record.log_file().read_text()
    assert "taking the default index's build" in text, "the index of PyTorch's builds is not reachable here"
    assert "Successfully installed" in text
    assert not (record.folder() / "temporary").exists()

    newer = package(tmp_path / "newer", words="newer")
    assert state(newer) is record.State.OUTDATED
    before = len(registry.requests)
    set_up(newer)
    assert says() == "newer"
    assert not [path for path in registry.requests[before:] if "torch" in path], "PyTorch is there already"

    (record.environment() / "pyvenv.cfg").write_text("home = /nowhere\n")
    assert state(newer) is record.State.BROKEN
    set_up(newer, again=True)
    assert state(newer) is record.State.READY

    removal = Removal()
    removal.start()
    assert end(removal).error is None
    assert state(newer) is record.State.ABSENT
    assert not record.folder().exists()


def test_cancelled_in_mid_download_it_goes_on_from_there(registry: TinyRegistry, tmp_path: Path) -> None:
    carried = package(tmp_path / "package")
    registry.hold("small")
    work = Installation(carried, wanted="CPU")
    work.start()
    assert registry.asked.wait(600)
    running = work._running
    assert running
    work.cancel()
    end(work)
    assert isinstance(work.error, Cancelled)
    running.wait(30)
    with pytest.raises(ProcessLookupError):
        os.killpg(running.pid, 0)
    assert state(carried) is record.State.UNFINISHED
    made = record.read()
    assert made
    assert made.done == ["environment", "torch"]
    registry.release("small")
    seen = len(registry.requests)
    again = set_up(carried)
    assert state(carried) is record.State.READY
    assert not any("-m venv" in line for line in again.lines)
    assert not [path for path in registry.requests[seen:] if "torch" in path]


def test_a_new_pin_of_torch_and_another_build_install_it_anew(registry: TinyRegistry, tmp_path: Path) -> None:
    set_up(package(tmp_path / "package"))
    registry.wheels["torch"]["2.14.0"] = registry.wheels["torch"].pop("2.13.0")
    work = Installation(package(tmp_path / "next", torch="2.14.0"), wanted="CPU")
    work.start()
    end(work)
    # The stand-in still calls itself 2.13.0 inside, which pip notices: it did fetch the new one.
    assert any("/2.14.0/" in path for path in registry.requests)


def test_what_was_cut_short_is_installed_again(registry: TinyRegistry, tmp_path: Path) -> None:
    carried = package(tmp_path / "package")
    set_up(carried)
    made = record.read()
    assert made
    made.done = ["environment", "torch"]
    made.write()
    (installed,) = record.environment().glob("**/site-packages/small.py")
    installed.unlink()
    (half,) = record.environment().glob("**/site-packages/small-1.0.dist-info")
    (half / "INSTALLER").unlink()
    set_up(carried)
    assert installed.exists()


def test_without_a_network(registry: TinyRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    work = Installation(package(tmp_path / "package"), wanted="CPU")
    work.start()
    assert isinstance(end(work).error, NotOnline | SetupError)
    assert "button again" in work.error.hint
    assert state(tmp_path / "package") is record.State.UNFINISHED
    monkeypatch.setenv("PIP_INDEX_URL", registry.url)
    set_up(tmp_path / "package")


def test_a_full_disk_is_noticed_before(registry: TinyRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1e9}))
    work = Installation(package(tmp_path / "package"), wanted="CPU")
    work.start()
    error = end(work).error
    assert isinstance(error, NoSpace)
    assert "takes 2.5 GB" in error.message
    assert "1.0 GB are free" in error.message
    assert not registry.requests


def test_a_disk_that_becomes_full_ends_it_in_plain_words(
    registry: TinyRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log is the first that does not fit: neither it nor the last words may keep the work from ending."""
    running: list[subprocess.Popen[str]] = []

    def run(work: Installation, wheel: Path) -> None:
        def fill(line: str) -> bool:
            assert work._log
            work._log.close()
            work._log = open("/dev/full", "w")  # noqa: SIM115 - the work closes it
            assert work._running
            running.append(work._running)
            return True

        work._run(["sh", "-c", "echo one; exec sleep 600"], fill)

    monkeypatch.setattr(Installation, "_work", run)
    work = Installation(package(tmp_path / "package"))
    work.start()
    error = end(work).error
    assert isinstance(error, NoSpace)
    assert "The disk became full" in error.message
    assert "Free some space" in error.hint
    assert str(error) in work.lines
    assert running[0].returncode is not None, "the program is not left running"


def test_a_log_that_never_takes_a_line(registry: TinyRegistry, tmp_path: Path) -> None:
    record.log_file().parent.mkdir(parents=True)
    record.log_file().symlink_to("/dev/full")
    work = Installation(package(tmp_path / "package"))
    work.start()
    assert isinstance(end(work).error, NoSpace)


def finished(python: str = "") -> record.Record:
    """A record of a whole environment, and a folder that stands for it."""
    record.environment().mkdir(parents=True)
    made = record.Record(python=python, done=list(record.STAGES))
    made.write()
    return made


def test_an_environment_that_is_made_anew_is_not_said_to_be_whole(
    registry: TinyRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished(python="the old one")
    other = interpreter(tmp_path / "python")
    monkeypatch.setattr(Installation, "_check_space", lambda *_: None)
    work = Installation(package(tmp_path / "package"), python=other)
    work.start()
    assert end(work).error is not None, "the stand-in makes no environment"
    assert record.read() is None


def test_no_environment_is_changed_under_a_server(registry: TinyRegistry, tmp_path: Path) -> None:
    import fcntl

    made = finished()
    with (tmp_path / "data" / "server-9699.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # as the server's own FileLock does
        for work in (Installation(package(tmp_path / "package"), again=True), Removal()):
            work.start()
            error = end(work).error
            assert isinstance(error, ServerRuns)
            assert "9699" in error.message
            assert record.read() == made
            assert record.environment().exists()
    removal = Removal()
    removal.start()
    assert end(removal).error is None, "a lock that nobody holds keeps nobody out"
    assert not record.folder().exists()


def test_two_blenders_do_not_set_up_at_once(
    registry: TinyRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "PATIENCE", 0.0)
    with lock.exclusive():
        for work in (Installation(package(tmp_path / "package")), Removal()):
            work.start()
            assert isinstance(end(work).error, SetupRunning)


def test_a_tree_without_the_server_says_so(registry: TinyRegistry, tmp_path: Path) -> None:
    work = Installation(tmp_path)
    work.start()
    assert "carries no server" in end(work).error.message


# ---------------------------------------------------------------- progress


def test_pips_lines_become_a_fraction_that_only_grows() -> None:
    progress = PipProgress(expected=100e6)
    seen = []
    lines = [
        ("Collecting torch", True),
        ("  Downloading torch-2.13.0-cp311-none-any.whl (80.0 MB)", True),
        ("Progress 0 of 80000000", False),
        ("Progress 40000000 of 80000000", False),
        ("Progress 80000000 of 80000000", False),
        ("  Using cached small-1.0-py3-none-any.whl (20.0 MB)", True),
        ("Installing collected packages: small, torch", True),
    ]
    for line, worth in lines:
        assert progress.feed(line) is worth, line
        seen.append(progress.fraction)
    assert seen == sorted(seen)
    assert seen[3] == pytest.approx(0.8 * 0.4)
    assert seen[5] == pytest.approx(0.8)
    assert progress.doing.startswith("Unpacking")
