"""Makes the environment, step by step in a thread: venv, PyTorch, the server's wheel, a check. Cancelled or failed, the
next one goes on where it stopped."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

from ..bridge.errors import NoSpace, NotOnline, PaintoverError, SetupError
from . import builds, pythons, record
from .lock import exclusive, inherited, refuse_under_a_server
from .pip_progress import PipProgress
from .processes import OWN_GROUP, ask, end_tree, variables
from .record import delete
from .work import Work, no_room

LOG_LIMIT = 2_000_000
SERVER_DOWNLOAD = 0.1e9
"""Bytes of all packages but PyTorch and the wheel in the zip, roughly."""

# What the server needs before it can paint, and what it paints on.
CHECK = """
import json, torch
import paintover.server.cli, paintover.server.worker, paintover.server.pipelines.engine
device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
(torch.ones(2, device=device) + 1).cpu()
name = {"cuda": lambda: torch.cuda.get_device_name(), "mps": lambda: "Apple GPU", "cpu": lambda: "CPU"}[device]()
print(json.dumps({"device": name, "torch": torch.__version__}))
"""

UNREACHABLE = (
    "NewConnectionError", "ConnectionError", "ConnectTimeout", "ReadTimeout", "ProxyError", "SSLError", "HTTP error",
    "name resolution", "Max retries exceeded", "Could not fetch URL",
)  # fmt: skip
"""What pip says when it does not get at an index."""


class Removal(Work):
    """Deletes the environment: gigabytes, so not on Blender's main thread."""

    label = "Removing the server"

    def work(self) -> None:
        with exclusive(self.check):
            refuse_under_a_server()
            record.drop()
            delete(record.folder())
        record.log_file().unlink(missing_ok=True)


