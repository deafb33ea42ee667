"""The `paintover` command: serve, generate, models, doctor."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from paintover.bridge import VERSION
from paintover.bridge.client import Client
from paintover.bridge.errors import PaintoverError
from paintover.bridge.messages import Generate, ImageResult, Notice
from paintover.bridge.messages import Progress as ProgressMessage
from paintover.bridge.parameters import PARAMETERS, Settings
from paintover.bridge.paths import DEFAULT_HOST, DEFAULT_PORT, OTHER_FOLDER, data_folder, make_token

from .live.osc_addresses import HTTP_PORT, OSC_PORT, OSC_REPLY, ROOT
from .live.sinks import SINKS
from .models_cli import models_app

if TYPE_CHECKING:
    from .live.live import LiveOptions

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Paintover paints over 3D scenes: the server that Blender talks to, and its tools.",
)
app.add_typer(models_app, name="models")
console = Console(stderr=True)
FILES = 4096
"""Files and connections that a server may have open at a time."""

Host = Annotated[str, typer.Option(help="Address of the server.")]
Port = Annotated[int, typer.Option(help="Port of the server.", min=0, max=65535)]


@app.command()
def serve(
    host: Host = DEFAULT_HOST,
    port: Port = DEFAULT_PORT,
    standby: Annotated[
        bool,
        typer.Option(help="Keep a second painting process warm where memory allows, which steps in for the first."),
    ] = True,
    osc_port: Annotated[int, typer.Option(help="UDP port for OSC; 0: none.", min=0, max=65535)] = OSC_PORT,
    osc_reply: Annotated[
        int, typer.Option(help="UDP port where OSC programs hear the server; 0: where each names.", min=0, max=65535)
    ] = OSC_REPLY,
    osc_root: Annotated[str, typer.Option(help="What all OSC addresses begin with.")] = ROOT,
    osc_allow: Annotated[
        list[str] | None,
        typer.Option(metavar="CIDR", help="Network of other machines that OSC is taken from, like 192.168.1.0/24."),
    ] = None,
    osc_timetags: Annotated[bool, typer.Option(help="Apply OSC bundles at the time that they name.")] = False,
    http_port: Annotated[
        int, typer.Option(help="Port of the monitor page and OSCQuery; 0: none.", min=0, max=65535)
    ] = HTTP_PORT,
    sink: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help=f"Send frames out by: {', '.join(SINKS)}, none. [shared]")
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Take frames of another program from shared memory of this name."),
    ] = None,
    fallback: Annotated[
        Path | None, typer.Option(help="Picture that is sent out while none can be painted.", dir_okay=False)
    ] = None,
    zeroconf: Annotated[bool, typer.Option(help="Announce OSC and OSCQuery in the local network.")] = False,
    engine: Annotated[str, typer.Option(hidden=True)] = "diffusers",
    with_parent: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Run the server until Ctrl-C. Blender connects to it."""
    from .live.live import LiveOptions
    from .live.osc import networks as osc_networks

    root = osc_root.strip("/")
    live = LiveOptions(
        osc_port, osc_reply, f"/{root}" if root else "", osc_networks(osc_allow or ()), osc_timetags, http_port,
        tuple(dict.fromkeys(name for name in sink if name != "none")) if sink else None, tuple(source or ()),
        fallback, zeroconf,
    )  # fmt: skip
    _run(host, port, live, engine, standby, with_parent)


def _run(host: str, port: int, live: LiveOptions, engine: str, standby: bool, with_parent: bool) -> None:
    # --with-parent is for Blender, which holds the other end of standard input: when that closes, however Blender
    # ended, the server ends too, as soon as no client is connected and no job waits or runs.
    from filelock import FileLock, Timeout

    from paintover.bridge.errors import PortInUse, ServerStartFailed

    from .front import Front

    _log()
    _allow_files()
    data = data_folder()
    lock = FileLock(data / f"server-{port}.lock")
    try:
        data.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
        token = make_token()
    except Timeout as reason:
        raise PortInUse(
            f"Another Paintover server is already running on port {port}.",
            hint="Use that one, or choose another port with --port.",
        ) from reason
    except OSError as reason:
        raise ServerStartFailed(
            f"The server cannot write to its folder {data} ({reason.strerror or reason}).", hint=OTHER_FOLDER
        ) from reason
    front = Front(token=token, data=data, engine=engine, standby=standby, live=live)

    def started(actual: int) -> None:
        # The one line on standard output: whoever started this process reads the port from it.
        print(f"Paintover {VERSION} listens on {host}:{actual}", flush=True)

    try:
        unneeded = _without_parent(front) if with_parent else None
        asyncio.run(_until_told_to_stop(front.serve(host, port, started), unneeded))
    finally:
        lock.release()


