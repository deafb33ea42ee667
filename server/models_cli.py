"""`paintover models`: list, fetch, add, remove."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from paintover.bridge.errors import PaintoverError

from . import catalogue, extras, model_files, models

models_app = typer.Typer(no_args_is_help=True, help="Models on this machine.")
console = Console()


@models_app.command("list")
def show() -> None:
    """Show the installed models, and those that can be fetched."""
    table = Table("Installed", "Family", "ControlNets", "Description", box=None)
    for entry in models.installed():
        try:
            models.validate(entry)
            state = entry.description
        except PaintoverError as error:
            state = f"[red]{error.message}[/]"
        table.add_row(entry.name, entry.family, ", ".join(entry.controls) or "none", state)
    console.print(table)
    show_extras()
    names = {entry.name for entry in models.installed()}
    table = Table("To fetch", "Size", "Licence", "Description", box=None)
    for item in catalogue.CATALOGUE:
        if item.name not in names:
            table.add_row(item.name, f"{item.gigabytes:g} GB", item.licence, item.description)
    console.print()
    console.print(table)


def show_extras() -> None:
    """The installed LoRAs and motion adapters, if there are any."""
    motions = {name: Path(one.path) for name, one in models.load().extras["motion"].items()}
    for kind, found in (("lora", extras.loras()), ("motion", motions)):
        title = model_files.KINDS[kind]
        table = Table(title[0].upper() + title[1:], "Family", "File", box=None)
        for name, path in found.items():
            try:
                model_files.check_extra(path, kind)
                one = extras.lora(name) if kind == "lora" else extras.motion(name)
                table.add_row(name, one.family or "?", str(path))
            except PaintoverError as error:
                table.add_row(name, "", f"[red]{error.message}[/]")
        if found:
            console.print()
            console.print(table)


@models_app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="A name that “paintover models list” shows.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Download a model or ControlNet from the hub. An interrupted download goes on where it stopped."""
    plan = catalogue.plan(name)
    console.print(f"{plan.item.description}: {plan.size / 1e9:.2f} GB from {plan.item.hub}, {plan.item.licence}.")
    if not yes and not typer.confirm("Download it?", default=True):
        raise typer.Exit(1)
    columns = (TextColumn(name), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(name, total=plan.size)
        catalogue.fetch(name, lambda done, total: bar.update(task, completed=done, total=total))
    console.print(f"{name} is ready.")


@models_app.command()
def add(
    path: Annotated[Path, typer.Argument(help="A diffusers folder, a .safetensors file, or a folder of LoRAs.")],
    name: Annotated[str | None, typer.Option(help="What to call it; its file name by default.")] = None,
    family: Annotated[str | None, typer.Option(help="sd15 or sdxl; told from the file by default.")] = None,
    control: Annotated[str | None, typer.Option(help="For a ControlNet: depth, normal or edge.")] = None,
    lora: Annotated[bool, typer.Option("--lora", help="It is a LoRA, or a folder of LoRAs.")] = False,
    motion: Annotated[bool, typer.Option("--motion", help="It is a motion adapter (AnimateDiff).")] = False,
) -> None:
    """List a model, ControlNet, LoRA or motion adapter that lies on this machine already (it is not copied)."""
    kind = "lora" if lora else "motion" if motion else None
    console.print(f"Added {models.add(path, name, family, control, kind)}.")


@models_app.command()
def remove(
    name: Annotated[str, typer.Argument(help="A name, “sd15 depth” for a ControlNet, or a folder of LoRAs.")],
) -> None:
    """Take a model off the list. Its files stay."""
    models.remove(name)
    console.print(f"Removed {name} from the list; its files are still there.")