class Installation(Work):
    """Sets the server up, or goes on with it.

    package: the extension's folder with the server's wheel and constraints. python: the interpreter that the user
    names, or nothing. wanted: one of builds.WANTED. again: delete what is there first (Repair).
    """

    label = "Setting up the server"

    def __init__(self, package: Path, *, python: str = "", wanted: str = "AUTO", again: bool = False) -> None:
        super().__init__()
        self._package = package
        self._named = python
        self._wanted = wanted
        self._again = again
        self._log: IO[str] | None = None
        self._running: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._said: list[str] = []
        """What the last program wrote."""
        self._tells_progress = False
        self._held = -1
        """The lock. The programs inherit it: if this Blender is killed, the next one waits for their end."""

    def cancel(self) -> None:
        super().cancel()
        with self._lock:
            process = self._running
        if process:  # in a thread: pip may take a moment to go
            threading.Thread(target=end_tree, args=(process,), name="paintover-setup-cancel", daemon=True).start()

    def say(self, text: str) -> None:
        super().say(text)
        if self._log:
            try:
                print(text.rstrip(), file=self._log, flush=True)
            except OSError:  # a full disk: it ends the work, whose last words must not fail again
                self.close()
                raise

    def close(self) -> None:
        log, self._log = self._log, None
        if log:
            with contextlib.suppress(OSError):  # what could not be written before cannot be now
                log.close()

    # ------------------------------------------------------------ the steps

    def work(self) -> None:
        wheel = record.wheel_in(self._package)
        if wheel is None:
            raise SetupError(
                reason="this build of the extension carries no server", hint="Install the extension from its zip."
            )
        record.folder().mkdir(parents=True, exist_ok=True)
        path = record.log_file()
        full = path.exists() and path.stat().st_size > LOG_LIMIT
        with exclusive(self.check) as self._held:
            refuse_under_a_server()
            self._log = path.open("w" if full else "a", encoding="utf-8")
            try:
                self._work(wheel)
            finally:
                with contextlib.suppress(OSError):
                    delete(record.folder() / "temporary")

    def _work(self, wheel: Path) -> None:
        self.say(f"\nSetting up Paintover's server in {record.folder()}")
        build, reason = builds.choose(builds.look(), self._wanted)
        self.say(f"PyTorch's build: {build.label} ({reason})")
        if self._again:
            self.show("Removing the old environment", 0.0)
            record.drop()
        made = self._usable()
        self._check_space(build)
        self.check()
        if made is None:
            made = self._make()
        identity = record.identity(wheel)
        self._torch(made, build)
        self._server(made, wheel, identity)
        self._check(made)
        self.show("Ready", 1.0)
        self.say(f"Ready. It paints on: {made.device}")

    def _usable(self) -> record.Record | None:
        """The record of an environment that is there and runs, and need not be made again."""
        known = record.read()
        if known is None or "environment" not in known.done or (self._named and known.python != self._named):
            return None
        return known if self._ask_pip() else None

    def _ask_pip(self) -> bool:
        """Whether the environment's pip runs; notes whether it can tell how far its downloads are."""
        answer = ask([str(record.environment_python()), "-m", "pip", "--version"])
        match = re.match(r"pip (\d+)\.(\d+)", answer or "")
        self._tells_progress = bool(match) and (int(match[1]), int(match[2])) >= (24, 1)
        return match is not None

    def _check_space(self, build: builds.Build) -> None:
        """Raises NoSpace before anything is downloaded. What an earlier attempt has left counts as done."""
        there = sum(p.lstat().st_size for p in record.environment().rglob("*")) if record.environment().exists() else 0
        needed = max(build.disk + build.download - there / 1e9, 0.5)
        free = shutil.disk_usage(record.folder()).free / 1e9
        self.say(f"Needs about {needed:.1f} GB; {free:.1f} GB are free")
        if free < needed:
            raise NoSpace(needed=needed, free=free, folder=record.folder())

    def _make(self) -> record.Record:
        self.show("Looking for Python", 0.01)
        python = pythons.find(self._named, tell=self.say)
        self.say(f"Python {python.version}: {python.path}")
        self.show("Making the environment", 0.02)
        record.drop()
        self._run([python.path, "-m", "venv", str(record.environment())])
        with contextlib.suppress(SetupError):  # older ones do not say how far a download is, and that is all
            self._pip(PipProgress(2e6), "Making the environment", (0.03, 0.06), "--upgrade", "pip>=24.1")
        self._ask_pip()
        made = record.Record(python=self._named or python.path, python_version=python.version, done=["environment"])
        made.write()
        return made

    def _torch(self, made: record.Record, build: builds.Build) -> None:
        pins = (self._package / "constraints.txt").read_text(encoding="utf-8").splitlines()
        version = next((line for line in pins if line.startswith("torch==")), "torch")
        if "torch" in made.done and (made.build, made.torch) == (build.name, version):
            return
        made.done = [stage for stage in made.done if stage == "environment"]
        made.write()  # from here on it is not whole
        self._drop_half_installed()
        if made.build and made.build != build.name:  # pip takes one build of a version for as good as another
            self._run([str(record.environment_python()), "-m", "pip", "uninstall", "--yes", "torch"])
        made.torch, made.build, made.build_label, made.notes = version, build.name, build.label, []
        made.write()
        stage, constraints = "Installing PyTorch", ["-c", str(self._package / "constraints.txt")]
        progress = PipProgress(build.download * 1e9)
        extra: list[str] = []
        if build.index:
            # That index has PyTorch's dependencies too, but in few versions: so PyTorch first, and alone.
            index = ["--index-url", build.index, "--retries", "2", "--timeout", "20", "--no-deps"]
            try:
                self._pip(progress, stage, (0.06, 0.55), *index, *constraints, "torch")
                if build.own_dependencies:
                    extra = ["--extra-index-url", build.index, "--retries", "2", "--timeout", "20"]
                progress = PipProgress(build.download * 1e9)
            except SetupError as error:
                if not isinstance(error, NotOnline) and "No matching distribution" not in error.message:
                    raise
                self.say(f"{build.index} does not have it or cannot be reached: taking the default index's build.")
                if build.name != "cpu":
                    made.notes.append(f"PyTorch's {build.label} build could not be had: the default build was taken.")
        self._pip(progress, stage, (max(self.fraction, 0.06), 0.6), *extra, *constraints, "torch")
        made.done.append("torch")
        made.write()

    def _server(self, made: record.Record, wheel: Path, identity: str) -> None:
        if "server" in made.done and made.wheel == identity:
            return
        made.done = [one for one in made.done if one in ("environment", "torch")]
        made.write()  # from here on it is not whole
        self._drop_half_installed()
        stage, share = "Installing the server", (0.6, 0.92)
        if made.wheel:  # pip takes a wheel of the same version for the one that is there
            self._run([str(record.environment_python()), "-m", "pip", "uninstall", "--yes", "paintover"])
        made.wheel, made.version = identity, record.VERSION
        made.write()
        arguments = ["-c", str(self._package / "constraints.txt"), str(wheel)]
        self._pip(PipProgress(SERVER_DOWNLOAD), stage, share, *arguments)
        made.done.append("server")
        made.write()

    def _check(self, made: record.Record) -> None:
        self.show("Checking", 0.93)
        self._run([str(record.environment_python()), "-c", CHECK])
        found = json.loads(next(line for line in reversed(self._said) if line.startswith("{")))
        made.device = found["device"]
        if made.build in ("cuda12", "cuda13", "rocm") and made.device == "CPU":
            made.notes.append(f"PyTorch {found['torch']} finds no graphics card that it can use: it paints on the CPU.")
        made.done = list(record.STAGES)
        made.write()

    def _drop_half_installed(self) -> None:
        """Forget packages whose installation was cut short: pip would take them for whole. It writes INSTALLER last."""
        for folder in record.environment().glob("**/site-packages/*.dist-info"):
            if not (folder / "INSTALLER").exists():
                self.say(f"Unfinished: {folder.name}")
                delete(folder)

    # ------------------------------------------------------------ programs

    def _pip(self, progress: PipProgress, stage: str, share: tuple[float, float], *arguments: str) -> None:
        """Run pip install; its progress goes from share[0] to share[1] of the whole."""
        begin, end = share
        python = str(record.environment_python())
        command = [python, "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
        if self._tells_progress:
            command.append("--progress-bar=raw")

        def watch(line: str) -> bool:
            worth = progress.feed(line)
            doing = f"{stage}: {progress.doing}" if progress.doing else stage
            self.show(doing, begin + (end - begin) * progress.fraction)
            return worth

        self.show(stage, begin)
        self._run([*command, *arguments], watch)

    def _run(self, command: list[str], watch: Callable[[str], bool] = lambda line: True) -> None:
        """Run a program to its end; `watch` hears every line and says which to show. Raises Cancelled, or what the
        program's words mean."""
        temporary = record.folder() / "temporary"
        temporary.mkdir(exist_ok=True)
        self.say("> " + " ".join(command[:6]) + (" …" if len(command) > 6 else ""))
        # Unpacked where the environment is: a system's own temporary folder is often a small one in memory.
        environment = {**variables(), **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))}
        with self._lock:
            self.check()
            self._running = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                encoding="utf-8", errors="replace", **OWN_GROUP, **inherited(self._held),
            )  # fmt: skip
        process, self._said = self._running, []
        assert process.stdout is not None
        try:
            with process.stdout:
                for line in process.stdout:
                    if watch(line):
                        self._said.append(line.rstrip())
                        self.say(line)
            code = process.wait()
        except BaseException:  # nobody listens to it any more
            end_tree(process)
            raise
        finally:
            with self._lock:
                self._running = None
        self.check()
        if code:
            raise self._failure(code)

    def _failure(self, code: int) -> PaintoverError:
        said = "\n".join(self._said)
        if "No space left" in said or "Errno 28" in said:
            return no_room()
        if any(words in said for words in UNREACHABLE):
            return NotOnline()
        errors = [line for line in self._said if "error" in line.lower()] or self._said
        return SetupError(reason=(errors[-1] if errors else f"exit code {code}").rstrip("."))