def _allow_files() -> None:
    """Let this process have more files and connections open at a time, where it may: macOS starts with 256."""
    if sys.platform != "win32":
        import resource

        soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = FILES if most == resource.RLIM_INFINITY else min(FILES, most)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _log() -> None:
    """Log to standard error: for eyes at a terminal, else a record a line. Rich takes a millisecond of the front's time
    for each, and keeps up to a megabyte of what it has laid out."""
    if console.is_terminal:
        handler, form = RichHandler(console=console, show_path=False), "%(message)s"
        logging.basicConfig(level=logging.INFO, format=form, handlers=[handler])
    else:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")


async def _until_told_to_stop(work: Any, unneeded: Any = None) -> None:
    """Run `work` until a signal, or until `unneeded` is over."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        # Once: Stop Server closes our input and sends a signal, and a second cancel would cut the tidying up short.
        if not task.cancelling():
            task.cancel()

    watch = asyncio.ensure_future(unneeded) if unneeded else None
    if watch:
        watch.add_done_callback(lambda _: stop())
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stop)
        except NotImplementedError:  # Windows: Ctrl-C arrives as KeyboardInterrupt instead
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))
    try:
        await task
    except asyncio.CancelledError:
        logging.getLogger("paintover").info("Stopped.")


async def _without_parent(front: Any) -> None:
    """Wait for the end of standard input, and then until nobody needs the server."""
    gone, loop = asyncio.Event(), asyncio.get_running_loop()

    def watch() -> None:
        # Not through sys.stdin: its lock, held by this thread for ever, would stop the interpreter's own end.
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(gone.set)

    threading.Thread(target=watch, name="paintover-parent", daemon=True).start()
    await gone.wait()
    logging.getLogger("paintover").info("Blender is gone: this server ends when nobody uses it.")
    await front.unused()


def _generate(
    prompt: str,
    out: Path = Path("painting.png"),
    width: int = 0,
    height: int = 0,
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    **values: Any,
) -> None:
    """Paint one image from a prompt through a running server, and save it as a PNG."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    given = {name: value for name, value in values.items() if value is not None}
    with Client.connect(host, port, name="paintover generate") as client:
        model = client.welcome.capabilities.model(given.get("model", Settings().model))
        settings = Settings.from_mapping(
            {**(model.defaults if model else {}), "control_depth": False, **given, "prompt": prompt}
        )
        job = client.submit(Generate(settings, width or settings.size, height or settings.size))
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("Waiting", total=1.0)
            try:
                for message in client.follow(job):
                    if isinstance(message, ProgressMessage):
                        bar.update(task, description=message.stage, completed=message.fraction)
                    elif isinstance(message, Notice):
                        console.print(f"{message.failure.message} {message.failure.hint}")
                    elif isinstance(message, ImageResult):
                        info = PngInfo()
                        for parameter in PARAMETERS:
                            info.add_text(parameter.name, str(getattr(message.settings, parameter.name)))
                        out.parent.mkdir(parents=True, exist_ok=True)
                        Image.fromarray(message.image).save(out, pnginfo=info)
                        print(f"{out} (seed {message.settings.seed})")
            except KeyboardInterrupt:
                client.cancel(job)
                client.flush(timeout=2)
                raise


def _with_table_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command` a flag for every parameter of the table but the prompt, which is its argument."""
    own = [p for p in inspect.signature(command).parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    helps = {
        "out": "Where to save it.",
        "width": "Width in pixels; 0 takes --size.",
        "height": "Height in pixels; 0 takes --size.",
        "host": "Address of the server.",
        "port": "Port of the server.",
    }
    rows = [
        p.replace(annotation=Annotated[p.annotation, typer.Option(help=helps[p.name])])
        if p.name in helps
        else p.replace(annotation=Annotated[p.annotation, typer.Argument(help="What to paint.")])
        for p in own
    ]
    for parameter in PARAMETERS:
        if parameter.name == "prompt" or parameter.group in ("texture", "edge", "animate"):  # of scenes
            continue
        text = f"{parameter.description} [{parameter.default!r}]"
        annotation = Annotated[parameter.type | None, typer.Option(help=text)]  # type: ignore[name-defined]
        rows.append(
            inspect.Parameter(parameter.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        )

    def run(**values: Any) -> None:
        command(**values)

    run.__doc__ = command.__doc__
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [row.replace(kind=inspect.Parameter.KEYWORD_ONLY) for row in rows]
    )
    run.__annotations__ = {row.name: row.annotation for row in rows}
    return run


_generate.__annotations__ = {
    "prompt": str,
    "out": Path,
    "width": int,
    "height": int,
    "host": str,
    "port": int,
}
app.command("generate")(_with_table_flags(_generate))


@app.command()
def doctor(host: Host = DEFAULT_HOST, port: Port = DEFAULT_PORT) -> None:
    """Check this machine: Python, torch and its device, models, token, and whether a server answers."""
    from .doctor import examine

    if not examine(Console(), host, port):
        raise SystemExit(1)


def main() -> None:
    """Entry point: errors become plain words and a next step, never a traceback."""
    try:
        app()
    except PaintoverError as error:
        console.print(f"[bold red]{error.message}[/]", highlight=False)
        if error.hint:
            console.print(error.hint, highlight=False)
        sys.exit(1)


if __name__ == "__main__":
    main()
